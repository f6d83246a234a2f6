// The vocabulary of the core: what a row is before and while it is relayed. Values; any thread.
#pragma once

#include <array>
#include <bit>
#include <compare>
#include <cstdint>
#include <optional>
#include <string_view>

namespace outbox {

inline constexpr std::uint8_t lane_count = 64;  // fixed by the schema: lane = hash(key) & 63

// outbox.message.id. Within a key, id order is commit order where the writers of that key serialise.
struct RowId {
    std::int64_t value = 0;
    constexpr auto operator<=>(const RowId&) const =
        default;  // NOLINT(modernize-use-nullptr): clang-tidy 14 misreads it
};

inline constexpr RowId no_row{INT64_MAX};  // above every id

using EventId = std::array<std::uint8_t, 16>;  // the row's event_id: the identity consumers see

enum class TopicIndex : std::uint32_t {};  // position in the Topics table
enum class Slot : std::uint32_t {};        // position in the Window; travels through Kafka as the message's opaque

// A set of lanes, one bit each: the form in which the database filters by lane as well.
class LaneSet {
public:
    constexpr LaneSet() = default;
    constexpr explicit LaneSet(std::uint64_t bits) : bits_(bits) {}
    static constexpr LaneSet all() { return LaneSet(~std::uint64_t{0}); }
    static constexpr LaneSet only(std::uint8_t lane) { return LaneSet(std::uint64_t{1} << lane); }

    constexpr bool contains(std::uint8_t lane) const { return ((bits_ >> lane) & 1U) != 0; }
    constexpr bool empty() const { return bits_ == 0; }
    constexpr std::uint32_t size() const { return static_cast<std::uint32_t>(std::popcount(bits_)); }
    constexpr std::uint64_t bits() const { return bits_; }
    constexpr void add(std::uint8_t lane) { bits_ |= std::uint64_t{1} << lane; }
    constexpr void remove(std::uint8_t lane) { bits_ &= ~(std::uint64_t{1} << lane); }

    friend constexpr LaneSet operator|(LaneSet a, LaneSet b) { return LaneSet(a.bits_ | b.bits_); }
    friend constexpr LaneSet operator&(LaneSet a, LaneSet b) { return LaneSet(a.bits_ & b.bits_); }
    friend constexpr LaneSet operator-(LaneSet a, LaneSet b) { return LaneSet(a.bits_ & ~b.bits_); }
    constexpr bool operator==(const LaneSet&) const = default;

private:
    std::uint64_t bits_ = 0;
};

// What the core needs to know of a row that was read. Key, payload and headers stay with the adapters.
struct RowHead {
    RowId id;
    EventId event_id{};
    std::int64_t created_at_us = 0;  // database clock, microseconds since 2000-01-01 UTC, as Postgres counts
    std::uint64_t key_hash = 0;      // of topic and key; 0: no key
    std::uint64_t place = 0;         // where the database keeps it, in the adapter's terms; 0: unknown
    TopicIndex topic{};
    std::uint32_t bytes = 0;  // key + payload + headers, as they will be sent
    std::uint8_t lane = 0;
    bool payload_withheld = false;  // larger than the read allowed: only its size came along
};

// What the broker gets of a row. Views into the batch that was read; they live until the next batch is.
struct RowContent {
    std::string_view topic;
    std::optional<std::string_view> key;      // none: no key, the partitioner chooses
    std::optional<std::string_view> payload;  // none: a tombstone
    std::string_view headers;                 // a JSON object of strings
    EventId event_id{};
    std::int64_t created_at_us = 0;  // as in RowHead
};

}  // namespace outbox
