#include "support/relay_world.hpp"

#include <algorithm>
#include <cstring>
#include <memory>
#include <utility>

#include "core/overloaded.hpp"

namespace outbox {

namespace {

using namespace std::chrono_literals;

bool is_known(const std::vector<std::uint8_t>& known, RowId base, RowId id) {
    const std::int64_t bit = id.value - base.value;
    if (bit >= static_cast<std::int64_t>(known.size()) * 8) return false;
    return ((unsigned{known[static_cast<std::size_t>(bit / 8)]} >> static_cast<unsigned>(bit % 8)) & 1U) != 0;
}

}  // namespace

RelayWorld::RelayWorld(RelayWorldSettings settings)
    : relay(settings, settings.limits), settings_(std::move(settings)) {}

void RelayWorld::violation(const std::string& what, RowId id) {
    violations.push_back(what + " (row " + std::to_string(id.value) + ")");
}

// ---- writers ---------------------------------------------------------------------------------------------------

RelayWorld::Writer RelayWorld::begin() {
    writers_.emplace(next_writer_, false);
    return next_writer_++;
}

RowId RelayWorld::insert(Writer writer, const NewRow& row) {
    const RowId id{++last_id};
    Row one{id, {}, row, writer};
    const std::uint64_t event = next_event_++;
    std::memcpy(one.event_id.data(), &event, sizeof event);
    table.emplace(id.value, one);
    return id;
}

void RelayWorld::commit(Writer writer) {
    writers_.erase(writer);
    for (auto& [id, row] : table)
        if (row.writer == writer) {
            row.writer = 0;
            lost.insert(row.event_id);
        }
}

void RelayWorld::rollback(Writer writer) {
    writers_.erase(writer);
    std::erase_if(table, [&](const auto& one) { return one.second.writer == writer; });
}

void RelayWorld::prepare(Writer writer) {
    writers_[writer] = true;
}

RowId RelayWorld::insert(const NewRow& row) {
    const Writer writer = begin();
    const RowId id = insert(writer, row);
    commit(writer);
    return id;
}

void RelayWorld::insert_many(std::size_t count, const NewRow& row) {
    const Writer writer = begin();
    for (std::size_t i = 0; i < count; ++i) insert(writer, row);
    commit(writer);
}

// ---- the session -----------------------------------------------------------------------------------------------

void RelayWorld::open_session() {
    session_ = true;
    relay.on(SessionOpened{}, now);
    act();
}

void RelayWorld::lose_session() {
    session_ = false;
    relay.on(SessionLost{}, now);
    act();
    commands_.clear();
    answers_.clear();
    claimed_at_.reset();
    claimed_.clear();
}

bool RelayWorld::execute() {
    if (commands_.empty()) return false;
    const Command command = std::move(commands_.front());
    commands_.pop_front();
    answers_.push_back(run(command));
    return true;
}

bool RelayWorld::answer() {
    if (answers_.empty()) return false;
    Answer answer = std::move(answers_.front());
    answers_.pop_front();
    std::visit(Overloaded{[&](Left) { left = true; }, [](Noted) {},
                          [&](RowsRead& event) {
                              batch_ = answer.contents;
                              event.rows = answer.rows;
                              relay.on(event, now);
                          },
                          [&](ControlRead& event) {
                              const std::vector<std::string_view> topics(answer.paused_topics.begin(),
                                                                         answer.paused_topics.end());
                              event.paused_topics = topics;
                              relay.on(event, now);
                          },
                          [&](BlockedKeysRead& event) {
                              event.keys = answer.blocked;
                              relay.on(event, now);
                          },
                          [&](CrashesRead& event) {
                              event.attempts = attempts;
                              relay.on(event, now);
                          },
                          [&](ProbeAnswered& event) {
                              event.holders = answer.holders;
                              relay.on(event, now);
                          },
                          [&](auto& event) { relay.on(event, now); }},
               answer.event);
    act();
    return true;
}

void RelayWorld::answer_all() {
    while (execute() || answer()) {
    }
}

RelayWorld::Answer RelayWorld::run(const Command& command) {
    return std::visit(Overloaded{[&](const RenewLeases& renew) -> Answer {
                                     told_in_flight = renew.in_flight_rows;
                                     told_revision = renew.control_revision;
                                     LaneSet ours;
                                     for (std::uint8_t lane = 0; lane < lane_count; ++lane)
                                         if (owners[lane] == (renew.leases ? Owner::us : Owner::another))
                                             ours.add(lane);
                                     return {LeasesRenewed{command.sent_at, ours, living, rank}};
                                 },
                                 [&](const AcquireLanes&) { return run_acquire(command); },
                                 [&](const ReleaseLanes& release) -> Answer {
                                     for (std::uint8_t lane = 0; lane < lane_count; ++lane)
                                         if (release.lanes.contains(lane) && owners[lane] == Owner::us)
                                             owners[lane] = Owner::nobody;
                                     return {LanesReleased{release.lanes}};
                                 },
                                 [&](const LeaveFleet&) -> Answer { return {Left{}}; },
                                 [&](const ReadRows& read) { return run_read(command, read); },
                                 [&](const Probe&) -> Answer {
                                     Answer answer{ProbeAnswered{RowId{last_id}, {}}};
                                     for (const auto& [writer, prepared] : writers_)
                                         answer.holders.push_back({prepared ? writer + 1'000'000 : writer, prepared});
                                     return answer;
                                 },
                                 [&](const Publish&) -> Answer { return {Left{}}; },
                                 [&](const DeleteRows&) { return run_delete(command); },
                                 [&](const EndClaim&) -> Answer {
                                     claimed_.clear();
                                     return {Noted{}};
                                 },
                                 [&](const BuryRow& burial) { return run_burial(burial); },
                                 [&](const ReadControl&) { return run_control(); },
                                 [&](const ReadBlockedKeys&) { return run_blocked_keys(); },
                                 [&](const ReadCrashes&) -> Answer { return {CrashesRead{}}; },
                                 [&](const WithdrawNote&) -> Answer {
                                     noted.clear();
                                     return {Noted{}};
                                 },
                                 [&](const ForgetCrashes&) -> Answer {
                                     ++crashes_forgotten;
                                     attempts.clear();
                                     noted.clear();
                                     return {Noted{}};
                                 }},
                      command.action);
}

bool RelayWorld::refused() {
    if (refuse_deletes == 0) return false;
    --refuse_deletes;
    return true;
}

RelayWorld::Answer RelayWorld::run_burial(const BuryRow& burial) {
    if (refused()) return {BurialRefused{}};
    const auto found = table.find(burial.id.value);
    if (found == table.end() || (burial.event_id != EventId{} && found->second.event_id != burial.event_id))
        return {RowsBuried{}};
    const Row row = found->second;
    if (burial.block_key && row.row.key >= 0) {
        blocked_keys.emplace(std::pair(row.row.topic, row.row.key), row);
        return {RowsBuried{}};
    }
    buried.push_back(burial.id);
    lost.erase(row.event_id);
    table.erase(found);
    return {RowsBuried{}};
}

RelayWorld::Answer RelayWorld::run_control() {
    Answer answer{ControlRead{control_revision_, paused_, rate_, {}, blocked_digest()}};
    answer.paused_topics.assign(paused_topics_.begin(), paused_topics_.end());
    return answer;
}

RelayWorld::Answer RelayWorld::run_blocked_keys() {
    Answer answer{BlockedKeysRead{{}, blocked_digest()}};
    for (const auto& [key, row] : blocked_keys) answer.blocked.push_back({hash_of(row.row), row.id, row.lane()});
    return answer;
}

BlockedDigest RelayWorld::blocked_digest() const {
    BlockedDigest digest;
    for (const auto& [key, row] : blocked_keys) digest = {digest.keys + 1, digest.sum + row.id.value};
    return digest;
}

// A key below 0 stands for none.
std::uint64_t RelayWorld::hash_of(const NewRow& row) {
    return row.key < 0 ? 0 : std::hash<std::string>{}(row.topic + '/' + std::to_string(row.key)) | 1U;
}

// ---- operators -------------------------------------------------------------------------------------------------

void RelayWorld::pause(bool paused) {
    paused_ = paused;
    ++control_revision_;
}

void RelayWorld::pause_topic(const std::string& topic, bool paused) {
    if (paused)
        paused_topics_.insert(topic);
    else
        paused_topics_.erase(topic);
    ++control_revision_;
}

void RelayWorld::set_rate(std::optional<std::uint64_t> rows_per_second) {
    rate_ = rows_per_second;
    ++control_revision_;
}

void RelayWorld::unblock(int key) {
    std::erase_if(blocked_keys, [&](const auto& one) { return one.first.second == key; });
}

RelayWorld::Answer RelayWorld::run_acquire(const Command& command) {
    const std::uint32_t share = lane_count / living + (rank < lane_count % living ? 1 : 0);
    auto held = static_cast<std::uint32_t>(std::count(owners.begin(), owners.end(), Owner::us));
    LaneSet taken;
    for (std::uint8_t lane = 0; lane < lane_count && held < share; ++lane)
        if (owners[lane] == Owner::nobody) {
            owners[lane] = Owner::us;
            taken.add(lane);
            ++held;
        }
    given_back_ = given_back_ - taken;
    return {LanesAcquired{command.sent_at, taken}};
}

RelayWorld::Answer RelayWorld::run_read(const Command& command, const ReadRows& read) {
    Answer answer{RowsRead{}};
    if (read.noted) noted.clear();
    RowId& lowest = std::get<RowsRead>(answer.event).lowest;
    for (auto at = table.upper_bound(read.after.value); at != table.end() && answer.rows.size() < read.limit; ++at) {
        const Row& row = at->second;
        if (row.id > read.upto) break;
        if (row.writer != 0 || !read.lanes.contains(row.lane())) continue;
        if (read.topic && std::as_const(relay).topics()[*read.topic].name != row.row.topic) continue;
        const auto is_its_topic = [&](TopicIndex topic) {
            return std::as_const(relay).topics()[topic].name == row.row.topic;
        };
        if (std::any_of(command.without.begin(), command.without.end(), is_its_topic)) continue;
        const auto blocked = blocked_keys.find({row.row.topic, row.row.key});
        const auto& by = command.without_keys_of;
        if (blocked != blocked_keys.end() && std::find(by.begin(), by.end(), blocked->second.id) != by.end()) continue;
        if (read.claim) lowest = std::min(lowest, row.id);
        if (is_known(command.known, read.known_base, row.id) || (read.claim && locked.contains(row.id))) continue;
        if (read.claim) claimed_.insert(row.id);
        answer.rows.push_back({.id = row.id,
                               .event_id = row.event_id,
                               .key_hash = hash_of(row.row),
                               .topic = relay.topics().index_of(row.row.topic),
                               .bytes = row.row.bytes,
                               .lane = row.lane(),
                               .payload_withheld = row.row.bytes > read.payload_bytes_max});
        answer.contents.push_back(row);
        if (read.noted) noted.push_back(row.id);
    }
    return answer;
}

// A claim's end deletes what the claim holds; whatever else is deleted may be locked by another worker.
void RelayWorld::look_at_delete(const Command& command) {
    const auto& rows = std::get<DeleteRows>(command.action);
    if (!rows.ends_claim && (!rows.skip_locked || command.event_ids.empty()))
        violation("waits for the locks of others", command.ids.front());
    for (const RowId id : command.ids)
        if (rows.ends_claim && !claimed_.contains(id)) violation("deleted without its lock", id);
    if (rows.ends_claim) claimed_.clear();
}

RelayWorld::Answer RelayWorld::run_delete(const Command& command) {
    if (claims_rows()) look_at_delete(command);
    if (refused()) return {DeleteRefused{}};
    deleted.insert(deleted.end(), command.ids.begin(), command.ids.end());
    if (!command.event_ids.empty()) ++guarded_deletes;
    for (std::size_t i = 0; i < command.ids.size(); ++i) {
        const auto found = table.find(command.ids[i].value);
        if (found == table.end()) continue;
        if (!command.event_ids.empty() && found->second.event_id != command.event_ids[i]) continue;
        if (!acknowledged_.contains(found->second.event_id))
            violation("deleted before it was acknowledged", command.ids[i]);
        table.erase(found);
    }
    return {RowsDeleted{}};
}

// ---- the broker -----------------------------------------------------------------------------------------------------

void RelayWorld::open_producer() {
    producer_ = true;
    relay.on(ProducerOpened{}, now);
    act();
}

void RelayWorld::lose_producer() {
    producer_ = false;
    relay.on(ProducerLost{}, now);
    in_flight.insert(in_flight.begin(), stuck_rows_.begin(), stuck_rows_.end());
    stuck_rows_.clear();
    fail_all(FailureKind::fatal);
}

void RelayWorld::persist(const Row& row) {
    persisted.push_back(row.id);
    lost.erase(row.event_id);
    if (!seen_.insert(row.event_id).second || row.row.key < 0 || claims_rows()) return;
    RowId& last = last_of_key_[{row.row.topic, row.row.key}];
    if (row.id < last) violation("published out of order within its key", row.id);
    last = std::max(last, row.id);
}

std::size_t RelayWorld::deliver(std::size_t rows_max) {
    std::vector<Slot> slots;
    bool rejected = false;
    while (slots.size() < rows_max && !in_flight.empty() && now >= in_flight.front().sent_at + broker_latency) {
        if (poison.contains(in_flight.front().row.id)) {
            rejected = true;
            break;
        }
        persist(in_flight.front().row);
        acknowledged_.insert(in_flight.front().row.event_id);
        in_flight_events_.erase(in_flight.front().row.event_id);
        slots.push_back(in_flight.front().slot);
        in_flight.pop_front();
    }
    if (!slots.empty()) relay.on(Delivered{slots}, now);
    if (rejected) reject(in_flight.front().row);
    act();
    return slots.size() + (rejected ? 1 : 0);
}

// A batch is what is in flight of one topic and lane. Gapless: a part of it, and the producer gives up on the rest.
void RelayWorld::reject(const Row& culprit) {
    std::vector<std::size_t> batch;
    for (std::size_t i = 0; i < in_flight.size(); ++i)
        if (in_flight[i].row.row.topic == culprit.row.topic && in_flight[i].row.lane() == culprit.lane())
            batch.push_back(i);
    if (gapless) batch.resize((batch.size() + 1) / 2);
    fail(FailureKind::row, batch);
    if (!gapless) return;
    lose_producer();
    open_producer();
}

void RelayWorld::stick(const std::string& topic) {
    stuck_.insert(topic);
    const auto of_topic = [&](const Record& record) { return record.row.row.topic == topic; };
    std::copy_if(in_flight.begin(), in_flight.end(), std::back_inserter(stuck_rows_), of_topic);
    std::erase_if(in_flight, of_topic);
}

void RelayWorld::unstick(const std::string& topic) {
    stuck_.erase(topic);
    const auto of_topic = [&](const Record& record) { return record.row.row.topic == topic; };
    std::deque<Record> freed;
    std::copy_if(stuck_rows_.begin(), stuck_rows_.end(), std::back_inserter(freed), of_topic);
    std::erase_if(stuck_rows_, of_topic);
    in_flight.insert(in_flight.begin(), freed.begin(), freed.end());
}

void RelayWorld::fail(FailureKind kind, const std::vector<std::size_t>& places) {
    std::vector<FailedRow> rows;
    std::deque<Record> kept;
    for (std::size_t i = 0; i < in_flight.size(); ++i)
        if (std::find(places.begin(), places.end(), i) != places.end())
            rows.push_back({in_flight[i].slot, {kind, "TEST", "refused by the test"}, false});
        else
            kept.push_back(in_flight[i]);
    for (const Record& record : in_flight) in_flight_events_.erase(record.row.event_id);
    for (const Record& record : kept) in_flight_events_.insert(record.row.event_id);
    in_flight = std::move(kept);
    if (!rows.empty()) relay.on(Failed{rows}, now);
    act();
}

void RelayWorld::fail_all(FailureKind kind) {
    std::vector<std::size_t> all(in_flight.size());
    for (std::size_t i = 0; i < all.size(); ++i) all[i] = i;
    fail(kind, all);
}

void RelayWorld::fail_topic(FailureKind kind, const std::string& topic) {
    std::vector<std::size_t> places;
    for (std::size_t i = 0; i < in_flight.size(); ++i)
        if (in_flight[i].row.row.topic == topic) places.push_back(i);
    fail(kind, places);
}

void RelayWorld::publish(const Publish& action) {
    std::vector<FailedRow> refused;
    for (const Admission& admission : action.rows) {
        const Row row = batch_.at(admission.row);
        if (!producer_) {
            refused.push_back({admission.slot, {FailureKind::in_doubt, "TEST", "no producer"}, true});
            continue;
        }
        if (given_back_.contains(row.lane())) violation("published after its lane was given back", row.id);
        if (!in_flight_events_.insert(row.event_id).second) violation("published while it was in flight", row.id);
        // The row that blocks it may be tried again: another worker may have blocked the key, and it was not told yet.
        const auto blocked = blocked_keys.find({row.row.topic, row.row.key});
        if (blocked != blocked_keys.end() && blocked->second.id != row.id)
            violation("published although its key is blocked", row.id);
        published.push_back(row.id);
        (stuck_.contains(row.row.topic) ? stuck_rows_ : in_flight).push_back({admission.slot, row, now});
    }
    bytes_in_flight_max = std::max(bytes_in_flight_max, relay.window().bytes_in_flight());
    if (!refused.empty()) relay.on(Failed{refused}, now);
}

// ---- time ------------------------------------------------------------------------------------------------------

// What is said on the session belongs to the transaction that is open on it.
void RelayWorld::look_at_claim(const Action& action) {
    const auto* const rows = std::get_if<DeleteRows>(&action);
    const bool ends = std::holds_alternative<EndClaim>(action) || (rows != nullptr && rows->ends_claim);
    if (ends != claimed_at_.has_value()) return violation("said inside a claim, or a claim ended twice", RowId{});
    if (ends) held_longest = std::max(held_longest, now - *claimed_at_);
    if (ends) claimed_at_.reset();
    const auto* const read = std::get_if<ReadRows>(&action);
    if (read == nullptr || !read->claim) return;
    claimed_at_ = now;
    ++claims;
}

void RelayWorld::send(const Action& action) {
    actions.push_back(action);
    if (const auto* rows = std::get_if<Publish>(&action)) return publish(*rows);
    if (!session_) violation("a statement without a session", RowId{});
    if (claims_rows()) look_at_claim(action);
    Command command{action, now, {}, {}, {}, {}, {}};
    if (const auto* rows = std::get_if<DeleteRows>(&action)) {
        command.ids.assign(rows->ids.begin(), rows->ids.end());
        command.event_ids.assign(rows->event_ids.begin(), rows->event_ids.end());
    }
    if (const auto* read = std::get_if<ReadRows>(&action)) {
        reads.push_back(*read);
        command.known.assign(read->known.begin(), read->known.end());
        command.without.assign(read->without.begin(), read->without.end());
        command.without_keys_of.assign(read->without_keys_of.begin(), read->without_keys_of.end());
    }
    if (const auto* release = std::get_if<ReleaseLanes>(&action)) given_back_ = given_back_ | release->lanes;
    commands_.push_back(std::move(command));
}

void RelayWorld::act() {
    while (const auto action = relay.next(now)) send(*action);
    no_busy_loop();
}

// A few more turns at once are allowed, as one part's outcome is another's occasion; many without an action are not.
void RelayWorld::no_busy_loop() {
    for (int turns = 0; turns < 4; ++turns) {
        if (relay.wake_at(now) > now) return;
        if (const auto action = relay.next(now)) {
            send(*action);
            return act();
        }
    }
    if (relay.wake_at(now) <= now) violation("wants to run again at once, and has nothing to do", RowId{});
}

void RelayWorld::crash(std::size_t rows_persisted) {
    for (std::size_t i = 0; i < std::min(rows_persisted, in_flight.size()); ++i) persist(in_flight[i].row);
    in_flight.clear();
    stuck_rows_.clear();
    in_flight_events_.clear();
    commands_.clear();
    answers_.clear();
    session_ = producer_ = false;
    claimed_at_.reset();
    claimed_.clear();
    ++processes_;
    if (!noted.empty()) attempts.insert(attempts.begin(), {noted.front(), noted.back(), processes_});
    noted.clear();
    owners.fill(Owner::nobody);
    given_back_ = {};
    std::destroy_at(&relay);
    std::construct_at(&relay, settings_, settings_.limits);
}

void RelayWorld::start() {
    open_producer();
    open_session();
    answer_all();
}

void RelayWorld::prove(const std::string& topic) {
    insert({.topic = topic});
    run_for(1s);
    if (!drained_dry()) violation("an ordinary row was not relayed", RowId{last_id});
}

RelayWorld::Writer RelayWorld::hold_low() {
    const Writer writer = begin();
    insert(writer, {.key = 63, .topic = "held"});
    return writer;
}

std::string RelayWorld::problems() const {
    std::string all;
    for (std::size_t i = 0; i < std::min<std::size_t>(violations.size(), 5); ++i) all += violations[i] + "; ";
    return all;
}

bool RelayWorld::step() {
    bool moved = false;
    while (execute()) moved = true;
    while (answer()) moved = true;
    if (broker_up && deliver(SIZE_MAX) > 0) moved = true;
    return moved;
}

void RelayWorld::run_for(Duration duration) {
    const Instant end = now + duration;
    while (now < end) {
        act();
        if (step()) {
            now += 100us;
            continue;
        }
        ++wake_ups;
        Instant next = relay.wake_at(now);
        if (broker_up && !in_flight.empty()) next = std::min(next, in_flight.front().sent_at + broker_latency);
        now = std::min(std::max(next, now + 100us), end);
    }
    act();
}

}  // namespace outbox
