#include "core/reading.hpp"

#include <algorithm>

namespace outbox {

namespace {

using namespace std::chrono_literals;

constexpr Duration sweep_every = 60s;
constexpr Duration sweep_pause = 100ms;          // between two slices
constexpr std::int64_t sweep_slice = 100'000;    // ids per slice: bounds the dead rows one statement can walk
constexpr std::uint32_t row_bytes_floor = 1024;  // rows vary: no need to take a few small ones for the rule

LaneSet trusted(const Lanes& lanes, LaneSet of, Instant now) {
    for (std::uint8_t lane = 0; lane < lane_count; ++lane)
        if (of.contains(lane) && !lanes.trusted(lane, now)) of.remove(lane);
    return of;
}

}  // namespace

// A tenth of a second's worth is the burst, and never more than one batch: the rate is held over short times too.
Reading::Reading(const RelaySettings& settings, const PacingSettings& pacing)
    : settings_(settings),
      rows_per_second_(pacing.max_rows_per_second,
                       std::clamp<std::uint64_t>(pacing.max_rows_per_second / 10, 1, settings.batch_rows)),
      bytes_per_second_(pacing.max_bytes_per_second, std::max<std::uint64_t>(pacing.max_bytes_per_second / 10, 1)),
      stride_(settings.batch_rows) {}

void Reading::restart(Instant now) {
    main_at_ = now;
    idle_ = {};
    sweeping_ = false;
    sweep_at_ = now + sweep_every;
    sweep_floor_ = swept_before_ = RowId{};
}

void Reading::lane_failed(std::uint8_t lane) {
    if (under_way_) under_way_->lanes.remove(lane);
}

void Reading::topic_failed(TopicIndex topic) {
    if (under_way_ && under_way_->scope == ReadScope::topic && under_way_->topic == topic) under_way_->stale = true;
}

std::uint32_t Reading::row_limit(const Window& window, Instant now) {
    // Half a burst at a time: a read per row would cost the database more than the rows do.
    const std::uint64_t worthwhile = std::max<std::uint64_t>(rows_per_second_.burst() / 2, 1);
    tokens_at_ = std::max(rows_per_second_.when(worthwhile, now), bytes_per_second_.when(1, now));
    if (tokens_at_ > now) return 0;
    if (window.rows_free() < stride_ / 2) return 0;  // rather wait than read in crumbs
    std::uint64_t limit = std::min(stride_, window.rows_free());
    limit = std::min(limit, rows_per_second_.available(now));
    const std::uint64_t room = window.bytes_free() / row_bytes_;
    if (room == 0) return window.bytes_in_flight() == 0 ? 1 : 0;
    return static_cast<std::uint32_t>(std::min(limit, room));
}

std::optional<ReadUnderWay> Reading::choose_topic(LaneSet readable, Lanes& lanes, Topics& topics, const LowMark& mark) {
    const auto parked = topics.parked();
    for (std::size_t i = 0; i < parked.size(); ++i) {
        const TopicIndex index = parked[(topic_turn_ + i) % parked.size()];
        const Topics::Topic& topic = topics[index];
        if (topic.state != Topics::State::behind) continue;
        // Lanes that are not read here pass these rows themselves, when they come back.
        lanes.push_back(topic.resume_after);
        if (topic.resume_after >= mark.low()) {
            topics.caught_up(index);  // invalidates `parked`: the rest has its turn next time
            return std::nullopt;
        }
        const bool alone = topics.one_at_a_time(index, RowId{topic.resume_after.value + 1});
        if (alone && topic.in_flight > 0) continue;
        ++topic_turn_;
        return ReadUnderWay{.scope = ReadScope::topic,
                            .lanes = readable,
                            .topic = index,
                            .after = topic.resume_after,
                            .upto = mark.low(),
                            .limit = alone ? 1U : UINT32_MAX};
    }
    return std::nullopt;
}

std::optional<ReadUnderWay> Reading::choose_sweep(LaneSet readable, const LowMark& mark, Instant now) {
    if (now < sweep_at_) return std::nullopt;
    if (!sweeping_) {
        sweeping_ = true;
        sweep_after_ = sweep_floor_;
        sweep_upto_ = mark.low();
    }
    return ReadUnderWay{.scope = ReadScope::sweep,
                        .lanes = readable,
                        .after = sweep_after_,
                        .upto = std::min(RowId{sweep_after_.value + sweep_slice}, sweep_upto_),
                        .limit = UINT32_MAX};
}

std::optional<ReadUnderWay> Reading::choose(ReadScope scope, Lanes& lanes, Topics& topics, const LowMark& mark,
                                            Instant now) {
    const LaneSet current = trusted(lanes, lanes.current(), now);
    switch (scope) {
        case ReadScope::main:
            if (current.empty() || now < main_at_) return std::nullopt;
            return ReadUnderWay{
                .scope = scope, .lanes = current, .after = mark.low(), .upto = no_row, .limit = UINT32_MAX};
        case ReadScope::lanes: {
            const LaneSet behind = trusted(lanes, lanes.behind(), now);
            if (behind.empty()) return std::nullopt;
            if (lanes.lowest_resume(behind) >= mark.low()) {
                lanes.caught_up(behind);
                main_at_ = now;
                return std::nullopt;
            }
            return ReadUnderWay{.scope = scope,
                                .lanes = behind,
                                .after = lanes.lowest_resume(behind),
                                .upto = mark.low(),
                                .limit = UINT32_MAX};
        }
        case ReadScope::topic:
            // Lanes that come back and a topic that comes back would send each other back for ever: the lanes first.
            if (current.empty() || !trusted(lanes, lanes.behind(), now).empty()) return std::nullopt;
            return choose_topic(current, lanes, topics, mark);
        case ReadScope::sweep:
            return current.empty() ? std::nullopt : choose_sweep(current, mark, now);
    }
    return std::nullopt;
}

std::optional<ReadRows> Reading::next(Lanes& lanes, Topics& topics, Window& window, const LowMark& mark, Instant now) {
    if (under_way_) return std::nullopt;
    const std::uint32_t limit = row_limit(window, now);
    blocked_ = limit == 0;
    if (blocked_ || now < pause_until_) return std::nullopt;
    for (int tries = 0; tries < 4; ++tries) {
        turn_ = static_cast<ReadScope>((static_cast<unsigned>(turn_) + 1) % 4);
        if (auto read = choose(turn_, lanes, topics, mark, now)) {
            read->limit = std::min(read->limit, limit);
            read->sent_at = now;
            return send(*read, window, mark);
        }
    }
    return std::nullopt;
}

std::optional<ReadRows> Reading::send(ReadUnderWay read, Window& window, const LowMark& mark) {
    Window::Known known;
    if (read.scope == ReadScope::main && mark.lags()) {
        known = window.known_above(read.after);
        read.limit += known.rows_beyond;
    }
    under_way_ = read;
    const std::uint64_t room =
        window.bytes_in_flight() == 0 && read.limit == 1 ? UINT32_MAX : window.bytes_free() / read.limit;
    return ReadRows{.after = read.after,
                    .upto = read.upto,
                    .lanes = read.lanes,
                    .topic = read.scope == ReadScope::topic ? std::optional(read.topic) : std::nullopt,
                    .limit = read.limit,
                    .payload_bytes_max = static_cast<std::uint32_t>(std::min<std::uint64_t>(room, UINT32_MAX)),
                    .known_base = known.base,
                    .known = known.bits};
}

void Reading::finished(const ReadOutcome& outcome, Instant now) {
    const ReadUnderWay read = *under_way_;
    under_way_.reset();
    if (read.scope != ReadScope::sweep) adapt_stride(read, outcome);
    rows_per_second_.take(outcome.admitted);
    bytes_per_second_.take(outcome.bytes);
    if (outcome.cut_short && outcome.admitted == 0) pause_until_ = now + settings_.poll_min;
    // A large row is remembered for some dozens of reads: sizes that alternate must not be met by surprise each time.
    row_bytes_ = std::max({outcome.largest_bytes, row_bytes_ - row_bytes_ / 16, row_bytes_floor});
    if (read.scope == ReadScope::main) {
        if (outcome.cut_short && outcome.rows > 0) {
            main_at_ = now;
            idle_ = {};
        } else {
            // A read that took long walked dead rows: as much time is left to everybody else.
            idle_ = outcome.admitted > 0 ? settings_.poll_min
                                         : std::clamp(idle_ * 2, settings_.poll_min, settings_.poll_max);
            main_at_ = now + std::max(idle_, now - read.sent_at);
        }
    }
    if (read.scope == ReadScope::sweep && sweeping_) sweep_finished(read, outcome, now);
}

void Reading::adapt_stride(const ReadUnderWay& read, const ReadOutcome& outcome) {
    const std::uint32_t stride_max = std::max(settings_.in_flight_rows / 4, settings_.batch_rows);
    stride_ = outcome.rows >= read.limit ? std::min(stride_ * 2, stride_max) : settings_.batch_rows;
}

void Reading::sweep_finished(const ReadUnderWay& read, const ReadOutcome& outcome, Instant now) {
    sweep_after_ = outcome.cut_short ? outcome.last : read.upto;
    sweep_at_ = now + sweep_pause;
    if (sweep_after_ < sweep_upto_) return;
    sweeping_ = false;
    sweep_floor_ = swept_before_;
    swept_before_ = sweep_upto_;
    sweep_at_ = now + sweep_every;
}

// next() has been asked until it had nothing more to say: what is left to wait for is time, or an event.
Instant Reading::wake_at(const Lanes& lanes, Instant now) const {
    if (under_way_) return never;
    if (blocked_) return tokens_at_ > now ? tokens_at_ : never;
    if (now < pause_until_) return pause_until_;
    return lanes.current().empty() ? never : std::min(main_at_, sweep_at_);
}

}  // namespace outbox
