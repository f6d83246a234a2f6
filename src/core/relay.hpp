// The relay of one worker: from a committed row to an acknowledged record to a deleted row, in order per key, for the
// lanes this worker owns. A state machine that is a value: events go in through on(), actions come out of next() (call
// it until it has none), and wake_at() says when it wants to run again.
//
// It composes, and itself only decides what belongs to more than one of them:
//   Fleet (leases, shares, Lanes)   Reading (what to read next)     LowMark (where reads begin)
//   Window (rows being relayed)     Topics (which may be written)   Cluster (whether anything may)
//   Pacing (how fast)               Control (what operators want)   CrashGuard (care after a crash loop)
//   Claim (what holds rows, where they are claimed one by one instead of by their lanes: then there is no order)
//
// Pure: no clock, no I/O, no log, no counter. One thread: the worker's.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/claim.hpp"
#include "core/cluster.hpp"
#include "core/control.hpp"
#include "core/crash_guard.hpp"
#include "core/fleet.hpp"
#include "core/low_mark.hpp"
#include "core/messages.hpp"
#include "core/pacing.hpp"
#include "core/reading.hpp"
#include "core/settings.hpp"
#include "core/topics.hpp"
#include "core/window.hpp"

namespace outbox {

struct RelayLimits {
    std::uint32_t message_bytes_max = 1'000'000;  // larger rows are dead-lettered before they are sent
    std::uint64_t seed = 0;                       // for jitter
};

struct RelayOptions {
    RelaySettings relay;
    TopicSettings topics;
    PacingSettings pacing;
    PoisonSettings poison;
};

class Relay {
public:
    Relay(const RelayOptions& options, RelayLimits limits);

    void on(const SessionOpened&, Instant now);
    void on(const SessionLost&, Instant now);
    void on(const ProducerOpened&, Instant now);
    void on(const ProducerLost&, Instant now);
    void on(const ClusterUnreachable&, Instant now);
    void on(const ClusterReachable&, Instant now);
    void on(const ClusterThrottled&, Instant now);
    void on(const ClusterFailed& event, Instant now);
    void on(const TopicLimitsAsked& event, Instant now);
    void on(const TopicLimitsRead& event, Instant now);
    void on(const LeasesRenewed& event, Instant now);
    void on(const LanesAcquired& event, Instant now);
    void on(const LanesReleased& event, Instant now);
    void on(const RowsRead& event, Instant now);
    void on(const ProbeAnswered& event, Instant now);
    void on(const Delivered& event, Instant now);
    void on(const Failed& event, Instant now);
    void on(const RowsDeleted&, Instant now);
    void on(const DeleteRefused&, Instant now);
    void on(const RowsMissed&, Instant now);
    void on(const RowsBuried&, Instant now);
    void on(const BurialRefused&, Instant now);
    void on(const ControlRead& event, Instant now);
    void on(const CrashesRead& event, Instant now);
    void on(const BlockedKeysRead& event, Instant now);

    // Stop reading, let the window empty, release the leases, leave the fleet. drained() says when that is done.
    void drain();
    bool drained() const { return fleet_.left(); }

    std::optional<Action> next(Instant now);
    Instant wake_at(Instant now) const;

    // Adapters name topics by index; the names live here.
    Topics& topics() { return topics_; }
    // For observers.
    const Topics& topics() const { return topics_; }
    const Window& window() const { return window_; }
    const Lanes& lanes() const { return fleet_.lanes; }
    const LowMark& low_mark() const { return mark_; }
    const Cluster& cluster() const { return cluster_; }
    const Pacing& pacing() const { return pacing_; }
    const Control& control() const { return control_; }
    const CrashGuard& crash_guard() const { return guard_; }
    const Claim& claim() const { return claim_; }
    bool claims_rows() const { return settings_.claim == ClaimMode::rows; }
    // Where we claim rows: what others lease, who keep an order; as long as they do, we wait.
    LaneSet leased_by_others() const { return fleet_.leased_by_others(); }
    // No row of our lanes with an id up to here is waiting: where a count of the backlog may begin.
    RowId floor() const;

private:
    enum class Verdict : std::uint8_t { skip, admit, cut };

    // Of what Postgres refused for now.
    struct Retry {
        std::uint32_t refusals = 0;  // in a row
        Instant at{};
    };

    void turn(Instant now);
    void restart_if_recovered(Instant now);
    void settle_lanes();
    void hold_stalled(Instant now);
    std::uint32_t moving() const;
    void fail_lane(std::uint8_t lane, RowId resume_after);
    void fail_row(const FailedRow& failed, Instant now);
    void hold_reading(Instant now);
    void try_later(Retry& retry, Instant now);
    bool may_relay() const;
    std::optional<ReadRows> next_read(Instant now);
    std::optional<Action> next_of_claim(Instant now);
    std::optional<Action> next_of_rows(Instant now);
    bool reading_stopped() const;
    bool goes_alone(const RowHead& row) const;
    bool overfills(const Topics::Topic& topic, const RowHead& row) const;
    void admit(std::uint32_t place_in_read, const RowHead& row, Instant now);
    bool takes_rows(const ReadUnderWay& read, Instant now) const;
    Verdict judge(const RowHead& row, const ReadUnderWay& read, Instant now);
    void condemn(const RowHead& row, std::string_view code, std::string_view text, Instant now);
    void condemn(Slot slot, std::string_view code, std::string_view text);
    void account(const ReadUnderWay& read, RowId last, bool cut_short);
    void account_claim(const ReadUnderWay& read, RowId last, RowId lowest);
    void look_whether_caught_up(const ReadUnderWay& read, std::size_t rows, bool cut_short);
    bool may_delete() const;
    bool delete_due(Instant now) const;
    LaneSet empty_lanes() const;

    const RelaySettings settings_;
    const PoisonPolicy poison_;
    const RelayLimits limits_;
    Fleet fleet_;
    Claim claim_;
    Reading reading_;
    LowMark mark_;
    Window window_;
    Topics topics_;
    Cluster cluster_;
    Pacing pacing_;
    Control control_;
    CrashGuard guard_;
    Jitter jitter_;

    bool session_open_ = false;
    bool producer_open_ = false;
    bool draining_ = false;
    // After a lost session: what is in the window is finished, and deleted for certain, before anything is read.
    bool recovering_ = true;           // from the start, too
    Instant acknowledged_at_ = never;  // when the oldest row not yet being deleted was acknowledged
    std::vector<Admission> admitted_;
    // After a failure that is about neither a row nor a topic, nothing is read for a moment: what failed would fail
    // again.
    Instant read_again_at_{};
    std::uint32_t failures_in_a_row_ = 0;
    Instant limits_wait_ends_{};  // the last read met a topic whose limits are awaited: the next one would as well
    bool publish_due_ = false;    // admitted_ has not been handed out yet
    bool more_follow_ = false;    // as in Publish, of admitted_
    Retry deletes_;
    Retry burials_;
    Instant look_for_stalled_at_{};
    bool forget_crashes_due_ = false;
    bool told_idle_ = false;  // that nothing is in flight although we are paused
};

}  // namespace outbox
