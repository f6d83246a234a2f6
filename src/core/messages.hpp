// The whole contract between the relay core and the world: events go in, actions come out.
// All of them are batch-grained; a span in an event lives for the call, a span in an action until the next call of
// on() or next(). One thread: the worker's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <variant>

#include "core/failure.hpp"
#include "core/row.hpp"
#include "core/time.hpp"

namespace outbox {

// ---- events ----------------------------------------------------------------------------------------------------

// The rows a worker was at, by its last note, when its process ended abruptly.
struct Attempt {
    RowId from;
    RowId upto;
    std::int64_t process = 0;  // tells processes apart
};

struct CrashesRead {
    std::span<const Attempt> attempts;  // not long ago, the latest first
};

struct SessionOpened {};  // Postgres is connected, the schema fits, statements are prepared
struct SessionLost {};    // whatever was under way on the session has an unknown result
struct ProducerOpened {};
struct ProducerLost {};  // nothing may be published; every row in flight will still be reported, as Failed

struct ClusterUnreachable {};  // no broker answers; the producer goes on trying
struct ClusterReachable {};
struct ClusterThrottled {};   // the brokers hold the producer's requests back: a quota
struct ClusterFailed {        // an error that is about no row and no topic
    std::string_view reason;  // static storage
};

struct TopicLimitsAsked {  // of the brokers, who will answer soon: rows of the topic wait for that
    TopicIndex topic{};
};

struct TopicLimitsRead {  // what they take of it
    TopicIndex topic{};
    bool known = false;  // false: they did not say, and what they said before counts on
    std::uint32_t batch_bytes_max = UINT32_MAX;
    bool keys_required = false;
};

struct LeasesRenewed {
    Instant asked_at;          // before the statement was sent: the time-to-live may have started as early as this
    LaneSet lanes;             // every lane that is ours in the table; where we lease none: that anybody holds
    std::uint32_t living = 1;  // workers alive, this one included
    std::uint32_t rank = 0;    // how many of them sort before this one
};

struct LanesAcquired {
    Instant asked_at;
    LaneSet lanes;
};

struct LanesReleased {
    LaneSet lanes;
};

struct RowsRead {
    std::span<const RowHead> rows;  // in id order
    RowId lowest = no_row;          // of a claim: the first row that is there, locked or not; no_row: none
};

// A transaction that holds RowExclusiveLock on outbox.message and may therefore have drawn an id it has not committed.
struct Holder {
    std::uint64_t transaction = 0;  // virtual transaction id, or transaction id when prepared
    bool prepared = false;
    constexpr bool operator==(const Holder&) const = default;
};

struct ProbeAnswered {
    RowId high;                       // last id drawn, read before the holders were
    std::span<const Holder> holders;  // our own session left out
};

struct Delivered {
    std::span<const Slot> slots;  // acknowledged by the broker as persisted
};

struct FailedRow {
    Slot slot{};
    Failure failure;
    bool refused_locally = false;  // never left this process, so no other row can be to blame
};

struct Failed {
    std::span<const FailedRow> rows;
};

struct RowsDeleted {};    // the oldest DeleteRows under way has committed
struct RowsMissed {};     // it has, but not all rows were where they lay: gone, or moved by an UPDATE
struct DeleteRefused {};  // it has not, and may be tried again on this session: a deadlock, a time-out
struct RowsBuried {};     // the oldest BuryRow under way has committed
struct BurialRefused {};

// Tells whether two lists of blocked keys are the same.
struct BlockedDigest {
    std::int64_t keys = 0;
    std::int64_t sum = 0;
    bool operator==(const BlockedDigest&) const = default;
};

struct ControlRead {
    std::int64_t revision = 0;  // goes up with every change
    bool paused = false;        // everything
    std::optional<std::uint64_t> max_rows_per_second{};
    std::span<const std::string_view> paused_topics{};
    BlockedDigest blocked{};
};

struct KeyBlock {
    std::uint64_t key_hash = 0;  // of topic and key, as in RowHead
    RowId row;                   // the one that blocks it
    std::uint8_t lane = 0;
};

struct BlockedKeysRead {
    std::span<const KeyBlock> keys;
    BlockedDigest digest;
};

// ---- actions ---------------------------------------------------------------------------------------------------

struct RenewLeases {
    std::uint32_t in_flight_rows = 0;   // the whole window, for those who wait until it is empty
    std::int64_t control_revision = 0;  // obeyed by now
    bool leases = true;                 // false: this worker leases no lanes, and asks whether anybody does
};
struct AcquireLanes {};
struct ReleaseLanes {
    LaneSet lanes;
};
struct LeaveFleet {};  // remove this worker's row, so that others take their new share at once

struct ReadRows {
    RowId after;  // id > after
    RowId upto;   // id <= upto
    LaneSet lanes;
    std::optional<TopicIndex> topic;  // only this topic
    std::uint32_t limit = 0;
    std::uint32_t payload_bytes_max = 0;  // a larger payload is withheld
    RowId known_base;                     // bit i of `known`: the row known_base + i is in the window, skip it
    std::span<const std::uint8_t> known;  // empty: nothing to skip
    std::span<const TopicIndex> without;  // leave out the rows of these topics
    // And of the keys that these rows block, as far as their lines say so still. Of no other: a key that somebody else
    // blocks, and releases before we know, would lose what was left out of it to the rows behind.
    std::span<const RowId> without_keys_of;
    bool noted = false;  // write down which ids came, in the same transaction
    bool claim = false;  // begin a transaction, lock the rows in it, leave out what others have locked
};

struct Probe {};
struct ReadControl {};
struct ReadBlockedKeys {};
struct ReadCrashes {};
struct WithdrawNote {};   // of the rows that came with the last noted read
struct ForgetCrashes {};  // they are understood, or over

struct Admission {
    std::uint32_t row = 0;  // index into the RowsRead being answered
    Slot slot{};
    TopicIndex topic{};
    std::uint8_t lane = 0;
};

// Hand these rows of the RowsRead just given to the producer, in this order. The rows are gone afterwards.
struct Publish {
    std::span<const Admission> rows;
    bool more_follow = false;  // the read was full: the next one brings others, which these may travel with
};

struct DeleteRows {
    std::span<const RowId> ids;
    std::span<const EventId> event_ids;  // matched as well when not empty: ids may have been re-issued since the read
    std::span<const std::uint64_t> places = {};  // where the rows lay when they were read: found without the index
    bool skip_locked = false;                    // leave rows that others have claimed to them
    bool ends_claim = false;                     // and commit: the transaction that the last claim began
};

struct EndClaim {};  // commit it: there is nothing to delete

// Move one row to the dead letters, in the same transaction that deletes it; or, by policy, leave it and block its key.
struct BuryRow {
    RowId id;
    EventId event_id{};  // all zero: whatever event has this id
    std::string_view code;
    std::string_view text;
    bool block_key = false;
};

using Action = std::variant<RenewLeases, AcquireLanes, ReleaseLanes, LeaveFleet, ReadRows, Probe, Publish, DeleteRows,
                            EndClaim, BuryRow, ReadControl, ReadBlockedKeys, ReadCrashes, WithdrawNote, ForgetCrashes>;

}  // namespace outbox
