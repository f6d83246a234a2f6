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

}  // namespace

Relay::Relay(const RelaySettings& settings, const TopicSettings& topics, const PacingSettings& pacing,
             RelayLimits limits)
    : settings_(settings),
      limits_(limits),
      fleet_(settings.lease_ttl),
      reading_(settings, pacing),
      window_(settings.in_flight_rows, settings.in_flight_bytes),
      topics_(topics.allow, limits.seed),
      jitter_(~limits.seed) {
    admitted_.reserve(settings.batch_rows);
}

void Relay::on(const SessionOpened&, Instant now) {
    session_open_ = true;
    fleet_.session_opened(now);
    turn(now);
}

void Relay::on(const SessionLost&, Instant now) {
    session_open_ = false;
    recovering_ = true;
    fleet_.session_lost();
    reading_.forget();
    window_.session_lost();
    if (window_.rows_acknowledged() > 0) acknowledged_at_ = now;
}

void Relay::on(const ProducerOpened&, Instant now) {
    producer_open_ = true;
    topics_.producer_opened();
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
    turn(now);
}

void Relay::on(const LanesAcquired& event, Instant now) {
    fleet_.on(event);
    turn(now);
}

void Relay::on(const LanesReleased& event, Instant now) {
    fleet_.on(event);
    turn(now);
}

void Relay::on(const ProbeAnswered& event, Instant now) {
    mark_.probe_answered(event.high, event.holders, now);
}

void Relay::on(const Delivered& event, Instant now) {
    for (const Slot slot : event.slots) {
        const TopicIndex topic = window_.entry(slot).topic;
        topics_.left_flight(topic);
        topics_.taken(topic);
        window_.acknowledge(slot);
    }
    if (!event.slots.empty()) {
        acknowledged_at_ = std::min(acknowledged_at_, now);
        failures_in_a_row_ = 0;
    }
    turn(now);
}

void Relay::on(const Failed& event, Instant now) {
    for (const FailedRow& row : event.rows) fail_row(row, now);
    turn(now);
}

void Relay::on(const RowsDeleted&, Instant now) {
    window_.deleted();
    turn(now);
}

