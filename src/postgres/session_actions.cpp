// Session's sending half: each action of the relay as statements with their parameters.
#include <libpq-fe.h>

#include <algorithm>
#include <chrono>

#include "postgres/session.hpp"
#include "postgres/wire.hpp"

namespace outbox {

namespace {

constexpr std::uint64_t bitmap_bytes_max = std::uint64_t{128} * 1024;

}  // namespace

void Session::send(const RenewLeases& action, Instant now) {
    name_worker(0);
    wire::append_integer(parameter(1), std::chrono::duration_cast<std::chrono::milliseconds>(lease_ttl_).count());
    parameter(2) = identity_.host;
    wire::append_integer(parameter(3), identity_.pid);
    parameter(4) = identity_.version;
    wire::append_integer(parameter(5), static_cast<std::int32_t>(action.in_flight_rows));
    wire::append_integer(parameter(6), action.control_revision);
    const Statement statement = action.leases ? Statement::renew : Statement::attend;
    execute(statement, 7);
    sync({.operation = Operation::renew, .sent_at = now, .statement = statement});
}

void Session::send(const AcquireLanes&, Instant now) {
    name_worker(0);
    wire::append_integer(parameter(1), std::chrono::duration_cast<std::chrono::milliseconds>(lease_ttl_).count());
    execute(Statement::acquire, 2);
    sync({.operation = Operation::acquire, .sent_at = now, .statement = Statement::acquire});
}

void Session::send(const ReleaseLanes& action, Instant now) {
    name_worker(0);
    wire::append_integer(parameter(1), action.lanes.bits());
    execute(Statement::release, 2);
    sync({.operation = Operation::release, .sent_at = now, .lanes = action.lanes, .statement = Statement::release});
}

void Session::send(const LeaveFleet&, Instant now) {
    name_worker(0);
    execute(Statement::leave, 1);
    sync({.operation = Operation::leave, .sent_at = now, .statement = Statement::leave});
}

void Session::send(const ReadRows& action, const Topics& topics, Instant now) {
    if (action.claim) return send_claim(action, topics, now);
    Statement statement = Statement::read;
    wire::append_integer(parameter(0), action.after.value);
    wire::append_integer(parameter(1), action.upto.value);
    wire::append_integer(parameter(2), action.lanes.bits());
    wire::append_integer(parameter(3), std::int64_t{action.limit});
    wire::append_integer(parameter(4),
                         static_cast<std::int32_t>(std::min(action.payload_bytes_max, std::uint32_t{INT32_MAX})));
    std::size_t parameters = 5;
    if (action.noted) {
        statement = Statement::read_noted;
        name_worker(parameters++);
    } else if (action.topic) {
        statement = Statement::read_topic;
        parameter(parameters++) = topics[*action.topic].name;
    } else if (!action.known.empty() || !action.without.empty() || !action.without_keys_of.empty()) {
        statement = Statement::read_skipping;
        wire::append_integer(parameter(parameters++), action.known_base.value);
        parameter(parameters++).assign(action.known.begin(), action.known.end());
        name_topics(parameters++, action.without, topics);
        wire::append_array(parameter(parameters++), action.without_keys_of);
    }
    execute(statement, parameters);
    sync({.operation = Operation::read, .sent_at = now, .statement = statement, .expected = action.limit});
}

void Session::send_claim(const ReadRows& action, const Topics& topics, Instant now) {
    execute(Statement::begin, 0);
    wire::append_integer(parameter(0), action.after.value);
    wire::append_integer(parameter(1), action.upto.value);
    name_topics(2, action.without, topics);
    parameter(3) = action.topic ? topics[*action.topic].name : std::string();
    wire::append_array(parameter(4), action.without_keys_of);
    execute(Statement::lowest, 5);
    // What is asked for is the same: the first four parameters stay as they are.
    wire::append_integer(parameter(4),
                         static_cast<std::int32_t>(std::min(action.payload_bytes_max, std::uint32_t{INT32_MAX})));
    wire::append_array(parameter(5), action.without_keys_of);
    wire::append_integer(parameter(6), action.known_base.value);
    parameter(7).assign(action.known.begin(), action.known.end());
    wire::append_integer(parameter(8), std::int64_t{action.limit});
    execute(Statement::claim, 9);
    sync({.operation = Operation::read, .sent_at = now, .statement = Statement::claim, .expected = action.limit});
}

void Session::name_topics(std::size_t index, std::span<const TopicIndex> named, const Topics& topics) {
    std::string& names = parameter(index);
    wire::append_array_header(names, wire::text_oid, named.size());
    for (const TopicIndex topic : named) wire::append_text(names, topics[topic].name);
}

// Two statements, and their order matters: the last id drawn first, then who may still hold one back.
void Session::send(const Probe&, Instant now) {
    execute(Statement::probe_high, 0);
    execute(Statement::probe_holders, 0);
    sync({.operation = Operation::probe, .sent_at = now, .statement = Statement::probe_high});
}

void Session::send(const DeleteRows& action, Instant now) {
    UnderWay deletion{.operation = Operation::remove, .sent_at = now, .commits = action.ends_claim};
    if (!action.event_ids.empty()) {
        wire::append_array(parameter(0), action.ids);
        wire::append_array(parameter(1), action.event_ids);
        deletion.statement = action.skip_locked ? Statement::delete_unlocked : Statement::delete_events;
        execute(deletion.statement, 2);
    } else if (const auto ids = append_bitmap(parameter(0), action); ids) {
        wire::append_integer(parameter(1), ids->lowest.value);
        wire::append_integer(parameter(2), ids->highest.value);
        deletion.expected = action.ids.size();
        const auto [first, last] = std::minmax_element(action.places.begin(), action.places.end());
        if (walks_pages_ && side_by_side(action.ids.size(), *ids, *first, *last)) {
            wire::append_place(parameter(3), *first);
            wire::append_place(parameter(4), *last);
            deletion.statement = Statement::delete_stretch;
            execute(deletion.statement, 5);
        } else {
            wire::append_places(parameter(3), action.places);
            deletion.statement = Statement::delete_places;
            execute(deletion.statement, 4);
        }
    } else {
        wire::append_array(parameter(0), action.ids);
        deletion.statement = Statement::delete_ids;
        execute(deletion.statement, 1);
    }
    sync(deletion);
    if (action.ends_claim) commit();
}

// Whether a walk over all pages from the first place to the last meets little else than these rows: other lanes' rows,
// or pages that were free when the next rows were inserted.
bool Session::side_by_side(std::size_t rows, const IdRange& ids, std::uint64_t first, std::uint64_t last) {
    const auto ids_apart = static_cast<std::uint64_t>(ids.highest.value - ids.lowest.value);
    const std::uint64_t pages = wire::page(last) - wire::page(first) + 1;
    return ids_apart < 2 * rows && pages * 4 <= rows;
}

// The ids as a bitmap, one bit each from the lowest to the highest: what lies at a place has to be one of them.
// None where the places are not known, or the ids too far apart for a bitmap.
std::optional<Session::IdRange> Session::append_bitmap(std::string& bits, const DeleteRows& action) {
    if (action.places.empty() || std::count(action.places.begin(), action.places.end(), std::uint64_t{0}) > 0)
        return std::nullopt;
    const auto [lowest, highest] = std::minmax_element(action.ids.begin(), action.ids.end());
    const auto bytes = static_cast<std::uint64_t>(highest->value - lowest->value) / 8 + 1;
    if (bytes > bitmap_bytes_max) return std::nullopt;
    bits.assign(bytes, '\0');
    for (const RowId id : action.ids) {
        const auto bit = static_cast<std::uint64_t>(id.value - lowest->value);
        // get_bit() of Postgres counts bits within a byte from the least significant one.
        bits[bit / 8] = static_cast<char>(static_cast<unsigned char>(bits[bit / 8]) | (1U << (bit % 8)));
    }
    return IdRange{*lowest, *highest};
}

void Session::send(const EndClaim&, Instant now) {
    commit();
    under_way_.push_back({.operation = Operation::end_claim, .sent_at = now, .statement = Statement::commit});
}

// Behind a sync: a delete that was refused must not take the commit with it, which then rolls back, and is over.
void Session::commit() {
    execute(Statement::commit, 0);
    if (PQpipelineSync(connection_.get()) != 1) throw connect_failure(connection_.get());
    flush();
}

void Session::send(const BuryRow& action, Instant now) {
    wire::append_integer(parameter(0), action.id.value);
    parameter(1).assign(action.event_id.begin(), action.event_id.end());
    parameter(2) = action.code;
    parameter(3) = action.text;
    const Statement statement = action.block_key ? Statement::block : Statement::bury;
    execute(statement, 4);
    sync({.operation = Operation::bury, .sent_at = now, .statement = statement});
}

void Session::send(const ReadControl&, Instant now) {
    execute(Statement::control, 0);
    sync({.operation = Operation::control, .sent_at = now, .statement = Statement::control});
}

void Session::send(const ReadBlockedKeys&, Instant now) {
    execute(Statement::blocked_keys, 0);
    sync({.operation = Operation::blocked_keys, .sent_at = now, .statement = Statement::blocked_keys});
}

void Session::send(const ReadCrashes&, Instant now) {
    name_worker(0);
    execute(Statement::crashes, 1);
    sync({.operation = Operation::crashes, .sent_at = now, .statement = Statement::crashes});
}

void Session::send(const WithdrawNote&, Instant now) {
    send_note(Statement::withdraw_note, now);
}

void Session::send(const ForgetCrashes&, Instant now) {
    send_note(Statement::forget_crashes, now);
}

void Session::send_note(Statement statement, Instant now) {
    name_worker(0);
    execute(statement, 1);
    sync({.operation = Operation::notes, .sent_at = now, .statement = statement});
}

}  // namespace outbox
