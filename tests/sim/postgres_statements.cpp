// What each statement of src/postgres/statements.hpp does.
#include <algorithm>
#include <utility>

#include "sim/postgres_model.hpp"

namespace outbox::sim {

namespace {

using namespace std::chrono_literals;

constexpr std::int64_t us(Duration duration) {
    return std::chrono::duration_cast<std::chrono::microseconds>(duration).count();
}

// get_bit() over what the bitmap covers; an id below its base is an error in Postgres.
enum class Bit : std::uint8_t { clear, set, error };
Bit known_bit(const std::vector<std::uint8_t>& known, RowId base, RowId id) {
    const std::int64_t bit = id.value - base.value;
    if (bit >= static_cast<std::int64_t>(known.size()) * 8) return Bit::clear;
    if (bit < 0) return Bit::error;
    const unsigned byte = known[static_cast<std::size_t>(bit / 8)];
    return (byte >> static_cast<unsigned>(bit % 8) & 1U) != 0 ? Bit::set : Bit::clear;
}

}  // namespace

// ---- leases ----------------------------------------------------------------------------------------------------

WorkerRow* PostgresModel::worker_row(const EventId& id) {
    const auto found = std::find_if(fleet_.workers.begin(), fleet_.workers.end(),
                                    [&](const WorkerRow& worker) { return worker.id == id; });
    return found == fleet_.workers.end() ? nullptr : &*found;
}

// By the time-to-live of the one that asks, whatever those of the others are. While one is remembered that died young,
// and the asker's own row may be such a one, those that have lived for less than three leases do not count.
std::pair<std::uint32_t, std::uint32_t> PostgresModel::living_and_rank(const WorkerName& worker) const {
    const std::int64_t now = clock_us();
    const std::int64_t ttl = us(worker.lease_ttl);
    const bool deaths = std::any_of(fleet_.workers.begin(), fleet_.workers.end(), [&](const WorkerRow& dead) {
        return dead.seen_at_us - dead.started_at_us < us(1min) && dead.seen_at_us < now - ttl / 2 &&
               dead.seen_at_us > now - us(1min);
    });
    std::uint32_t living = 1;
    std::uint32_t rank = 0;
    for (const WorkerRow& other : fleet_.workers) {
        if (other.id == worker.id || other.seen_at_us <= now - ttl) continue;
        if (deaths && other.seen_at_us - other.started_at_us < 3 * ttl) continue;
        ++living;
        if (other.id < worker.id) ++rank;
    }
    return {living, rank};
}

PostgresModel::Answer PostgresModel::renew(const WorkerName& worker, const RenewLeases& action, Instant sent_at) {
    log_fleet();
    const std::int64_t now = clock_us();
    const auto [living, rank] = living_and_rank(worker);
    const std::int64_t remembered = std::max(us(20 * worker.lease_ttl), us(1h));
    std::erase_if(fleet_.workers,
                  [&](const WorkerRow& other) { return other.id != worker.id && other.seen_at_us < now - remembered; });
    WorkerRow* row = worker_row(worker.id);
    if (row == nullptr) {
        fleet_.workers.push_back({.id = worker.id,
                                  .host = worker.host,
                                  .pid = worker.pid,
                                  .started_at_us = now,
                                  .lease_ttl_us = us(worker.lease_ttl),
                                  .attempting_from = {},
                                  .attempting_upto = {}});
        row = &fleet_.workers.back();
    }
    row->seen_at_us = now;
    row->in_flight_rows = action.in_flight_rows;
    row->control_revision = action.control_revision;
    LaneSet lanes;  // ours; of a worker that leases nothing: anybody's
    for (std::uint8_t lane = 0; lane < lane_count; ++lane) {
        LaneRow& lease = fleet_.lanes[lane];
        if (action.leases ? lease.owner != worker.id : !lease.owner || lease.expires_at_us <= now) continue;
        if (action.leases) lease.expires_at_us = now + us(worker.lease_ttl);
        lanes.add(lane);
    }
    mend_times_ahead(worker);
    Answer answer;
    answer.event = LeasesRenewed{sent_at, lanes, living, rank};
    answer.database_now_us = now;
    return answer;
}

// What others left behind while the clock was ahead.
void PostgresModel::mend_times_ahead(const WorkerName& worker) {
    const std::int64_t now = clock_us();
    const std::int64_t own_ttl = us(worker.lease_ttl);
    for (std::uint8_t lane = 0; lane < lane_count; ++lane) {
        LaneRow& row = fleet_.lanes[lane];
        if (!row.owner || row.owner == worker.id || locked_lanes_.contains(lane)) continue;
        const WorkerRow* const owner = worker_row(*row.owner);
        const std::int64_t ttl = owner == nullptr ? own_ttl : std::max(own_ttl, owner->lease_ttl_us);
        if (row.expires_at_us > now + 2 * ttl) row.expires_at_us = now + ttl;
    }
    for (WorkerRow& other : fleet_.workers)
        if (other.id != worker.id && other.seen_at_us > now + own_ttl) other.seen_at_us = now;
}

PostgresModel::Answer PostgresModel::acquire(const WorkerName& worker, Instant sent_at) {
    const std::int64_t now = clock_us();
    const auto [living, rank] = living_and_rank(worker);
    std::int64_t room = lane_count / living + (rank < lane_count % living ? 1 : 0);
    for (const LaneRow& lane : fleet_.lanes)
        if (lane.owner == worker.id) --room;
    log_fleet();
    LaneSet taken;
    for (std::uint8_t lane = 0; lane < lane_count && room > 0; ++lane) {
        LaneRow& row = fleet_.lanes[lane];
        if (row.expires_at_us > now || row.owner == worker.id || locked_lanes_.contains(lane)) continue;
        row = {worker.id, row.epoch + 1, now + us(worker.lease_ttl)};
        owner_changed(lane);
        taken.add(lane);
        --room;
    }
    Answer answer;
    answer.event = LanesAcquired{sent_at, taken};
    return answer;
}

void PostgresModel::release(const WorkerName& worker, LaneSet lanes) {
    log_fleet();
    for (std::uint8_t lane = 0; lane < lane_count; ++lane) {
        LaneRow& row = fleet_.lanes[lane];
        if (!lanes.contains(lane) || row.owner != worker.id) continue;
        row.owner.reset();
        row.expires_at_us = long_ago_us;
        owner_changed(lane);
    }
}

void PostgresModel::leave(const WorkerName& worker) {
    log_fleet();
    std::erase_if(fleet_.workers, [&](const WorkerRow& row) { return row.id == worker.id; });
}

void PostgresModel::owner_changed(std::uint8_t lane) {
    owner_changes_.push_back({lane, fleet_.lanes[lane].epoch, fleet_.lanes[lane].owner, true_now_});
}

// ---- reading ---------------------------------------------------------------------------------------------------

bool PostgresModel::is_blocked(const MessageRow& row, const std::vector<RowId>& by) const {
    if (row.key < 0 || by.empty()) return false;
    const auto found = operators_.blocked_keys.find({name_of(row.topic), key_text(row)});
    return found != operators_.blocked_keys.end() && std::find(by.begin(), by.end(), found->second.row) != by.end();
}

// A noted read is not a read of one topic, and that one does not skip: they are statements of their own.
bool PostgresModel::wanted(const MessageRow& row, const Command& command, const ReadRows& action) {
    if (row.writer != 0 || !action.lanes.contains(row.lane)) return false;
    if (action.noted) return true;
    if (command.topic) return row.topic == *command.topic;
    if (command.known.empty() && command.without.empty() && command.without_keys_of.empty()) return true;
    const Bit known = known_bit(command.known, action.known_base, row.id);
    if (known == Bit::error) {
        violation("a read names known rows from above the first one it asks for");
        failed_ = true;
    }
    return known == Bit::clear &&
           std::find(command.without.begin(), command.without.end(), row.topic) == command.without.end() &&
           !is_blocked(row, command.without_keys_of);
}

PostgresModel::Answer PostgresModel::read(const WorkerName& worker, const Command& command, const ReadRows& action) {
    Answer answer;
    answer.event = RowsRead{};
    answer.payload_bytes_max_ = std::min(action.payload_bytes_max, std::uint32_t{INT32_MAX});
    RowId stopped_at = action.upto;
    auto at = std::upper_bound(messages_.begin(), messages_.end(), action.after,
                               [](RowId after, const MessageRow& row) { return after < row.id; });
    for (; at != messages_.end() && at->id <= action.upto && answer.rows.size() < action.limit; ++at) {
        ++answer.examined;
        if (!wanted(*at, command, action)) continue;
        answer.rows.push_back(*at);
        stopped_at = at->id;
    }
    if (answer.rows.size() < action.limit) stopped_at = action.upto;
    answer.examined += dead_between(action.after, stopped_at);
    rows_examined_ += answer.examined;
    if (!action.noted) return answer;
    if (answer.rows.empty())
        note(worker, {}, {});
    else
        note(worker, answer.rows.front().id, answer.rows.back().id);
    return answer;
}

// ---- claiming --------------------------------------------------------------------------------------------------

bool PostgresModel::claimable(const MessageRow& row, const Command& command, const ReadRows& action) const {
    return row.writer == 0 && row.id > action.after && row.id <= action.upto &&
           std::find(command.without.begin(), command.without.end(), row.topic) == command.without.end() &&
           (!command.topic || row.topic == *command.topic) && !is_blocked(row, command.without_keys_of);
}

PostgresModel::Answer PostgresModel::lowest_claimable(const Command& command, const ReadRows& action) const {
    const auto found = std::find_if(messages_.begin(), messages_.end(),
                                    [&](const MessageRow& row) { return claimable(row, command, action); });
    Answer answer;
    answer.event = RowsRead{.rows = {}, .lowest = found == messages_.end() ? no_row : found->id};
    return answer;
}

PostgresModel::Answer PostgresModel::claim(SessionId session, Command& command, const ReadRows& action) {
    Answer answer = *std::move(command.first_half);
    answer.payload_bytes_max_ = std::min(action.payload_bytes_max, std::uint32_t{INT32_MAX});
    RowId stopped_at = action.upto;
    for (MessageRow& row : messages_) {
        if (answer.rows.size() == action.limit) break;
        if (!claimable(row, command, action)) continue;
        ++answer.examined;
        const Bit known = known_bit(command.known, action.known_base, row.id);
        if (known == Bit::error) {
            violation("a claim names known rows from above the first one it asks for");
            failed_ = true;
        }
        if (known != Bit::clear || row.claimed_by) continue;
        row.claimed_by = session;
        answer.rows.push_back(row);
        stopped_at = row.id;
    }
    if (answer.rows.size() < action.limit) stopped_at = action.upto;
    answer.examined += dead_between(action.after, stopped_at);
    rows_examined_ += answer.examined;
    return answer;
}

void PostgresModel::end_claim(SessionId session) {
    if (claims_.erase(session) == 0) return;
    for (MessageRow& row : messages_) {
        if (row.claimed_by != session) continue;
        row.claimed_by.reset();
        unlocked(row.event);
    }
}

std::uint64_t PostgresModel::dead_between(RowId after, RowId upto) const {
    const auto above = [](RowId id, const Dead& dead) { return id.value < dead.id; };
    const auto from = std::upper_bound(dead_.begin(), dead_.end(), after, above);
    return static_cast<std::uint64_t>(std::upper_bound(from, dead_.end(), std::max(after, upto), above) - from);
}

PostgresModel::Answer PostgresModel::probe_holders(Answer answer) const {
    for (const auto& [id, writer] : writers_) {
        if (writer.holder == 0) continue;
        answer.holders.push_back({writer.renamed ? writer.transaction : writer.holder, writer.renamed});
    }
    return answer;
}

// ---- deleting and burying --------------------------------------------------------------------------------------

// All zeros stand for whatever event has this id.
MessageRow* PostgresModel::committed(RowId id, const EventId& event) {
    const auto found = position(id);
    if (found == messages_.end() || found->id != id || found->writer != 0) return nullptr;
    return event == EventId{} || event == event_id(found->event) ? &*found : nullptr;
}

void PostgresModel::lock_messages(bool locked) {
    messages_locked_ = locked;
    for (MessageRow& row : messages_) ++row.place;
}

PostgresModel::Answer PostgresModel::remove(SessionId session, const Command& command) {
    constexpr WriterId doomed = UINT64_MAX;
    Undo& undo = log(Undo::Kind::statement);
    const bool guarded = !command.event_ids.empty();
    const bool ends_claim = std::get<DeleteRows>(command.action).ends_claim;
    for (std::size_t i = 0; i < command.ids.size(); ++i) {
        if (guarded && i >= command.event_ids.size()) break;
        MessageRow* const row = committed(command.ids[i], EventId{});
        if (row == nullptr || (guarded && event_id(row->event) != command.event_ids[i])) continue;
        if (row->claimed_by && row->claimed_by != session) continue;  // skip_locked, or it would have waited
        if (ends_claim && row->claimed_by != session) violation("a claim deletes a row that it has not locked");
        if (!command.places.empty() && row->place != command.places[i]) continue;
        undo.removed.push_back(*row);
        undo.removed.back().claimed_by.reset();
        gone(*row, EventHistory::State::deleted, session);
        row->writer = doomed;
    }
    if (!undo.removed.empty()) std::erase_if(messages_, [](const MessageRow& row) { return row.writer == doomed; });
    Answer answer;
    answer.event = RowsDeleted{};
    if (!command.places.empty() && undo.removed.size() < command.ids.size()) answer.event = RowsMissed{};
    answer.deleted = undo.removed.size();
    if (ends_claim) end_claim(session);
    return answer;
}

void PostgresModel::bury(SessionId session, const BuryRow& action, const std::string& code) {
    const MessageRow* const found = committed(action.id, action.event_id);
    if (found == nullptr) return;
    const MessageRow row = *found;
    if (action.block_key && row.key >= 0 && !row.long_key) {
        log_operators();
        operators_.blocked_keys.emplace(std::pair(name_of(row.topic), key_text(row)),
                                        BlockedKeyRow{row.id, row.event, row.lane});
        return;
    }
    log(Undo::Kind::statement).removed.push_back(row);
    dead_letters_.push_back({row, code});
    gone(row, EventHistory::State::buried, session);
    messages_.erase(position(row.id));
}

// ---- operators' wishes -----------------------------------------------------------------------------------------

BlockedDigest PostgresModel::blocked_digest() const {
    BlockedDigest digest;
    for (const auto& [key, blocked] : operators_.blocked_keys)
        digest = {digest.keys + 1, digest.sum + blocked.row.value % 1'000'000'007};
    return digest;
}

PostgresModel::Answer PostgresModel::control() const {
    ControlRead control;
    for (const auto& [topic, row] : operators_.control) control.revision = std::max(control.revision, row.revision);
    if (const auto all = operators_.control.find("*"); all != operators_.control.end()) {
        control.paused = all->second.paused;
        control.max_rows_per_second = all->second.max_rows_per_second;
    }
    control.blocked = blocked_digest();
    Answer answer;
    answer.event = control;
    for (const auto& [topic, row] : operators_.control)
        if (row.paused && topic != "*") answer.names.push_back(topic);
    return answer;
}

PostgresModel::Answer PostgresModel::blocked_keys() const {
    Answer answer;
    answer.event = BlockedKeysRead{{}, blocked_digest()};
    for (const auto& [name, blocked] : operators_.blocked_keys)
        answer.blocked_text_.push_back({name.first, name.second, blocked.row, blocked.lane});
    return answer;
}

// ---- crash notes -----------------------------------------------------------------------------------------------

PostgresModel::Answer PostgresModel::crashes(const WorkerName& worker) const {
    const std::int64_t now = clock_us();
    std::vector<const WorkerRow*> dead;
    for (const WorkerRow& row : fleet_.workers)
        if (row.id != worker.id && row.seen_at_us < now - row.lease_ttl_us &&
            row.seen_at_us - row.started_at_us < us(1min) && row.attempting_upto && row.started_at_us > now - us(15min))
            dead.push_back(&row);
    std::vector<std::pair<std::string, std::int32_t>> processes;
    const auto process = [](const WorkerRow& row) { return std::pair(std::to_string(row.host), row.pid); };
    for (const WorkerRow* row : dead) processes.push_back(process(*row));
    std::sort(processes.begin(), processes.end());
    processes.erase(std::unique(processes.begin(), processes.end()), processes.end());
    std::stable_sort(dead.begin(), dead.end(),
                     [](const WorkerRow* a, const WorkerRow* b) { return a->seen_at_us > b->seen_at_us; });
    Answer answer;
    answer.event = CrashesRead{};
    for (const WorkerRow* row : dead) {
        const auto place = std::lower_bound(processes.begin(), processes.end(), process(*row));
        answer.attempts.push_back({*row->attempting_from, *row->attempting_upto, place - processes.begin() + 1});
    }
    return answer;
}

void PostgresModel::note(const WorkerName& worker, std::optional<RowId> from, std::optional<RowId> upto) {
    if (worker_row(worker.id) == nullptr) return;
    log_fleet();
    WorkerRow& row = *worker_row(worker.id);
    row.attempting_from = from;
    row.attempting_upto = upto;
}

void PostgresModel::forget_crashes(const WorkerName& worker) {
    log_fleet();
    std::erase_if(fleet_.workers, [&](const WorkerRow& row) {
        return row.id != worker.id && row.seen_at_us < clock_us() - row.lease_ttl_us;
    });
    note(worker, {}, {});
}

}  // namespace outbox::sim
