#include "core/relay.hpp"

#include <algorithm>

#include "core/invariant.hpp"

namespace outbox {

namespace {

using namespace std::chrono_literals;

constexpr Backoff failure_backoff{50ms, 5s};
constexpr Duration delete_delay = 10ms;  // how long an acknowledged row may wait for company

// A topic the broker has not yet taken a row for may fill only this part of the window: it may not exist. Its first
// acknowledgement is waited for this long, so that it need not be read apart; then the others go on without it.
constexpr std::uint32_t unproven_part = 16;
constexpr Duration unproven_patience = 250ms;

constexpr Duration look_for_stalled_every = 100ms;

}  // namespace

Relay::Relay(const RelayOptions& options, RelayLimits limits)
    : settings_(options.relay),
      poison_(options.poison.policy),
      limits_(limits),
      fleet_(settings_.lease_ttl),
      reading_(settings_),
      window_(settings_.in_flight_rows, settings_.in_flight_bytes),
      topics_(options.topics.allow, limits.seed),
      cluster_(limits.seed + 1),
      pacing_(settings_, options.pacing),
      guard_(settings_.in_flight_rows),
      jitter_(~limits.seed) {
    admitted_.reserve(settings_.batch_rows);
}

void Relay::on(const SessionOpened& event, Instant now) {
    session_open_ = true;
    fleet_.session_opened(now);
    control_.session_opened(now);
    guard_.learn(event.crashes);
    for (const RowId culprit : guard_.take_culprits())
        window_.isolate(culprit, "RELAY_CRASHED", "the relay ended abruptly each time it handled this row");
    turn(now);
}

void Relay::on(const SessionLost&, Instant now) {
    session_open_ = false;
    recovering_ = true;
    fleet_.session_lost();
    control_.session_lost();
    reading_.forget();
    window_.session_lost();
    if (window_.rows_acknowledged() > 0) acknowledged_at_ = now;
}

void Relay::on(const ProducerOpened&, Instant now) {
    producer_open_ = true;
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
}

void Relay::on(const LeasesRenewed& event, Instant now) {
    const LaneSet before = fleet_.lanes.owned();
    fleet_.on(event);
    const LaneSet lost = (before - event.lanes) | fleet_.lanes.leaving();
    for (std::uint8_t lane = 0; lane < lane_count; ++lane)
        if (lost.contains(lane)) reading_.lane_failed(lane);
    pacing_.set_lanes(fleet_.lanes.owned().size(), now);
    turn(now);
}

void Relay::on(const LanesAcquired& event, Instant now) {
    fleet_.on(event);
    pacing_.set_lanes(fleet_.lanes.owned().size(), now);
    turn(now);
}

void Relay::on(const LanesReleased& event, Instant now) {
    fleet_.on(event);
    pacing_.set_lanes(fleet_.lanes.owned().size(), now);
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

void Relay::on(const Failed& event, Instant now) {
    for (const FailedRow& row : event.rows) fail_row(row, now);
    turn(now);
}

void Relay::on(const RowsDeleted&, Instant now) {
    deletes_refused_ = 0;
    if (guard_.passed(window_.deleted())) forget_crashes_due_ = true;
    turn(now);
}

void Relay::on(const DeleteRefused&, Instant now) {
    window_.delete_refused();
    acknowledged_at_ = std::min(acknowledged_at_, now);
    try_deleting_later(now);
}

void Relay::on(const RowsBuried&, Instant now) {
    deletes_refused_ = 0;
    window_.buried();
    turn(now);
}

void Relay::on(const BurialRefused&, Instant now) {
    window_.burial_refused();
    try_deleting_later(now);
}

void Relay::try_deleting_later(Instant now) {
    ++deletes_refused_;
    delete_again_at_ = now + failure_backoff.delay(deletes_refused_, jitter_.next());
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

void Relay::fail_lane(std::uint8_t lane, RowId resume_after) {
    // Rows that commit late may still appear above `low`, and reads leave the lane out meanwhile; so may rows of a
    // topic that is being read again.
    resume_after = std::min(resume_after, mark_.low());
    for (const TopicIndex topic : topics_.parked()) resume_after = std::min(resume_after, topics_[topic].resume_after);
    fleet_.lanes.fail(lane, resume_after);
    reading_.lane_failed(lane);
}

void Relay::fail_row(const FailedRow& failed, Instant now) {
    const Window::Entry row = window_.entry(failed.slot);
    const RowId resume_after{row.id.value - 1};
    topics_.left_flight(row.topic, row.bytes);
    switch (failed.failure.kind) {
        case FailureKind::row:
            if (failed.refused_locally || row.solo) {
                condemn(failed.slot, failed.failure.code, failed.failure.text);
                return;
            }
            topics_.suspect(row.topic, row.id);
            reading_.topic_failed(row.topic);
            break;
        case FailureKind::topic:
            topics_.fail(row.topic, failed.failure.code, resume_after, now);
            reading_.topic_failed(row.topic);
            break;
        case FailureKind::cluster:
            fail_lane(row.lane, resume_after);
            cluster_.failed(failed.failure.code, now);
            break;
        case FailureKind::back_pressure:
        case FailureKind::in_doubt:
        case FailureKind::fatal:
            fail_lane(row.lane, resume_after);
            pacing_.setback(now);
            hold_reading(now);
            break;
    }
    window_.release(failed.slot);
}

// The rows of one failed batch, and those behind it, count as one failure.
void Relay::hold_reading(Instant now) {
    if (now < read_again_at_) return;
    ++failures_in_a_row_;
    read_again_at_ = now + failure_backoff.delay(failures_in_a_row_, jitter_.next());
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
    const bool idle = control_.paused() && window_.rows_in_flight() == 0;
    if (idle && !told_idle_) fleet_.renew_soon(now);
    told_idle_ = idle;
}

void Relay::restart_if_recovered(Instant now) {
    if (!recovering_ || !session_open_ || window_.rows() > topics_.parked_in_flight()) return;
    recovering_ = false;
    mark_.reset();
    fleet_.lanes.restart();
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

// A topic that is stuck must not keep the window from the others, nor pass for the cluster. Looked for only while there
// is no room, or nothing is acknowledged at all.
void Relay::hold_stalled(Instant now) {
    const Circuit& circuit = cluster_.circuit();
    const bool open = circuit.state() == Circuit::State::open;
    const bool due = open ? moving() > 0 && cluster_.stalled(now) : reading_.blocked();
    if (!due || now < look_for_stalled_at_) return;
    look_for_stalled_at_ = now + look_for_stalled_every;
    topics_.hold_stalled(mark_.low(), now);
}

Relay::Verdict Relay::judge(const RowHead& row, const ReadUnderWay& read, Instant now) {
    if (!read.lanes.contains(row.lane) || control_.blocked(row.key_hash)) return Verdict::skip;
    if (window_.contains(row.id)) return window_.conflicts(row.id, row.event_id) ? Verdict::cut : Verdict::skip;
    if (!fleet_.lanes.trusted(row.lane, now)) {
        fail_lane(row.lane, RowId{row.id.value - 1});
        return Verdict::skip;
    }
    const Topics::Topic& topic = topics_[row.topic];
    if (!topic.refusal.empty()) {
        if (window_.rows_free() == 0) return Verdict::cut;
        condemn(row, topic.refusal, "the relay does not publish to this topic", now);
        return Verdict::skip;
    }
    const bool its_own_read = read.scope == ReadScope::topic && topic.state == Topics::State::behind && !read.stale;
    if (topic.state != Topics::State::current && !its_own_read) {
        topics_.pass_over(row.topic, row.id);
        return Verdict::skip;
    }
    // A topic that goes one row at a time: the next one's turn comes when this one is home, be that one suspect or not.
    if (topic.in_flight > 0 && (topic.solo_in_flight || topics_.one_at_a_time(row.topic, row.id))) {
        topics_.hold(row.topic, RowId{row.id.value - 1});
        return Verdict::skip;
    }
    if (row.bytes > limits_.message_bytes_max) {
        if (window_.rows_free() == 0) return Verdict::cut;
        condemn(row, "MSG_SIZE_TOO_LARGE", "larger than message.max.bytes", now);
        return Verdict::skip;
    }
    if (!topic.proven && topic.in_flight >= std::max(settings_.in_flight_rows / unproven_part, 1U)) {
        if (now < topic.progress_at + unproven_patience) return Verdict::cut;
        topics_.hold(row.topic, RowId{row.id.value - 1});
        return Verdict::skip;
    }
    return !row.payload_withheld && window_.fits(row.bytes) ? Verdict::admit : Verdict::cut;
}

void Relay::condemn(const RowHead& row, std::string_view code, std::string_view text, Instant now) {
    condemn(window_.admit(row, true, now), code, text);
}

void Relay::condemn(Slot slot, std::string_view code, std::string_view text) {
    const Window::Entry& row = window_.entry(slot);
    if (poison_ == PoisonPolicy::block_key) control_.block(row.key_hash, row.id, row.lane);
    window_.condemn(slot, code, text);
}

void Relay::on(const RowsRead& event, Instant now) {
    require_invariant(reading_.under_way().has_value(), "rows came back that nobody asked for");
    const bool take = !draining_ && producer_open_ && !control_.paused();
    bool cut_short = event.rows.size() >= reading_.under_way()->limit;
    RowId last = reading_.under_way()->after;
    std::uint64_t bytes = 0;
    std::uint32_t largest_bytes = 0;
    const std::uint32_t moving_before = moving();
    const std::size_t admit_max = cluster_.circuit().closed() ? SIZE_MAX : Cluster::probe_rows;
    admitted_.clear();
    for (std::size_t i = 0; i < event.rows.size() && take; ++i) {
        const RowHead& row = event.rows[i];
        // Judged against the read as it is now: a lane that just failed takes no more rows from it.
        largest_bytes = std::max(largest_bytes, row.bytes);
        const Verdict verdict = judge(row, *reading_.under_way(), now);
        if (verdict == Verdict::cut || (verdict == Verdict::admit && admitted_.size() >= admit_max)) {
            cut_short = true;
            break;
        }
        last = row.id;
        if (verdict == Verdict::skip) continue;
        const Topics::Topic& topic = topics_[row.topic];
        const bool solo = topic.in_flight == 0 && topics_.one_at_a_time(row.topic, row.id);
        admitted_.push_back({static_cast<std::uint32_t>(i), window_.admit(row, solo, now)});
        topics_.admitted(row.topic, row.bytes, solo, now);
        bytes += row.bytes;
    }
    const ReadUnderWay read = *reading_.under_way();
    // Rows that were read but not looked at leave the marks where they are.
    if (!take) cut_short = cut_short || !event.rows.empty();
    publish_due_ = !admitted_.empty();
    if (publish_due_) {
        cluster_.sent(moving_before, now);
        guard_.noted(now);
    }
    pacing_.spent(admitted_.size(), bytes);
    account(read, last, cut_short);
    look_whether_caught_up(read, event.rows.size(), cut_short);
    reading_.finished({.rows = event.rows.size(),
                       .admitted = static_cast<std::uint32_t>(admitted_.size()),
                       .bytes = bytes,
                       .largest_bytes = largest_bytes,
                       .last = last,
                       .cut_short = cut_short},
                      now);
    turn(now);
}

// No row waits but those that have to: for their topic, or for an operator.
void Relay::look_whether_caught_up(const ReadUnderWay& read, std::size_t rows, bool cut_short) {
    if (read.scope != ReadScope::main || cut_short || fleet_.lanes.current() != fleet_.lanes.owned()) return;
    // Care leaves topics that are behind for later.
    if (rows == 0 && window_.rows() == 0 && guard_.caught_up()) forget_crashes_due_ = true;
    const auto parked = topics_.parked();
    if (std::any_of(parked.begin(), parked.end(),
                    [&](TopicIndex topic) { return topics_[topic].state == Topics::State::behind; }))
        return;
    pacing_.caught_up();
    if (rows == 0 && window_.rows() == 0) cluster_.nothing_to_try();
}

void Relay::account(const ReadUnderWay& read, RowId last, bool cut_short) {
    const RowId reached = cut_short ? last : read.upto;
    switch (read.scope) {
        case ReadScope::main:
            mark_.rows_read(last, cut_short);
            break;
        case ReadScope::lanes:
            fleet_.lanes.advance(read.lanes, reached);
            break;
        case ReadScope::topic:
            if (!read.stale && topics_[read.topic].state == Topics::State::behind) topics_.advance(read.topic, reached);
            break;
        case ReadScope::sweep:
            break;
    }
}

bool Relay::delete_due(Instant now) const {
    if (!session_open_ || window_.rows_acknowledged() == 0 || now < delete_again_at_ ||
        window_.deletes_under_way() >= deletes_under_way_max)
        return false;
    return window_.rows_acknowledged() >= settings_.batch_rows / 2 || now >= acknowledged_at_ + delete_delay ||
           draining_ || recovering_;
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

std::optional<Action> Relay::next_read(Instant now) {
    if (now < read_again_at_ || !control_.known() || control_.paused() || window_.isolating()) return std::nullopt;
    const Circuit& circuit = cluster_.circuit();
    if (circuit.state() == Circuit::State::open) return std::nullopt;
    if (circuit.state() == Circuit::State::half_open && moving() > 0) return std::nullopt;
    return reading_.next({fleet_.lanes, topics_, window_, mark_, pacing_, guard_}, now);
}

std::optional<Action> Relay::next(Instant now) {
    fleet_.lanes.lapse(now, mark_.low());
    turn(now);
    if (auto action = fleet_.next(now, empty_lanes())) {
        if (auto* const renew = std::get_if<RenewLeases>(&*action))
            *renew = {window_.rows_in_flight(), control_.revision()};
        return action;
    }
    if (auto action = control_.next(window_.burying(), now)) return action;
    if (may_relay()) {
        // The next read goes out before the rows of the last one are published: the database works meanwhile.
        if (auto read = next_read(now)) return read;
        if (mark_.probe_due(now)) {
            mark_.probe_sent();
            return Probe{};
        }
    }
    if (delete_due(now)) {
        DeleteRows rows = window_.take_deletes(std::size_t{2} * settings_.batch_rows);
        acknowledged_at_ = window_.rows_acknowledged() > 0 ? now : never;
        return rows;
    }
    if (publish_due_) {
        publish_due_ = false;
        return Publish{admitted_};
    }
    if (session_open_ && window_.burial_waiting() && now >= delete_again_at_) {
        BuryRow burial = window_.take_burial();
        burial.block_key = poison_ == PoisonPolicy::block_key;
        return burial;
    }
    if (session_open_ && guard_.withdrawal_due(now)) {
        guard_.withdrawn();
        return WithdrawNote{};
    }
    if (session_open_ && forget_crashes_due_) {
        forget_crashes_due_ = false;
        return ForgetCrashes{};
    }
    return std::nullopt;
}

Instant Relay::wake_at(Instant now) const {
    Instant at = std::min(fleet_.wake_at(), cluster_.wake_at(moving()));
    if (!session_open_) return at;
    at = std::min({at, control_.wake_at(), guard_.wake_at()});
    if (window_.rows_acknowledged() > 0 && window_.deletes_under_way() < deletes_under_way_max)
        at = std::min(at, std::max(acknowledged_at_ + delete_delay, delete_again_at_));
    if (window_.burial_waiting()) at = std::min(at, delete_again_at_);
    if (!may_relay()) return at;
    at = std::min({at, mark_.probe_at(), topics_.wake_at(cluster_.circuit().closed()), pacing_.wake_at()});
    if (control_.paused() || !control_.known() || cluster_.circuit().state() == Circuit::State::open) return at;
    if (cluster_.circuit().state() == Circuit::State::half_open && moving() > 0) return at;
    if (reading_.blocked() && window_.rows_in_flight() > 0) at = std::min(at, look_for_stalled_at_);
    const Instant read_at = now < read_again_at_ ? read_again_at_ : reading_.wake_at(fleet_.lanes, pacing_, now);
    return std::min({at, read_at, fleet_.lanes.trust_ends(now)});
}

RowId Relay::floor() const {
    RowId floor = std::min(mark_.low(), fleet_.lanes.lowest_resume(fleet_.lanes.settling() | fleet_.lanes.behind()));
    for (const TopicIndex topic : topics_.parked()) floor = std::min(floor, topics_[topic].resume_after);
    if (const auto lowest = window_.lowest()) floor = std::min(floor, RowId{lowest->value - 1});
    return floor;
}

}  // namespace outbox
