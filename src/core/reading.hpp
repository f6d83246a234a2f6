// What to read next. Four kinds of read take turns:
//   main    id > low, the current lanes: new rows
//   lanes   lanes that go back over rows (taken over, or after a failure), from where they resume up to `low`
//   topic   the rows of one topic that comes back after a failure
//   sweep   a safety net over what lies below `low`: a mark that was wrong delays a row, it never loses one
// Where rows are claimed each of them is a claim, and there is no `lanes`: `low` itself stays below what is to be read
// again.
// One at a time, but for a backlog: there a read of `main` asks for all rows up to an id that is settled, and so the
// next ones can go out behind it at once. However far away the server is, it never waits for us between them; and reads
// can be small, so that what is under way fits into a core's cache.
// Also how much: reads never ask for more bytes than the window has room for, whatever sizes come.
// Pure. Owned by Relay; the worker's thread.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <vector>

#include "core/control.hpp"
#include "core/crash_guard.hpp"
#include "core/fleet.hpp"
#include "core/low_mark.hpp"
#include "core/messages.hpp"
#include "core/pacing.hpp"
#include "core/settings.hpp"
#include "core/topics.hpp"
#include "core/window.hpp"

namespace outbox {

enum class ReadScope : std::uint8_t { main, lanes, topic, sweep };

// A read under way. `lanes` shrinks when a lane fails meanwhile: the rows of that lane in the answer are stale.
struct ReadUnderWay {
    ReadScope scope = ReadScope::main;
    LaneSet lanes;
    TopicIndex topic{};
    bool stale = false;  // the topic failed meanwhile
    bool claim = false;
    bool scout = false;  // for the ids alone: they are noted before they are claimed
    bool whole = false;  // asks for all rows up to `upto`: the next read may follow at once
    bool vain = false;   // it followed one that was cut short after all: its rows would overtake
    RowId after;
    RowId upto;
    std::uint32_t limit = 0;
    std::uint64_t bytes_max = 0;  // that its answer may bring
    Instant sent_at{};
};

// What came of a read.
struct ReadOutcome {
    std::size_t rows = 0;  // that came back
    std::uint32_t admitted = 0;
    std::uint64_t bytes = 0;          // admitted
    std::uint32_t largest_bytes = 0;  // of the rows looked at, a withheld one included
    RowId last;                       // the highest id it accounts for
    bool cut_short = false;           // rows may exist beyond it
};

// What a read depends on. The parts are the relay's.
struct ReadingContext {
    Lanes& lanes;
    Topics& topics;
    Window& window;
    const LowMark& mark;
    Pacing& pacing;
    CrashGuard& guard;
    Control& control;
};

class Reading {
public:
    explicit Reading(const RelaySettings& settings);

    std::optional<ReadRows> next(const ReadingContext& context, Instant now);
    Instant wake_at(const Lanes& lanes, const Pacing& pacing, Instant now) const;
    bool blocked() const { return blocked_; }  // for want of room or of tokens

    // What is answered next; null: nothing.
    const ReadUnderWay* under_way() const { return under_way_.empty() ? nullptr : &under_way_.front(); }
    void lane_failed(std::uint8_t lane);
    void topic_failed(TopicIndex topic);
    void forget() { under_way_.clear(); }
    void restart(Instant now);

    void finished(const ReadOutcome& outcome, Instant now);  // the answer was dealt with

private:
    std::optional<ReadRows> next_behind(const ReadUnderWay& last, const ReadingContext& context, Instant now);
    std::optional<ReadRows> send(ReadUnderWay read, const ReadingContext& context);
    void ask_for_all(ReadUnderWay& read, const ReadingContext& context) const;
    std::optional<ReadUnderWay> choose(ReadScope scope, const ReadingContext& context, Instant now);
    std::optional<ReadUnderWay> choose_topic(LaneSet readable, const ReadingContext& context);
    std::optional<ReadUnderWay> choose_sweep(LaneSet readable, const LowMark& mark, Instant now);
    void adapt_stride(const ReadUnderWay& read, const ReadOutcome& outcome);
    void sweep_finished(const ReadUnderWay& read, const ReadOutcome& outcome, Instant now);
    void learn_density(const ReadUnderWay& read, const ReadOutcome& outcome);
    std::uint32_t row_limit(const ReadingContext& context, Instant now) const;
    std::uint32_t rows_awaited() const;
    std::uint64_t bytes_free(const Window& window) const;

    const RelaySettings settings_;
    std::deque<ReadUnderWay> under_way_;
    std::size_t under_way_max_ = 2;  // goes up with each read that brought all it asked for, and back when one did not
    ReadScope turn_ = ReadScope::main;
    std::size_t topic_turn_ = 0;
    std::vector<TopicIndex> without_;
    std::vector<RowId> without_keys_of_;

    // What a row may take, from the largest seen lately. Starts high, so that reads start small.
    std::uint32_t row_bytes_ = 16 * 1024;
    // Rows per read now: doubles while reads come back full, so that a backlog is moved in large strides (fewer
    // statements, larger batches at the broker) and fresh rows in small ones.
    std::uint32_t stride_;
    double ids_per_row_ = 0;  // by the last read of new rows that came back full; 0: it did not
    Instant main_at_{};
    Instant pause_until_{};  // the last read could take nothing: the same one would be in vain at once
    bool blocked_ = false;   // no room, or no tokens
    Duration idle_{};

    Instant sweep_at_ = never;
    RowId sweep_after_;
    RowId sweep_upto_;
    RowId swept_before_;  // where the sweep before this one ended
    RowId sweep_floor_;
    bool sweeping_ = false;
    RowId scouted_upto_ = no_row;  // what the next claim may bring has been noted
};

}  // namespace outbox
