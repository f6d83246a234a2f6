// Relay's third part: what becomes of rows that come back undelivered, or not at all, and of refused statements.
#include <algorithm>

#include "core/relay.hpp"

namespace outbox {

namespace {

using namespace std::chrono_literals;

constexpr Backoff failure_backoff{50ms, 5s};
constexpr Duration look_for_stalled_every = 100ms;

}  // namespace

void Relay::on(const Failed& event, Instant now) {
    for (const FailedRow& row : event.rows) fail_row(row, now);
    turn(now);
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

void Relay::condemn(Slot slot, std::string_view code, std::string_view text) {
    const Window::Entry& row = window_.entry(slot);
    if (poison_ == PoisonPolicy::block_key) control_.block(row.key_hash, row.id, row.lane);
    window_.condemn(slot, code, text);
}

void Relay::fail_lane(std::uint8_t lane, RowId resume_after) {
    if (claims_rows()) return mark_.go_back(resume_after);
    // Rows that commit late may still appear above `low`, and reads leave the lane out meanwhile; so may rows of a
    // topic that is being read again.
    resume_after = std::min(resume_after, mark_.low());
    for (const TopicIndex topic : topics_.parked()) resume_after = std::min(resume_after, topics_[topic].resume_after);
    fleet_.lanes.fail(lane, resume_after);
    reading_.lane_failed(lane);
}

// The rows of one failed batch, and those behind it, count as one failure.
void Relay::hold_reading(Instant now) {
    if (now < read_again_at_) return;
    ++failures_in_a_row_;
    read_again_at_ = now + failure_backoff.delay(failures_in_a_row_, jitter_.next());
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

void Relay::on(const DeleteRefused&, Instant now) {
    window_.delete_refused();
    acknowledged_at_ = std::min(acknowledged_at_, now);
    try_later(deletes_, now);
}

void Relay::on(const RowsMissed&, Instant now) {
    deletes_ = {};
    window_.rows_missed();
    acknowledged_at_ = std::min(acknowledged_at_, now);
}

void Relay::on(const BurialRefused&, Instant now) {
    window_.burial_refused();
    try_later(burials_, now);
}

void Relay::try_later(Retry& retry, Instant now) {
    ++retry.refusals;
    retry.at = now + failure_backoff.delay(retry.refusals, jitter_.next());
}

}  // namespace outbox
