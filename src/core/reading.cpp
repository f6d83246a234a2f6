#include "core/reading.hpp"

#include <algorithm>

namespace outbox {

namespace {

using namespace std::chrono_literals;

constexpr Duration sweep_every = 60s;
constexpr Duration sweep_pause = 100ms;          // between two slices
constexpr std::int64_t sweep_slice = 100'000;    // ids per slice: bounds the dead rows one statement can walk
constexpr std::uint32_t row_bytes_floor = 1024;  // rows vary: no need to take a few small ones for the rule

// A part of the window is kept free, so that a topic that is stuck never fills all of it: once that topic is parked,
// what it has in flight no longer counts, and the others have the rest.
constexpr std::uint32_t kept_free = 8;

// Where ids are not ours alone, our rows lie closer together here and there: LIMIT is not to be met before `upto` is.
constexpr double surely = 0.875;

// So many batches are what a server a few milliseconds away can send in the meantime.
constexpr std::size_t reads_under_way_max = 5;

constexpr std::ptrdiff_t without_max = 100;  // topics a read names to leave out
constexpr std::size_t without_keys_max = 1000;

template <class Amount>
Amount room(Amount all, Amount used, Amount parked) {
    const Amount usable = parked >= all ? all : all - (all - parked) / kept_free;
    return usable > used ? usable - used : 0;
}

LaneSet trusted(const Lanes& lanes, LaneSet of, Instant now) {
    for (std::uint8_t lane = 0; lane < lane_count; ++lane)
        if (of.contains(lane) && !lanes.trusted(lane, now)) of.remove(lane);
    return of;
}

}  // namespace

Reading::Reading(const RelaySettings& settings) : settings_(settings), stride_(settings.batch_rows) {}

void Reading::restart(Instant now) {
    main_at_ = now;
    idle_ = {};
    sweeping_ = false;
    sweep_at_ = now + sweep_every;
    sweep_floor_ = swept_before_ = RowId{};
    scouted_upto_ = no_row;
}

void Reading::lane_failed(std::uint8_t lane) {
    for (ReadUnderWay& read : under_way_) read.lanes.remove(lane);
}

void Reading::topic_failed(TopicIndex topic) {
    for (ReadUnderWay& read : under_way_)
        if (read.scope == ReadScope::topic && read.topic == topic) read.stale = true;
}

std::uint32_t Reading::rows_awaited() const {
    std::uint32_t rows = 0;
    for (const ReadUnderWay& read : under_way_) rows += read.limit;
    return rows;
}

// Beside all that the reads under way may bring.
std::uint64_t Reading::bytes_free(const Window& window) const {
    std::uint64_t awaited = 0;
    for (const ReadUnderWay& read : under_way_) awaited += read.bytes_max;
    return window.bytes_free() > awaited ? window.bytes_free() - awaited : 0;
}

std::uint32_t Reading::row_limit(const ReadingContext& context, Instant now) const {
    const Window& window = context.window;
    const std::uint32_t awaited = rows_awaited();
    std::uint64_t limit = context.pacing.rows_allowed(row_bytes_, now);
    if (limit <= awaited) return 0;
    limit -= awaited;
    if (context.guard.active() && window.rows() > 0) return 0;  // what is handled with care is handled alone
    const std::uint32_t parked = context.topics.parked_in_flight();
    const std::uint32_t moving = window.rows_in_flight() - parked + awaited;
    const std::uint32_t in_flight_max = context.pacing.in_flight_limit();
    const std::uint32_t rows_free = std::min(room(settings_.in_flight_rows, window.rows() + awaited, parked),
                                             in_flight_max > moving ? in_flight_max - moving : 0U);
    // Rather wait than read in crumbs.
    const std::uint32_t stride = std::min({stride_, in_flight_max, settings_.in_flight_rows - parked});
    if (rows_free == 0 || rows_free < stride / 2) return 0;
    limit = std::min<std::uint64_t>({limit, stride, rows_free});
    const std::uint64_t bytes_used = window.bytes_in_flight() + std::uint64_t{awaited} * row_bytes_;
    const std::uint64_t bytes_free =
        room(settings_.in_flight_bytes, bytes_used, context.topics.parked_bytes_in_flight());
    const std::uint64_t fitting = bytes_free / row_bytes_;
    if (fitting == 0) return bytes_used == 0 ? 1 : 0;
    return static_cast<std::uint32_t>(std::min(limit, fitting));
}

std::optional<ReadUnderWay> Reading::choose_topic(LaneSet readable, const ReadingContext& context) {
    Topics& topics = context.topics;
    const LowMark& mark = context.mark;
    auto parked = topics.parked();
    for (std::size_t i = 0; i < parked.size();) {
        const TopicIndex index = parked[(topic_turn_ + i++) % parked.size()];
        const Topics::Topic& topic = topics[index];
        if (topic.state != Topics::State::behind) continue;
        // Lanes that are not read here pass these rows themselves, when they come back.
        context.lanes.push_back(topic.resume_after);
        if (topic.resume_after >= mark.low()) {
            // The next one's turn is now: no event would bring it, only the next read of new rows.
            topics.caught_up(index);
            parked = topics.parked();
            i = 0;
            continue;
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

std::optional<ReadUnderWay> Reading::choose(ReadScope scope, const ReadingContext& context, Instant now) {
    Lanes& lanes = context.lanes;
    const LowMark& mark = context.mark;
    const LaneSet current = trusted(lanes, lanes.current(), now);
    switch (scope) {
        case ReadScope::main:
            if (current.empty() || now < main_at_) return std::nullopt;
            return ReadUnderWay{
                .scope = scope, .lanes = current, .after = mark.low(), .upto = scouted_upto_, .limit = UINT32_MAX};
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
            if (current.empty() || context.guard.active() || !trusted(lanes, lanes.behind(), now).empty())
                return std::nullopt;
            return choose_topic(current, context);
        case ReadScope::sweep:
            return current.empty() || context.guard.active() ? std::nullopt : choose_sweep(current, mark, now);
    }
    return std::nullopt;
}

std::optional<ReadRows> Reading::next(const ReadingContext& context, Instant now) {
    if (!under_way_.empty()) return next_behind(ReadUnderWay(under_way_.back()), context, now);
    const std::uint32_t limit = row_limit(context, now);
    blocked_ = limit == 0;
    if (blocked_ || now < pause_until_) return std::nullopt;
    for (int tries = 0; tries < 4; ++tries) {
        turn_ = static_cast<ReadScope>((static_cast<unsigned>(turn_) + 1) % 4);
        if (auto read = choose(turn_, context, now)) {
            read->limit = std::min({read->limit, limit, context.guard.rows_max(read->after)});
            read->sent_at = now;
            ask_for_all(*read, context);
            return send(*read, context);
        }
    }
    return std::nullopt;
}

// The next read of new rows, behind one of all rows up to an id, unless another kind's turn has come.
std::optional<ReadRows> Reading::next_behind(const ReadUnderWay& last, const ReadingContext& context, Instant now) {
    if (under_way_.size() >= under_way_max_ || !last.whole || last.vain || now < pause_until_ || now >= sweep_at_ ||
        context.guard.notes() || context.mark.lags() || !context.lanes.behind().empty() ||
        trusted(context.lanes, context.lanes.current(), now) != last.lanes)
        return std::nullopt;
    const auto parked = context.topics.parked();
    const auto comes_back = [&](TopicIndex topic) { return context.topics[topic].state == Topics::State::behind; };
    if (std::any_of(parked.begin(), parked.end(), comes_back)) return std::nullopt;
    const std::uint32_t limit = row_limit(context, now);
    if (limit == 0) return std::nullopt;
    ReadUnderWay read{.lanes = last.lanes, .after = last.upto, .upto = no_row, .limit = limit, .sent_at = now};
    ask_for_all(read, context);
    return send(read, context);
}

// Bounds a read of new rows by an id as well as by LIMIT, where it can be told which id so many rows reach to, and
// everything up to there is settled.
void Reading::ask_for_all(ReadUnderWay& read, const ReadingContext& context) const {
    if (read.scope != ReadScope::main || settings_.claim == ClaimMode::rows || ids_per_row_ == 0 ||
        context.mark.lags() || context.guard.notes())
        return;
    // Those that may follow share the room with it: where there is none for a second one, it takes all.
    const std::uint64_t free = bytes_free(context.window);
    const std::uint64_t places = under_way_max_ - under_way_.size();
    const std::uint64_t sharing = std::min(places, free / (std::uint64_t{read.limit} * row_bytes_));
    if (sharing < std::min<std::uint64_t>(places, 2)) return;
    const auto rows = static_cast<std::int64_t>(read.limit);
    const auto ids = static_cast<std::int64_t>(static_cast<double>(rows) * ids_per_row_ * surely);
    const RowId upto{read.after.value + std::max(rows, ids)};
    if (upto > context.mark.settled()) return;
    read.upto = upto;
    read.whole = true;
    read.bytes_max = free / sharing;
}

std::optional<ReadRows> Reading::send(ReadUnderWay read, const ReadingContext& context) {
    Window& window = context.window;
    Window::Known known;
    without_.clear();
    without_keys_of_.clear();
    bool noted = context.guard.notes() && (read.scope == ReadScope::main || read.scope == ReadScope::lanes);
    if (settings_.claim == ClaimMode::rows) {
        // A note inside the claim would go with it when the process dies: it is written before.
        noted = read.scout = noted && scouted_upto_ == no_row;
        read.claim = !read.scout;
    }
    const bool lags = read.scope == ReadScope::main && context.mark.lags();
    if (read.claim ? window.rows() > window.rows_deleting() : lags) {
        known =
            window.known_above(read.after, read.claim);  // claims keep no order, and let rows go that are still sent
        read.limit += known.rows_beyond;
    }
    if (read.claim ? read.scope == ReadScope::main : lags) {
        // Every read begins at the same place: rows that have to wait would fill each of them.
        const auto parked = context.topics.parked();
        without_.assign(parked.begin(), parked.begin() + std::min<std::ptrdiff_t>(std::ssize(parked), without_max));
        const RowId first{read.after.value + 1};
        for (const TopicIndex topic : without_) context.topics.pass_over(topic, first);
        context.control.blocking_rows(without_keys_of_, without_keys_max);
        if (!without_keys_of_.empty()) context.control.pass_over_all(first);
    }
    if (!read.whole) read.bytes_max = bytes_free(window);
    const bool alone = !read.whole && under_way_.empty() && window.bytes_in_flight() == 0 && read.limit == 1;
    const std::uint64_t bytes_each = alone ? UINT32_MAX : read.bytes_max / read.limit;
    under_way_.push_back(read);
    if (noted) context.guard.sent();
    return ReadRows{.after = read.after,
                    .upto = read.upto,
                    .lanes = read.lanes,
                    .topic = read.scope == ReadScope::topic ? std::optional(read.topic) : std::nullopt,
                    .limit = read.limit,
                    .payload_bytes_max = static_cast<std::uint32_t>(std::min<std::uint64_t>(bytes_each, UINT32_MAX)),
                    .known_base = known.base,
                    .known = known.bits,
                    .without = without_,
                    .without_keys_of = without_keys_of_,
                    .noted = noted,
                    .claim = read.claim};
}

void Reading::finished(const ReadOutcome& outcome, Instant now) {
    const ReadUnderWay read = under_way_.front();
    under_way_.pop_front();
    if (read.vain) return;
    const bool brought_all = read.whole && outcome.last >= read.upto;
    under_way_max_ = brought_all ? std::min(under_way_max_ + 1, reads_under_way_max) : 2;
    if (read.whole && !brought_all)
        for (ReadUnderWay& next : under_way_) next.vain = true;
    if (read.scope != ReadScope::sweep) adapt_stride(read, outcome);
    if (read.scope == ReadScope::main) learn_density(read, outcome);
    if (outcome.cut_short && outcome.admitted == 0) pause_until_ = now + settings_.poll_min;
    // A large row is remembered for some dozens of reads: sizes that alternate must not be met by surprise each time.
    row_bytes_ = std::max({outcome.largest_bytes, row_bytes_ - row_bytes_ / 16, row_bytes_floor});
    if (read.scope == ReadScope::main) {
        scouted_upto_ = read.scout && outcome.rows > 0 ? outcome.last : no_row;
        if (outcome.cut_short && (outcome.rows > 0 || read.whole)) {
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
    stride_ = read.whole || outcome.rows >= read.limit ? std::min(stride_ * 2, settings_.rows_per_statement_max())
                                                       : settings_.batch_rows;
}

// Where a read of all rows up to an id brought far fewer than it might have, LIMIT is to tell anew how far they reach.
void Reading::learn_density(const ReadUnderWay& read, const ReadOutcome& outcome) {
    const std::uint32_t enough = read.whole ? std::max(read.limit / 2, 1U) : read.limit;
    const auto ids = static_cast<double>(outcome.last.value - read.after.value);
    ids_per_row_ = outcome.rows < enough ? 0 : std::max(ids / static_cast<double>(outcome.rows), 1.0);
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
Instant Reading::wake_at(const Lanes& lanes, const Pacing& pacing, Instant now) const {
    if (!under_way_.empty()) return never;
    if (blocked_) return pacing.allowed_at() > now ? pacing.allowed_at() : never;
    if (now < pause_until_) return pause_until_;
    return lanes.current().empty() ? never : std::min(main_at_, sweep_at_);
}

}  // namespace outbox
