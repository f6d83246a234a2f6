// Relay's second part: what becomes of the rows of a read, one verdict each.
#include <algorithm>

#include "core/invariant.hpp"
#include "core/relay.hpp"

namespace outbox {

namespace {

using namespace std::chrono_literals;

// A topic the broker has not yet taken a row for may fill only this part of the window: it may not exist. Its first
// acknowledgement is waited for this long, so that it need not be read apart; then the others go on without it.
constexpr std::uint32_t unproven_part = 16;
constexpr Duration unproven_patience = 250ms;

// What a record, and a batch of them, takes beyond key, payload and headers at most.
constexpr std::uint64_t record_overhead = 128;
constexpr std::uint64_t batch_overhead = 100;

}  // namespace

// The brokers may well reject it, and would reject with it whatever is in its batch.
bool Relay::goes_alone(const RowHead& row) const {
    const Topics::Topic& topic = topics_[row.topic];
    return topics_.one_at_a_time(row.topic, row.id) ||
           row.bytes + record_overhead + batch_overhead > topic.batch_bytes_max ||
           (topic.keys_required && row.key_hash == 0);
}

bool Relay::overfills(const Topics::Topic& topic, const RowHead& row) const {
    if (topic.batch_bytes_max >= limits_.message_bytes_max) return false;  // the producer's batches are smaller anyway
    return topic.bytes_in_flight + row.bytes + (topic.in_flight + 1) * record_overhead + batch_overhead >
           topic.batch_bytes_max;
}

Relay::Verdict Relay::judge(const RowHead& row, const ReadUnderWay& read, Instant now) {
    if (!read.lanes.contains(row.lane) || control_.pass_over(row.key_hash, row.id)) return Verdict::skip;
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
    if (topic.limits_awaited_since != never) {
        limits_wait_ends_ = topics_.limits_patience_ends(row.topic);
        if (now < limits_wait_ends_) return Verdict::cut;
        topics_.hold(row.topic, RowId{row.id.value - 1});
        return Verdict::skip;
    }
    // A topic that goes one row at a time: the next one's turn comes when this one is home, be that one suspect or not.
    // And what is in flight must not make a batch that the brokers reject as a whole.
    if (topic.in_flight > 0 && (topic.solo_in_flight || goes_alone(row) || overfills(topic, row))) {
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

void Relay::admit(std::uint32_t place_in_read, const RowHead& row, Instant now) {
    const bool solo = topics_[row.topic].in_flight == 0 && goes_alone(row);
    admitted_.push_back({place_in_read, window_.admit(row, solo, now), row.topic, row.lane});
    topics_.admitted(row.topic, row.bytes, solo, now);
}

bool Relay::takes_rows(const ReadUnderWay& read, Instant now) const {
    const bool held = !read.claim || !claim_.expired(now);
    return !draining_ && producer_open_ && !control_.paused() && held && !read.scout &&
           cluster_.circuit().state() != Circuit::State::open;
}

void Relay::on(const RowsRead& event, Instant now) {
    require_invariant(reading_.under_way() != nullptr, "rows came back that nobody asked for");
    const ReadUnderWay& asked = *reading_.under_way();
    if (asked.vain) {
        reading_.finished({}, now);
        return turn(now);
    }
    const bool take = takes_rows(asked, now);
    if (asked.claim) claim_.answered();
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
        admit(static_cast<std::uint32_t>(i), row, now);
        bytes += row.bytes;
    }
    const ReadUnderWay read = *reading_.under_way();
    // Rows that were read but not looked at leave the marks where they are.
    if (!take) cut_short = cut_short || !event.rows.empty();
    if (read.scout && !event.rows.empty()) last = event.rows.back().id;
    if (read.whole && (!cut_short || last == read.upto)) {
        last = read.upto;
        cut_short = true;  // beyond it
    }
    // What others have claimed may be ours some day.
    if (read.claim && read.scope != ReadScope::sweep && event.rows.empty() && event.lowest != no_row) cut_short = true;
    publish_due_ = !admitted_.empty();
    // One that was kept small, by a ceiling or by care, is followed by nothing for a while.
    more_follow_ = (read.whole || event.rows.size() >= read.limit) && read.limit >= settings_.batch_rows;
    if (publish_due_) {
        cluster_.sent(moving_before, now);
        guard_.rows_came(now);
    }
    pacing_.spent(admitted_.size(), bytes);
    if (read.claim) account_claim(read, last, event.lowest);
    if (!read.claim && !read.scout) account(read, last, cut_short);
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
    // Held for want of acknowledgements alone, as in an outage, a topic comes back by itself, and its rows still wait.
    if (std::any_of(parked.begin(), parked.end(), [&](TopicIndex topic) {
            const Topics::Topic& one = topics_[topic];
            return one.state == Topics::State::behind || (!one.paused && one.circuit.closed());
        }))
        return;
    pacing_.caught_up();
    if (rows == 0 && window_.rows() == 0) cluster_.nothing_to_try();
}

// What is there may be locked by others, who may give it back: the marks stay below it.
void Relay::account_claim(const ReadUnderWay& read, RowId last, RowId lowest) {
    const RowId empty_upto = lowest == no_row ? read.upto : RowId{lowest.value - 1};
    if (read.scope == ReadScope::main) mark_.rows_claimed(last, empty_upto);
    if (read.scope == ReadScope::topic && !read.stale && topics_[read.topic].state == Topics::State::behind)
        topics_.advance(read.topic, empty_upto);
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

}  // namespace outbox
