// The rows of the Postgres model's tables, and what it remembers of every event for those who check invariants.
// Plain values; one thread.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/messages.hpp"
#include "core/row.hpp"

namespace outbox::sim {

using SessionId = std::uint32_t;
using WriterId = std::uint64_t;  // 0: none, the row is committed
using ReaderId = std::uint64_t;

// A topic's place among the names the model knows. Not the relay's TopicIndex.
enum class TopicName : std::uint32_t {};

struct NewRow {
    TopicName topic{};
    std::int32_t key = 0;  // below 0: none. Its text is "k7", its lane lane_of(7)
    std::uint32_t payload_bytes = 100;
    bool long_key = false;  // above 2000 bytes: fits no index
};

struct MessageRow {
    RowId id;
    std::uint64_t event = 0;  // place in history(); event_id is made of it
    WriterId writer = 0;      // whose transaction has not ended; 0: committed
    std::int64_t created_at_us = 0;
    TopicName topic{};
    std::int32_t key = 0;
    std::uint32_t payload_bytes = 0;
    std::uint8_t lane = 0;
    bool long_key = false;
    std::uint64_t place = 1;                // where it lies: another number after a rewrite of the table
    std::optional<SessionId> claimed_by{};  // whose open claim has locked it
};

inline constexpr std::int64_t long_ago_us = INT64_MIN;  // '-infinity'

struct LaneRow {
    std::optional<EventId> owner;
    std::int64_t epoch = 0;
    std::int64_t expires_at_us = long_ago_us;
};

// Who connects: one row of outbox.relay.
struct WorkerName {
    EventId id{};
    std::int32_t host = 0;
    std::int32_t pid = 0;
    Duration lease_ttl = std::chrono::seconds(3);
};

struct WorkerRow {
    EventId id{};
    std::int32_t host = 0;
    std::int32_t pid = 0;
    std::int64_t started_at_us = 0;
    std::int64_t seen_at_us = 0;
    std::int64_t lease_ttl_us = 0;
    std::uint32_t in_flight_rows = 0;
    std::int64_t control_revision = 0;
    std::optional<RowId> attempting_from;
    std::optional<RowId> attempting_upto;
};

struct ControlRow {
    bool paused = false;
    std::optional<std::uint64_t> max_rows_per_second;
    std::int64_t revision = 0;
};

struct BlockedKeyRow {
    RowId row;
    std::uint64_t event = 0;
    std::uint8_t lane = 0;
};

struct DeadLetter {
    MessageRow row;
    std::string code;
};

struct Fleet {
    std::array<LaneRow, lane_count> lanes{};
    std::vector<WorkerRow> workers;  // by id
};

struct Operators {
    std::map<std::string, ControlRow, std::less<>> control;
    std::int64_t revisions = 0;                                                 // drawn
    std::map<std::pair<std::string, std::string>, BlockedKeyRow> blocked_keys;  // by topic and text of the key
};

// What became of one event. Times are true time, which no clock jump moves.
struct EventHistory {
    enum class State : std::uint8_t { open, rolled_back, committed, deleted, buried, lost_by_failover };
    State state = State::open;
    RowId row;
    TopicName topic{};
    std::int32_t key = 0;
    std::uint8_t lane = 0;
    bool long_key = false;
    std::uint64_t commit = 0;  // place among the commits, from 1; 0: not yet
    Instant committed_at{};
    Instant gone_at{};                 // deleted, buried or lost
    std::optional<SessionId> gone_by;  // the session that deleted or buried it
    bool returned = false;             // its deletion was lost by a failover, and it came back
};

struct OwnerChange {
    std::uint8_t lane = 0;
    std::int64_t epoch = 0;
    std::optional<EventId> owner;  // none: released
    Instant at{};
};

}  // namespace outbox::sim
