// The rows between "read" and "deleted", bounded in rows and in bytes. Everything the relay remembers per row is here.
//
//   admit ─► in flight ─ acknowledge ─► acknowledged ─ take_deletes ─► deleting ─ deleted ─► (gone)
//              │  └─ release ─► (gone, to be read again)
//              └─ condemn ─► condemned ─ take_burial ─► burying ─ buried ─► (gone)
//
// Bytes count only while a row is in flight: after the acknowledgement the producer has freed them.
// Owned by Relay; the worker's thread. Allocates at construction only.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/free_slots.hpp"
#include "core/id_map.hpp"
#include "core/messages.hpp"
#include "core/row.hpp"
#include "core/time.hpp"

namespace outbox {

// How many deletes may be under way at once: one that executes, one behind it, and those that have been answered while
// a read was under way that may still see their rows, which is told only after that read (core/delete_gate.hpp).
inline constexpr std::size_t deletes_under_way_max = 8;

class Window {
public:
    struct Entry {
        RowId id;
        EventId event_id{};
        std::uint64_t place = 0;
        std::int64_t created_at_us = 0;
        Instant admitted_at;
        TopicIndex topic{};
        std::uint64_t key_hash = 0;
        std::uint32_t bytes = 0;
        std::uint8_t lane = 0;
        bool solo = false;  // sent with nothing else of its topic in flight: a rejection is about this row
    };

    Window(std::uint32_t rows_max, std::uint64_t bytes_max);

    // An oversize row fits when nothing else is in flight: it must be able to pass some day.
    bool fits(std::uint32_t bytes) const { return rows() < rows_max_ && (bytes_ == 0 || bytes_ + bytes <= bytes_max_); }
    Slot admit(const RowHead& row, bool solo, Instant now);
    void acknowledge(Slot slot);
    void release(Slot slot);
    void condemn(Slot slot, std::string_view code, std::string_view text);
    bool isolating() const { return isolating_ > 0; }
    bool burying() const { return !condemned_.empty() || !burying_.empty(); }

    // Up to `rows_max` acknowledged rows, now deleting: those with the lowest ids, in no order. The spans stay valid
    // until deleted().
    DeleteRows take_deletes(std::size_t rows_max);
    // All of the claim that are acknowledged, if there are any.
    std::optional<DeleteRows> take_claimed_deletes();
    // The claim is over: from now on every row in the window is deleted by id *and* event_id, as others may have
    // relayed it meanwhile.
    void let_go();
    std::size_t deleted();  // the oldest batch; how many rows that was
    void delete_refused();  // the oldest batch: its rows are acknowledged as before
    void rows_missed();     // the same, and from now on they are deleted by id and event_id, wherever they are
    BuryRow take_burial();
    bool buried();          // the oldest burial; true: it was an isolation
    void burial_refused();  // the oldest burial: it is to be sent again
    // Bury whatever row has this id, without it ever having been read.
    void isolate(RowId id, std::string_view code, std::string_view text);

    // The session's answers are lost: deletes and burials under way are to be sent again, and from now on every row
    // in the window is deleted by id *and* event_id, as a failover may have re-issued the ids.
    void session_lost();

    const Entry& entry(Slot slot) const { return entries_[index(slot)]; }
    bool contains(RowId id) const { return slots_by_id_.find(id).has_value(); }
    std::uint32_t rows() const { return rows_max_ - free_.size(); }
    std::uint32_t rows_free() const { return free_.size(); }
    std::uint32_t rows_in_flight() const { return in_flight_; }
    std::uint32_t rows_claimed() const { return claimed_; }
    std::uint64_t bytes_in_flight() const { return bytes_; }
    std::uint64_t bytes_free() const { return bytes_ >= bytes_max_ ? 0 : bytes_max_ - bytes_; }
    std::size_t rows_acknowledged() const { return acknowledged_.size(); }
    std::size_t rows_deleting() const;
    std::size_t deletes_under_way() const { return deletes_in_use_; }
    bool burial_waiting() const { return !condemned_.empty(); }
    std::uint32_t in_flight_of(std::uint8_t lane) const { return lane_in_flight_[lane]; }
    std::uint32_t held_of(std::uint8_t lane) const { return lane_held_[lane]; }
    std::optional<RowId> lowest() const;  // scans; for reports, not for the hot path
    // Lanes with rows in flight of topics for which `counts` holds. Scans.
    template <class Counts>
    LaneSet lanes_in_flight(Counts counts) const {
        LaneSet lanes;
        for (std::size_t i = 0; i < touched_; ++i)
            if (states_[i] == State::in_flight && counts(entries_[i].topic)) lanes.add(entries_[i].lane);
        return lanes;
    }
    // The id is taken by another event: after a failover, ids may be given again.
    bool conflicts(RowId id, const EventId& event_id) const {
        const auto slot = slots_by_id_.find(id);
        return slot && entry(*slot).event_id != event_id;
    }

    struct Known {
        RowId base;
        std::span<const std::uint8_t> bits;
        std::uint32_t rows_beyond = 0;  // rows above `after` that are not in the bitmap
    };
    // The rows above `after` as a bitmap, so that the database can leave them out: those that it does not reach are not
    // in it, nor are guarded ones where their ids may be another event's by now.
    Known known_above(RowId after, bool with_guarded);

private:
    enum class State : std::uint8_t { free, in_flight, acknowledged, deleting, condemned, burying };

    struct DeleteBatch {
        std::vector<Slot> slots;
        std::vector<RowId> ids;
        std::vector<EventId> event_ids;
        std::vector<std::uint64_t> places;
    };

    struct Burial {
        std::optional<Slot> slot;  // none: isolated
        RowId id;
        EventId event_id{};
        std::string code;
        std::string text;
    };

    // The id beside its slot: the lowest are looked for again and again, among thousands.
    struct Acknowledged {
        RowId id;
        Slot slot{};
        bool operator<(const Acknowledged& other) const { return id < other.id; }
    };

    static std::size_t index(Slot slot) { return static_cast<std::size_t>(slot); }
    void expect(Slot slot, State state) const;
    void leave_flight(Slot slot);
    DeleteRows take_deletes(bool guarded, std::size_t rows_max);
    void free_slot(Slot slot);

    const std::uint32_t rows_max_;
    const std::uint64_t bytes_max_;
    std::vector<Entry> entries_;
    std::vector<State> states_;
    std::vector<bool> guarded_;  // read on an earlier session, by a claim that is over, or missed where it lay
    FreeSlots free_;
    IdMap slots_by_id_;
    std::vector<Acknowledged> acknowledged_;
    std::array<DeleteBatch, deletes_under_way_max> deletes_;  // a ring: the oldest at deletes_head_
    std::size_t deletes_head_ = 0;
    std::size_t deletes_in_use_ = 0;
    std::deque<Burial> condemned_;
    std::deque<Burial> burying_;
    std::size_t isolating_ = 0;
    std::array<std::uint32_t, lane_count> lane_in_flight_{};
    std::array<std::uint32_t, lane_count> lane_held_{};
    std::uint32_t in_flight_ = 0;
    std::uint32_t claimed_ = 0;  // in flight and not guarded
    std::uint64_t bytes_ = 0;
    std::vector<std::uint8_t> known_;
    std::size_t touched_ = 0;  // slots below this may be in use; the lowest free one is taken first
};

}  // namespace outbox
