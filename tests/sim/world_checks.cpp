// What World looks at while it turns, and what it expects of the end.
#include <algorithm>

#include "sim/world.hpp"

namespace outbox::sim {

namespace {

using namespace std::chrono_literals;

constexpr Duration rest_within = 45s;  // of the calm; shorter than the sweep, which would hide a row that was missed
constexpr Duration session_back_within = 6s;  // the longest pause between two attempts, and a little
constexpr Duration quiet_for = 3s;
constexpr std::uint64_t quiet_turns_per_second = 400;  // of a worker that polls every few milliseconds at most

}  // namespace

void World::after_statement() {
    look_at_owners();
    look_at_burials();
}

// A lane that changes hands while its last owner still holds rows of it: both may send those.
void World::look_at_owners() {
    const auto& changes = postgres_.owner_changes();
    const std::size_t first = owner_changes_seen_;
    for (; owner_changes_seen_ < changes.size(); ++owner_changes_seen_) {
        const OwnerChange& change = changes[owner_changes_seen_];
        for (Worker* const worker : living()) {
            if (worker->name().id == change.owner || worker->held_of(change.lane) == 0) continue;
            if (!change.owner && worker->name().id == owners_[change.lane] &&
                schedule_.now() >= surroundings_.leases_unsure_until)
                ledger_.violation("lane " + std::to_string(change.lane) + " was released with rows under way");
            worker->excuse(LaneSet::only(change.lane));
        }
        owners_[change.lane] = change.owner;
        if (!change.owner) released_at_[change.lane] = schedule_.now();
    }
    if (trace_ != nullptr && first < owner_changes_seen_) trace_owners(first);
}

// After a failover the table may name owners of before, who know nothing of what others have under way.
void World::look_at_owners_taken_back() {
    look_at_owners();
    LaneSet changed;
    for (std::uint8_t lane = 0; lane < lane_count; ++lane) {
        if (postgres_.fleet().lanes[lane].owner != owners_[lane]) changed.add(lane);
        owners_[lane] = postgres_.fleet().lanes[lane].owner;
    }
    for (Worker* const worker : living()) worker->excuse(changed);
}

// A claim that ends with a row that was sent already, and is still there: another may claim it and send it as well.
void World::let_go(std::uint64_t event) {
    const auto workers = living();
    const auto holds = [&](const Worker* one) { return one->holds(event); };
    if (ledger_.is_persisted(event) || std::any_of(workers.begin(), workers.end(), holds))
        ledger_.may_come_again(event);
}

void World::trace_owners(std::size_t first) {
    const auto& changes = postgres_.owner_changes();
    std::string lanes;
    for (std::size_t i = first; i < owner_changes_seen_; ++i) lanes += " " + std::to_string(changes[i].lane);
    std::string owner = "nobody";
    for (const Worker* const worker : living())
        if (worker->name().id == changes[first].owner) owner = "worker " + std::to_string(worker->name().pid);
    trace("lanes of " + owner + " now:" + lanes);
}

void World::look_at_burials() {
    const auto& dead = postgres_.dead_letters();
    burials_seen_ = std::min(burials_seen_, dead.size());
    for (; burials_seen_ < dead.size(); ++burials_seen_) {
        ++buried_;
        ledger_.buried(dead[burials_seen_].row.event, dead[burials_seen_].code);
        trace("row " + std::to_string(dead[burials_seen_].row.id.value) + " is buried: " + dead[burials_seen_].code);
    }
    const auto& blocked = postgres_.operators().blocked_keys;
    if (blocked.size() == blocked_seen_) return;
    for (const auto& [key, row] : blocked) ledger_.buried(row.event, "blocked");
    if (blocked.size() > blocked_seen_) blocked_ += blocked.size() - blocked_seen_;
    blocked_seen_ = blocked.size();
}

// Only what waits for an operator may still be in the table.
bool World::may_wait(const MessageRow& row) const {
    if (row.writer != 0 || row.key < 0) return false;
    return postgres_.operators().blocked_keys.contains({postgres_.name_of(row.topic), PostgresModel::key_text(row)});
}

bool World::at_rest() const {
    const auto& rows = postgres_.messages();
    if (!std::all_of(rows.begin(), rows.end(), [this](const MessageRow& row) { return may_wait(row); })) return false;
    for (const Worker* const worker : living())
        if (worker->relay().window().rows() > 0) return false;
    return true;
}

void World::run_until(Instant end) {
    while (ledger_.violations().empty() && schedule_.step(end)) {
    }
    for (const std::string& violation : postgres_.violations()) ledger_.violation(violation);
}

void World::expect_rest() {
    const Instant calm = schedule_.now();
    const Instant end = calm + rest_within + clock_behind_;
    run_until(calm + 2 * scenario_.options.relay.lease_ttl + session_back_within + clock_behind_);
    if (!lanes_are_owned()) ledger_.violation("not every lane is owned two leases after the calm");
    // Workers who joined shortly before one died count as newcomers for three leases: then the shares are settled.
    if (processes_.size() > scenario_.replicas)
        run_until(calm + 5 * scenario_.options.relay.lease_ttl + session_back_within);
    while (ledger_.violations().empty() && schedule_.now() < end && !(at_rest() && shares_are_even()))
        run_until(std::min(schedule_.now() + 100ms, end));
    if (!ledger_.violations().empty()) return;
    if (!at_rest()) ledger_.violation("no rest within 45 s of calm: " + what_waits());
    if (!shares_are_even()) ledger_.violation("the lanes are not shared evenly within 45 s of calm");
}

// By a living worker, or on its way from one to another. Whoever claims rows owns none.
bool World::lanes_are_owned() const {
    if (claims_rows()) return true;
    const std::vector<Worker*> workers = living();
    for (std::uint8_t lane = 0; lane < lane_count; ++lane) {
        const auto& owner = postgres_.fleet().lanes[lane].owner;
        const bool alive =
            std::any_of(workers.begin(), workers.end(), [&](const Worker* one) { return one->name().id == owner; });
        const bool handed_over = !owner && schedule_.now() < released_at_[lane] + scenario_.options.relay.lease_ttl;
        if (!alive && !handed_over) return false;
    }
    return true;
}

// Every lane is owned by a living worker, and none owns two more than another.
bool World::shares_are_even() const {
    if (claims_rows()) return true;
    std::map<EventId, std::size_t> shares;
    for (const Worker* const worker : living()) shares[worker->name().id] = 0;
    for (const LaneRow& lane : postgres_.fleet().lanes) {
        if (!lane.owner || !shares.contains(*lane.owner)) return false;
        ++shares[*lane.owner];
    }
    const auto by_share = [](const auto& a, const auto& b) { return a.second < b.second; };
    const auto [least, most] = std::minmax_element(shares.begin(), shares.end(), by_share);
    return most->second - least->second <= 1;
}

// Nothing moves any more, and nobody turns for nothing.
void World::expect_quiet() {
    if (!ledger_.violations().empty()) return;
    const std::size_t moves = owner_changes_seen_;
    std::map<const Worker*, std::uint64_t> turns;
    for (const Worker* const worker : living()) turns[worker] = worker->turns();
    const std::uint64_t examined = postgres_.rows_examined();
    const std::uint64_t dead = postgres_.dead_rows();
    run_until(schedule_.now() + quiet_for);
    // A sweep each, and the polls of the second until an idle worker looks up; but none walks what is dead for ever.
    if (postgres_.messages().empty() && postgres_.rows_examined() - examined > 25 * (dead + 1) * living().size())
        ledger_.violation("reads walk dead rows: " + std::to_string(postgres_.rows_examined() - examined) + " of " +
                          std::to_string(dead));
    if (owner_changes_seen_ != moves) ledger_.violation("lanes moved although the fleet was stable");
    for (const Worker* const worker : living())
        if (worker->turns() - turns[worker] > quiet_turns_per_second * 3)
            ledger_.violation("a worker with nothing to do does not rest");
    ledger_.look_for_losses();
}

std::string World::what_waits() const {
    std::string text;
    for (const MessageRow& row : postgres_.messages()) {
        if (may_wait(row)) continue;
        text += "row " + std::to_string(row.id.value) + " (lane " + std::to_string(row.lane) + ") ";
        if (text.size() > 200) return text + "...";
    }
    for (const Worker* const worker : living())
        text += "; window of " + std::to_string(worker->relay().window().rows());
    return text;
}

Coverage World::coverage() const {
    Coverage all;
    all.seeds = 1;
    all.claiming = claims_rows() ? 1 : 0;
    all.virtual_seconds = static_cast<std::uint64_t>(
        std::chrono::duration_cast<std::chrono::seconds>(schedule_.now().time_since_epoch()).count() - 1000);
    all.steps = schedule_.steps();
    for (const auto& process : processes_)
        for (const auto& worker : process->workers) all.turns += worker->turns();
    for (const EventHistory& event : postgres_.history()) {
        all.committed += event.commit > 0 ? 1 : 0;
        all.rolled_back += event.state == EventHistory::State::rolled_back ? 1 : 0;
        all.lost_by_failover += event.state == EventHistory::State::lost_by_failover ? 1 : 0;
    }
    all.delivered = ledger_.first_deliveries();
    all.duplicates = ledger_.duplicates();
    all.overtaken = ledger_.overtaken();
    all.unexcused = ledger_.excuses() == 0 ? 1 : 0;
    all.buried = buried_;
    all.requeued = requeued_;
    all.blocked = blocked_;
    all.lane_moves = postgres_.owner_changes().size();
    all.processes = processes_.size();
    all.producers = surroundings_.producers;
    all.sessions = postgres_.sessions();
    all.faults = struck_;
    return all;
}

}  // namespace outbox::sim