void Relay::on(const RowsBuried&, Instant now) {
    window_.buried();
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
    topics_.left_flight(row.topic);
    switch (failed.failure.kind) {
        case FailureKind::row:
            if (failed.refused_locally || row.solo) {
                window_.condemn(failed.slot, failed.failure.code, failed.failure.text);
                return;
            }
            topics_.suspect(row.topic, row.id);
            reading_.topic_failed(row.topic);
            break;
        case FailureKind::topic:
            topics_.fail(row.topic, resume_after, now);
            reading_.topic_failed(row.topic);
            break;
        case FailureKind::back_pressure:
        case FailureKind::cluster:
        case FailureKind::in_doubt:
        case FailureKind::fatal:
            fail_lane(row.lane, resume_after);
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

// Moves on whatever was waiting for rows to come home.
void Relay::turn(Instant now) {
    if (recovering_ && session_open_ && window_.rows() == 0) {
        recovering_ = false;
        mark_.reset();
        fleet_.lanes.restart();
        reading_.restart(now);
    }
    for (std::uint8_t lane = 0; lane < lane_count && !fleet_.lanes.settling().empty(); ++lane)
        if (fleet_.lanes.settling().contains(lane) && window_.in_flight_of(lane) == 0) fleet_.lanes.settled(lane);
    topics_.turn(now);
}

Relay::Verdict Relay::judge(const RowHead& row, const ReadUnderWay& read, Instant now) {
    if (!read.lanes.contains(row.lane) || window_.contains(row.id)) return Verdict::skip;
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
    if (topic.state != Topics::State::open && !its_own_read) {
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
        if (now < topic.busy_since + unproven_patience) return Verdict::cut;
        topics_.hold(row.topic, RowId{row.id.value - 1});
        return Verdict::skip;
    }
    return !row.payload_withheld && window_.fits(row.bytes) ? Verdict::admit : Verdict::cut;
}

void Relay::condemn(const RowHead& row, std::string_view code, std::string_view text, Instant now) {
    const Slot slot = window_.admit(row, true, now);
    window_.condemn(slot, code, text);
}

void Relay::on(const RowsRead& event, Instant now) {
    require_invariant(reading_.under_way().has_value(), "rows came back that nobody asked for");
    const std::uint32_t limit = reading_.under_way()->limit;
    bool cut_short = event.rows.size() >= limit;
    RowId last = reading_.under_way()->after;
    std::uint64_t bytes = 0;
    std::uint32_t largest_bytes = 0;
    admitted_.clear();
    for (std::size_t i = 0; i < event.rows.size() && !draining_ && producer_open_; ++i) {
        const RowHead& row = event.rows[i];
        // Judged against the read as it is now: a lane that just failed takes no more rows from it.
        largest_bytes = std::max(largest_bytes, row.bytes);
        const Verdict verdict = judge(row, *reading_.under_way(), now);
        if (verdict == Verdict::cut) {
            cut_short = true;
            break;
        }
        last = row.id;
        if (verdict == Verdict::skip) continue;
        const Topics::Topic& topic = topics_[row.topic];
        const bool solo = topic.in_flight == 0 && topics_.one_at_a_time(row.topic, row.id);
        admitted_.push_back({static_cast<std::uint32_t>(i), window_.admit(row, solo, now)});
        topics_.admitted(row.topic, solo, now);
        bytes += row.bytes;
    }
    const ReadUnderWay read = *reading_.under_way();
    // Rows that were read but not looked at leave the marks where they are.
    if (draining_ || !producer_open_) cut_short = cut_short || !event.rows.empty();
    publish_due_ = !admitted_.empty();
    account(read, last, cut_short);
    reading_.finished({.rows = event.rows.size(),
                       .admitted = static_cast<std::uint32_t>(admitted_.size()),
                       .bytes = bytes,
                       .largest_bytes = largest_bytes,
                       .last = last,
                       .cut_short = cut_short},
                      now);
    turn(now);
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
    if (!session_open_ || window_.rows_acknowledged() == 0 || window_.deletes_under_way() >= deletes_under_way_max)
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

std::optional<Action> Relay::next(Instant now) {
    fleet_.lanes.lapse(now, mark_.low());
    turn(now);
    if (auto action = fleet_.next(now, empty_lanes())) return action;
    if (session_open_ && producer_open_ && !draining_ && !recovering_) {
        // The next read goes out before the rows of the last one are published: the database works meanwhile.
        if (now >= read_again_at_)
            if (auto read = reading_.next(fleet_.lanes, topics_, window_, mark_, now)) return *read;
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
    if (session_open_ && window_.burial_waiting()) return window_.take_burial();
    return std::nullopt;
}

Instant Relay::wake_at(Instant now) const {
    Instant at = fleet_.wake_at();
    if (!session_open_) return at;
    if (window_.rows_acknowledged() > 0 && window_.deletes_under_way() < deletes_under_way_max)
        at = std::min(at, acknowledged_at_ + delete_delay);
    if (producer_open_ && !draining_ && !recovering_) {
        const Instant read_at = now < read_again_at_ ? read_again_at_ : reading_.wake_at(fleet_.lanes, now);
        at = std::min({at, read_at, mark_.probe_at(), topics_.retry_at(), fleet_.lanes.trust_ends(now)});
    }
    return at;
}

RowId Relay::floor() const {
    RowId floor = std::min(mark_.low(), fleet_.lanes.lowest_resume(fleet_.lanes.settling() | fleet_.lanes.behind()));
    for (const TopicIndex topic : topics_.parked()) floor = std::min(floor, topics_[topic].resume_after);
    if (const auto lowest = window_.lowest()) floor = std::min(floor, RowId{lowest->value - 1});
    return floor;
}

}  // namespace outbox
