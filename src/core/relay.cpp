#include "core/relay.hpp"

#include <algorithm>
#include <utility>

#include "core/invariant.hpp"

namespace outbox {

namespace {

using namespace std::chrono_literals;

constexpr Duration delete_delay = 10ms;  // how long an acknowledged row may wait for company

}  // namespace

Relay::Relay(const RelayOptions& options, RelayLimits limits)
    : settings_(options.relay),
      poison_(options.poison.policy),
      limits_(limits),
      fleet_(settings_.lease_ttl, settings_.claim),
      claim_(settings_.lease_ttl),
      reading_(settings_),
      mark_(settings_.claim),
      window_(settings_.in_flight_rows, settings_.in_flight_bytes),
      topics_(options.topics.allow, limits.seed),
      cluster_(limits.seed + 1),
      pacing_(settings_, options.pacing),
      guard_(settings_.in_flight_rows),
      jitter_(~limits.seed) {
    admitted_.reserve(settings_.rows_per_statement_max());
}

void Relay::on(const SessionOpened&, Instant now) {
    session_open_ = true;
    fleet_.session_opened(now);
    control_.session_opened(now);
    turn(now);
}

void Relay::on(const CrashesRead& event, Instant now) {
    guard_.learn(event);
    for (const RowId culprit : guard_.take_culprits())
        window_.isolate(culprit, "RELAY_CRASHED", "the relay ended abruptly each time it handled this row");
    turn(now);
}

void Relay::on(const SessionLost&, Instant now) {
    session_open_ = false;
    recovering_ = true;
    fleet_.session_lost();
    claim_.lost();
    control_.session_lost();
    guard_.session_lost();
    reading_.forget();
    window_.session_lost();
    if (window_.rows_acknowledged() > 0) acknowledged_at_ = now;
}

void Relay::on(const ProducerOpened&, Instant now) {
    producer_open_ = true;
    fleet_.producer_opened(now);
    topics_.producer_opened();
    cluster_.reachable(now);
    turn(now);
}

void Relay::on(const ClusterUnreachable&, Instant now) {
    cluster_.unreachable(now);
    turn(now);
}

void Relay::on(const ClusterReachable&, Instant now) {
    cluster_.reachable(now);
    turn(now);
}

void Relay::on(const ClusterThrottled&, Instant now) {
    pacing_.setback(now);
}

void Relay::on(const ClusterFailed& event, Instant now) {
    cluster_.failed(event.reason, now);
    turn(now);
}

void Relay::on(const ProducerLost&, Instant) {
    producer_open_ = false;
    fleet_.producer_lost();
}

void Relay::on(const TopicLimitsAsked& event, Instant now) {
    topics_.await_limits(event.topic, now);
}

void Relay::on(const TopicLimitsRead& event, Instant now) {
    topics_.answered(event.topic, now);
    limits_wait_ends_ = {};
    if (event.known) topics_.limits(event.topic, event.batch_bytes_max, event.keys_required);
    turn(now);
}

void Relay::on(const LeasesRenewed& event, Instant now) {
    const LaneSet before = fleet_.lanes.owned();
    fleet_.on(event);
    const LaneSet lost = (before - fleet_.lanes.owned()) | fleet_.lanes.leaving();
    for (std::uint8_t lane = 0; lane < lane_count; ++lane)
        if (lost.contains(lane)) reading_.lane_failed(lane);
    pacing_.set_lanes(fleet_.part(), now);
    turn(now);
}

void Relay::on(const LanesAcquired& event, Instant now) {
    fleet_.on(event);
    pacing_.set_lanes(fleet_.part(), now);
    turn(now);
}

void Relay::on(const LanesReleased& event, Instant now) {
    fleet_.on(event);
    pacing_.set_lanes(fleet_.part(), now);
    turn(now);
}

void Relay::on(const ProbeAnswered& event, Instant now) {
    mark_.probe_answered(event.high, event.holders, now);
}

void Relay::on(const Delivered& event, Instant now) {
    Instant oldest = now;
    for (const Slot slot : event.slots) {
        const Window::Entry& row = window_.entry(slot);
        oldest = std::min(oldest, row.admitted_at);
        topics_.left_flight(row.topic, row.bytes);
        topics_.taken(row.topic, now);
        window_.acknowledge(slot);
    }
    if (!event.slots.empty()) {
        acknowledged_at_ = std::min(acknowledged_at_, now);
        failures_in_a_row_ = 0;
        // What was in flight through an outage says nothing about how fast the broker is.
        if (cluster_.acknowledged(now))
            pacing_.recover(now);
        else
            pacing_.acknowledged(static_cast<std::uint32_t>(event.slots.size()), now - oldest, now);
    }
    turn(now);
}

void Relay::on(const RowsDeleted&, Instant now) {
    deletes_ = {};
    if (guard_.passed(window_.deleted())) forget_crashes_due_ = true;
    turn(now);
}

void Relay::on(const RowsBuried&, Instant now) {
    burials_ = {};
    if (window_.buried()) control_.keys_changed();
    turn(now);
}

void Relay::on(const ControlRead& event, Instant now) {
    if (event.revision != control_.revision()) fleet_.renew_soon(now);
    control_.on(event, window_.burying(), now);
    topics_.pause(event.paused_topics, mark_.low());
    pacing_.set_ceiling(event.max_rows_per_second, now);
    turn(now);
}

void Relay::on(const BlockedKeysRead& event, Instant now) {
    for (const KeyBlock& released : control_.on(event, window_.burying()))
        if (fleet_.lanes.owned().contains(released.lane)) fail_lane(released.lane, RowId{released.row.value - 1});
    turn(now);
}

void Relay::drain() {
    draining_ = true;
    fleet_.lanes.leave(fleet_.lanes.owned());
    fleet_.leave();
}

// Rows in flight whose topic is not parked: a parked one goes back over its rows by itself, and may be stuck for long.
std::uint32_t Relay::moving() const {
    return window_.rows_in_flight() - topics_.parked_in_flight();
}

// Moves on whatever was waiting for rows to come home.
void Relay::turn(Instant now) {
    cluster_.turn(moving(), now);
    hold_stalled(now);
    topics_.turn(cluster_.circuit().closed(), now);
    restart_if_recovered(now);
    settle_lanes();
    pacing_.turn(now);
    const bool idle = control_.paused() && window_.rows() == 0;
    if (idle && !told_idle_) fleet_.renew_soon(now);
    told_idle_ = idle;
}

void Relay::restart_if_recovered(Instant now) {
    if (!recovering_ || !session_open_ || window_.rows() > topics_.parked_in_flight()) return;
    recovering_ = false;
    mark_.reset();
    if (!claims_rows()) fleet_.lanes.restart();  // a claim begins at the mark, which was just put back
    reading_.restart(now);
}

void Relay::settle_lanes() {
    LaneSet settling = fleet_.lanes.settling();
    if (settling.empty()) return;
    LaneSet busy;
    if (topics_.parked_in_flight() > 0)
        busy = window_.lanes_in_flight([&](TopicIndex topic) {
            return topics_[topic].state == Topics::State::current || topics_[topic].state == Topics::State::behind;
        });
    else
        for (std::uint8_t lane = 0; lane < lane_count; ++lane)
            if (window_.in_flight_of(lane) > 0) busy.add(lane);
    settling = settling - busy;
    for (std::uint8_t lane = 0; lane < lane_count; ++lane)
        if (settling.contains(lane)) fleet_.lanes.settled(lane);
}

// After one that was refused the next one goes alone, to see whether it passes.
bool Relay::may_delete() const {
    return window_.rows_acknowledged() > 0 &&
           window_.deletes_under_way() < (deletes_.refusals > 0 ? 1 : deletes_under_way_max);
}

bool Relay::delete_due(Instant now) const {
    if (!session_open_ || !may_delete() || now < deletes_.at) return false;
    return window_.rows_acknowledged() >= settings_.rows_worth_a_delete() || now >= acknowledged_at_ + delete_delay ||
           draining_ || recovering_ || guard_.active();
}

LaneSet Relay::empty_lanes() const {
    LaneSet empty;
    for (std::uint8_t lane = 0; lane < lane_count; ++lane)
        if (window_.held_of(lane) == 0) empty.add(lane);
    return empty;
}

bool Relay::may_relay() const {
    return session_open_ && producer_open_ && !draining_ && !recovering_;
}

// Nothing is to be read as things are: some event will change that, not time.
bool Relay::reading_stopped() const {
    const Circuit& circuit = cluster_.circuit();
    return window_.isolating() || !guard_.learnt() || !control_.known() || control_.paused() || !fleet_.may_read() ||
           circuit.state() == Circuit::State::open || (circuit.state() == Circuit::State::half_open && moving() > 0);
}

std::optional<ReadRows> Relay::next_read(Instant now) {
    if (now < read_again_at_ || now < limits_wait_ends_ || reading_stopped()) return std::nullopt;
    return reading_.next({fleet_.lanes, topics_, window_, mark_, pacing_, guard_, control_}, now);
}

// What is said inside the claim's transaction: nothing but its end.
std::optional<Action> Relay::next_of_claim(Instant now) {
    if (std::exchange(publish_due_, false)) return Publish{admitted_, more_follow_};
    if (!claim_.due(window_.rows_claimed(), now)) return std::nullopt;
    claim_.ended(window_.rows_claimed());
    if (window_.rows_claimed() > 0) topics_.hold_stalled(mark_.low(), now);
    auto rows = window_.take_claimed_deletes();
    window_.let_go();
    if (window_.rows_acknowledged() == 0) acknowledged_at_ = never;
    if (!rows) return EndClaim{};
    rows->ends_claim = true;
    return *rows;
}

std::optional<Action> Relay::next_of_rows(Instant now) {
    if (delete_due(now)) {
        DeleteRows rows = window_.take_deletes(settings_.rows_per_statement_max());
        rows.skip_locked = claims_rows();
        // Those that waited long enough go in as many statements as it takes.
        if (window_.rows_acknowledged() == 0)
            acknowledged_at_ = never;
        else if (now < acknowledged_at_ + delete_delay)
            acknowledged_at_ = now;
        return rows;
    }
    if (std::exchange(publish_due_, false)) return Publish{admitted_, more_follow_};
    if (session_open_ && window_.burial_waiting() && now >= burials_.at) {
        BuryRow burial = window_.take_burial();
        burial.block_key = poison_ == PoisonPolicy::block_key;
        return burial;
    }
    if (session_open_ && guard_.withdrawal_due(now)) {
        guard_.withdrawn();
        return WithdrawNote{};
    }
    if (session_open_ && std::exchange(forget_crashes_due_, false)) return ForgetCrashes{};
    return std::nullopt;
}

std::optional<Action> Relay::next(Instant now) {
    fleet_.lanes.lapse(now, mark_.low());
    turn(now);
    if (claim_.open()) return next_of_claim(now);
    if (auto action = fleet_.next(now, empty_lanes())) {
        if (auto* const renew = std::get_if<RenewLeases>(&*action)) {
            renew->in_flight_rows = window_.rows();
            renew->control_revision = control_.revision();
        }
        return action;
    }
    if (auto action = control_.next(window_.burying(), now)) return action;
    if (session_open_ && !fleet_.lanes.owned().empty() && guard_.ask()) return ReadCrashes{};
    if (may_relay()) {
        // What has been read is published first, while it is in the cache; the database works on the reads behind it.
        if (!claims_rows() && !publish_due_)
            if (const auto read = next_read(now)) return *read;
        if (mark_.probe_due(now)) {
            mark_.probe_sent();
            return Probe{};
        }
    }
    if (auto action = next_of_rows(now)) return action;
    // A claim comes last: until it has ended, nothing else can be said.
    if (!claims_rows() || !may_relay()) return std::nullopt;
    const auto read = next_read(now);
    if (read && read->claim) claim_.sent(read->topic && !topics_[*read->topic].circuit.closed(), now);
    return read ? std::optional<Action>(*read) : std::nullopt;
}

Instant Relay::wake_at(Instant now) const {
    // Stuck topics are looked for at intervals only.
    const Instant cluster_at = cluster_.wake_at(moving());
    const bool looking = cluster_.circuit().state() == Circuit::State::open && moving() > 0;
    Instant at = looking ? std::max(cluster_at, look_for_stalled_at_) : cluster_at;
    if (claim_.open()) return std::min(at, claim_.wake_at());
    at = std::min(at, fleet_.wake_at());
    if (!session_open_) return at;
    at = std::min({at, control_.wake_at(), guard_.wake_at()});
    if (may_delete()) at = std::min(at, std::max(acknowledged_at_ + delete_delay, deletes_.at));
    if (window_.burial_waiting()) at = std::min(at, burials_.at);
    if (!may_relay()) return at;
    at = std::min({at, mark_.probe_at(), topics_.wake_at(cluster_.circuit().closed()), pacing_.wake_at()});
    if (reading_stopped()) return at;
    if (reading_.blocked() && window_.rows_in_flight() > 0) at = std::min(at, look_for_stalled_at_);
    const Instant held_until = std::max(read_again_at_, limits_wait_ends_);
    const Instant read_at = now < held_until ? held_until : reading_.wake_at(fleet_.lanes, pacing_, now);
    return std::min({at, read_at, fleet_.lanes.trust_ends(now)});
}

RowId Relay::floor() const {
    RowId floor = std::min(mark_.low(), fleet_.lanes.lowest_resume(fleet_.lanes.settling() | fleet_.lanes.behind()));
    for (const TopicIndex topic : topics_.parked()) floor = std::min(floor, topics_[topic].resume_after);
    if (const auto lowest = window_.lowest()) floor = std::min(floor, RowId{lowest->value - 1});
    return floor;
}

}  // namespace outbox
