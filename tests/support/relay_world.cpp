#include "support/relay_world.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

namespace outbox {

namespace {

using namespace std::chrono_literals;

template <class... Visitors>
struct Overloaded : Visitors... {
    using Visitors::operator()...;
};
template <class... Visitors>
Overloaded(Visitors...) -> Overloaded<Visitors...>;

bool is_known(const std::vector<std::uint8_t>& known, RowId base, RowId id) {
    const std::int64_t bit = id.value - base.value;
    if (bit >= static_cast<std::int64_t>(known.size()) * 8) return false;
    return ((unsigned{known[static_cast<std::size_t>(bit / 8)]} >> static_cast<unsigned>(bit % 8)) & 1U) != 0;
}

}  // namespace

RelayWorld::RelayWorld(RelayWorldSettings settings)
    : relay(settings.relay, settings.topics, settings.pacing, settings.limits) {}

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
    std::visit(Overloaded{[&](Left) { left = true; },
                          [&](RowsRead& event) {
                              batch_ = answer.contents;
                              event.rows = answer.rows;
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
    return std::visit(Overloaded{[&](const RenewLeases&) -> Answer {
                                     LaneSet ours;
                                     for (std::uint8_t lane = 0; lane < lane_count; ++lane)
                                         if (owners[lane] == Owner::us) ours.add(lane);
                                     return {LeasesRenewed{command.sent_at, ours, living, rank}, {}, {}, {}};
                                 },
                                 [&](const AcquireLanes&) { return run_acquire(command); },
                                 [&](const ReleaseLanes& release) -> Answer {
                                     for (std::uint8_t lane = 0; lane < lane_count; ++lane)
                                         if (release.lanes.contains(lane) && owners[lane] == Owner::us)
                                             owners[lane] = Owner::nobody;
                                     return {LanesReleased{release.lanes}, {}, {}, {}};
                                 },
                                 [&](const LeaveFleet&) -> Answer {
                                     return {Left{}, {}, {}, {}};
                                 },
                                 [&](const ReadRows& read) { return run_read(command, read); },
                                 [&](const Probe&) -> Answer {
                                     Answer answer{ProbeAnswered{RowId{last_id}, {}}, {}, {}, {}};
                                     for (const auto& [writer, prepared] : writers_)
                                         answer.holders.push_back({prepared ? writer + 1'000'000 : writer, prepared});
                                     return answer;
                                 },
                                 [&](const Publish&) -> Answer {
                                     return {Left{}, {}, {}, {}};
                                 },
                                 [&](const DeleteRows&) { return run_delete(command); },
                                 [&](const BuryRow& burial) -> Answer {
                                     const auto found = table.find(burial.id.value);
                                     if (found != table.end() && found->second.event_id == burial.event_id) {
                                         buried.push_back(burial.id);
                                         lost.erase(burial.event_id);
                                         table.erase(found);
                                     }
                                     return {RowsBuried{}, {}, {}, {}};
                                 }},
                      command.action);
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
    return {LanesAcquired{command.sent_at, taken}, {}, {}, {}};
}

RelayWorld::Answer RelayWorld::run_read(const Command& command, const ReadRows& read) {
    Answer answer{RowsRead{}, {}, {}, {}};
    for (auto at = table.upper_bound(read.after.value); at != table.end() && answer.rows.size() < read.limit; ++at) {
        const Row& row = at->second;
        if (row.id > read.upto) break;
        if (row.writer != 0 || !read.lanes.contains(row.lane())) continue;
        if (read.topic && std::as_const(relay).topics()[*read.topic].name != row.row.topic) continue;
        if (is_known(command.known, read.known_base, row.id)) continue;
        answer.rows.push_back({.id = row.id,
                               .event_id = row.event_id,
                               .topic = relay.topics().index_of(row.row.topic),
                               .bytes = row.row.bytes,
                               .lane = row.lane(),
                               .payload_withheld = row.row.bytes > read.payload_bytes_max});
        answer.contents.push_back(row);
    }
    return answer;
}

RelayWorld::Answer RelayWorld::run_delete(const Command& command) {
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
    return {RowsDeleted{}, {}, {}, {}};
}

// ---- the broker ------------------------------------------------------------------------------------------------

void RelayWorld::open_producer() {
    producer_ = true;
    relay.on(ProducerOpened{}, now);
    act();
}

void RelayWorld::lose_producer() {
    producer_ = false;
    relay.on(ProducerLost{}, now);
    fail_all(FailureKind::fatal);
}

void RelayWorld::persist(const Row& row) {
    persisted.push_back(row.id);
    lost.erase(row.event_id);
    if (!seen_.insert(row.event_id).second) return;
    RowId& last = last_of_key_[{row.row.topic, row.row.key}];
    if (row.id < last) violation("published out of order within its key", row.id);
    last = std::max(last, row.id);
}

std::size_t RelayWorld::deliver(std::size_t rows_max) {
    std::vector<Slot> slots;
    for (; slots.size() < rows_max && !in_flight.empty(); in_flight.pop_front()) {
        persist(in_flight.front().row);
        acknowledged_.insert(in_flight.front().row.event_id);
        slots.push_back(in_flight.front().slot);
    }
    if (!slots.empty()) relay.on(Delivered{slots}, now);
    act();
    return slots.size();
}

void RelayWorld::fail(FailureKind kind, const std::vector<std::size_t>& places) {
    std::vector<FailedRow> rows;
    std::deque<Record> kept;
    for (std::size_t i = 0; i < in_flight.size(); ++i)
        if (std::find(places.begin(), places.end(), i) != places.end())
            rows.push_back({in_flight[i].slot, {kind, "TEST", "refused by the test"}, false});
        else
            kept.push_back(in_flight[i]);
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
        for (const Record& other : in_flight)
            if (other.row.event_id == row.event_id) violation("published while it was in flight", row.id);
        published.push_back(row.id);
        in_flight.push_back({admission.slot, row});
    }
    bytes_in_flight_max = std::max(bytes_in_flight_max, relay.window().bytes_in_flight());
    if (!refused.empty()) relay.on(Failed{refused}, now);
}

// ---- time ------------------------------------------------------------------------------------------------------

void RelayWorld::send(const Action& action) {
    actions.push_back(action);
    if (const auto* rows = std::get_if<Publish>(&action)) return publish(*rows);
    if (!session_) violation("a statement without a session", RowId{});
    Command command{action, now, {}, {}, {}};
    if (const auto* rows = std::get_if<DeleteRows>(&action)) {
        command.ids.assign(rows->ids.begin(), rows->ids.end());
        command.event_ids.assign(rows->event_ids.begin(), rows->event_ids.end());
    }
    if (const auto* read = std::get_if<ReadRows>(&action)) {
        reads.push_back(*read);
        command.known.assign(read->known.begin(), read->known.end());
    }
    if (const auto* release = std::get_if<ReleaseLanes>(&action)) given_back_ = given_back_ | release->lanes;
    commands_.push_back(std::move(command));
}

void RelayWorld::act() {
    while (const auto action = relay.next(now)) send(*action);
    no_busy_loop();
}

// One more turn at once is allowed, one without an outcome that asks for yet another is not.
void RelayWorld::no_busy_loop() {
    if (relay.wake_at(now) > now) return;
    const auto action = relay.next(now);
    if (!action) {
        if (relay.wake_at(now) <= now) violation("wants to run again at once, and has nothing to do", RowId{});
        return;
    }
    send(*action);
    act();
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
        now = std::clamp(relay.wake_at(now), now + 100us, end);
    }
    act();
}

}  // namespace outbox
