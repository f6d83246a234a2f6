// The lanes this worker owns: how far it may trust each lease, and where each lane stands in its reading.
//
//   (not ours) ─ acquired ─► settling ─ nothing in flight ─► behind ─ caught up to `low` ─► current
//                              ▲                               │                               │
//                              └───────────── a row failed, or the lease lapsed ───────────────┘
//   any of ours ─ surplus, or draining ─► leaving ─ nothing held ─► released
//
// A lane that has to go back over rows waits until none of its rows is in flight, then reads again from its lowest
// one (`resume_after`): this is what keeps the first occurrences of a key in id order.
// Pure. Owned by Relay; the worker's thread.
#pragma once

#include <array>
#include <cstdint>

#include "core/row.hpp"
#include "core/time.hpp"

namespace outbox {

class Lanes {
public:
    explicit Lanes(Duration lease_ttl) : trust_(lease_ttl - lease_ttl / 10) {}

    // A lease is trusted from before it was asked for, for less than its time-to-live: the database may have started
    // the time-to-live that early. Lanes not named any more have been taken by another worker.
    void renewed(Instant asked_at, LaneSet ours);
    void acquired(Instant asked_at, LaneSet lanes);
    void released(LaneSet lanes);
    // For ever, and none of them ever goes back: where rows are claimed, lanes mean nothing.
    void hold_all();

    bool trusted(std::uint8_t lane, Instant now) const { return now < trusted_until_[lane]; }
    // Lanes whose trust has run out although the table may still name us: they go back to where they were.
    void lapse(Instant now, RowId low);

    void fail(std::uint8_t lane, RowId resume_after);  // a row after this id has to be read again
    void settled(std::uint8_t lane);                   // nothing of it is in flight
    void restart();                                    // a new session: all of ours read again from the start
    void caught_up(LaneSet lanes);
    void advance(LaneSet lanes, RowId to);  // behind lanes have been read up to here
    void push_back(RowId resume_after);     // lanes that are not current will pass here again
    void leave(LaneSet lanes);
    // How many lanes above `share` there are; the highest-numbered leave first, so that a stable fleet agrees.
    LaneSet surplus(std::uint32_t share) const;

    LaneSet owned() const { return owned_; }
    LaneSet settling() const { return settling_; }
    LaneSet behind() const { return behind_; }
    LaneSet leaving() const { return leaving_; }
    LaneSet current() const { return owned_ - settling_ - behind_ - leaving_; }
    RowId lowest_resume(LaneSet lanes) const;
    Instant trust_ends(Instant now) const;  // of the lane that lapses next

private:
    void start(std::uint8_t lane, RowId resume_after);

    Duration trust_;
    LaneSet owned_;
    LaneSet settling_;
    LaneSet behind_;
    LaneSet leaving_;
    std::array<Instant, lane_count> trusted_until_{};
    std::array<RowId, lane_count> resume_after_{};
};

}  // namespace outbox
