// Of a backlog, the next reads go out behind those that are under way.
#include <doctest/doctest.h>

#include <algorithm>
#include <deque>
#include <vector>

#include "support/reading_desk.hpp"

using namespace outbox;
using namespace std::chrono_literals;

namespace {

constexpr Instant start = testing::ReadingDesk::start;
constexpr RowId settled{1'000'000};

// A backlog, all of it settled, of one lane that is current; every id is a row of it.
struct Backlog : testing::ReadingDesk {
    Backlog() : ReadingDesk(settled) {}
    // What is answered next has brought all that it asked for, or so many rows, or nothing from `cut_at` on.
    void answer(std::optional<RowId> cut_at = std::nullopt, std::optional<std::uint32_t> rows = std::nullopt) {
        const ReadUnderWay read = *reading.under_way();
        const RowId full = read.whole ? read.upto : RowId{read.after.value + read.limit};
        const RowId last = cut_at ? RowId{cut_at->value - 1} : full;
        if (!read.vain) mark.rows_read(last, true);
        const std::uint32_t came = rows.value_or(read.limit);
        reading.finished({.rows = came,
                          .admitted = came,
                          .bytes = std::uint64_t{came} * 200,
                          .largest_bytes = 200,
                          .last = last,
                          .cut_short = true},
                         start);
    }
    void answer_all() {
        while (reading.under_way() != nullptr) answer();
    }
    // Until as many go out as ever do, and rows are known to be small.
    void run_in() {
        for (int i = 0; i < 60; ++i) {
            if (reading.under_way() == nullptr) REQUIRE(next());
            answer();
        }
        answer_all();
    }
    std::vector<ReadRows> all_that_go_out(Instant now = start) {
        std::vector<ReadRows> reads;
        while (const auto read = next(now)) reads.push_back(*read);
        return reads;
    }
};

}  // namespace

TEST_CASE(
    "a read of a backlog asks for all rows up to a settled id, and the next ones go out behind it, five at most") {
    Backlog backlog;
    backlog.run_in();
    RowId after = backlog.mark.low();
    const auto reads = backlog.all_that_go_out();
    CHECK(reads.size() == 5);
    for (const ReadRows& read : reads) {
        CHECK(read.after == after);
        CHECK(read.upto == RowId{after.value + 1000});
        CHECK(read.limit == 1000);
        CHECK(read.lanes == reads.front().lanes);
        after = read.upto;
    }
    backlog.answer();
    const auto sixth = backlog.next();
    REQUIRE(sixth);
    CHECK(sixth->after == after);
    CHECK_FALSE(backlog.next());
}

TEST_CASE("two go out at most after one that was cut short, and one more with each that brought all it asked for") {
    Backlog backlog;
    backlog.run_in();
    const auto first = backlog.next();
    REQUIRE(first);
    backlog.answer(RowId{first->after.value + 10});
    std::size_t under_way = 0;
    for (const std::size_t expected : {2U, 3U, 4U, 5U, 5U}) {
        under_way += backlog.all_that_go_out().size();
        CHECK(under_way == expected);
        backlog.answer();
        --under_way;
    }
}

TEST_CASE("nothing goes out behind a read that LIMIT ends") {
    Backlog backlog;
    const auto first = backlog.next();
    REQUIRE(first);
    CHECK(first->upto == no_row);
    CHECK_FALSE(backlog.next());
}

TEST_CASE("what went out behind a read that was cut short is in vain, and nothing follows it") {
    Backlog backlog;
    backlog.run_in();
    const auto first = backlog.next();
    REQUIRE(first);
    CHECK(backlog.all_that_go_out().size() == 4);
    const RowId cut_at{first->after.value + 10};
    backlog.answer(cut_at);
    for (int i = 0; i < 4; ++i) {
        CHECK(backlog.reading.under_way()->vain);
        CHECK_FALSE(backlog.next());
        backlog.answer();
    }
    const auto again = backlog.next();
    REQUIRE(again);
    CHECK(again->after == RowId{cut_at.value - 1});
}

TEST_CASE("no read asks for all rows up to an id that is not settled") {
    Backlog backlog;
    backlog.run_in();
    while (backlog.mark.low().value + 1000 <= settled.value) {
        if (backlog.reading.under_way() == nullptr) REQUIRE(backlog.next());
        backlog.answer();
    }
    backlog.answer_all();
    const auto last = backlog.next();
    REQUIRE(last);
    CHECK(last->upto == no_row);
    CHECK_FALSE(backlog.next());
}

TEST_CASE("where ids are not ours alone a read reaches further, and where few rows came LIMIT ends the next one") {
    Backlog backlog;
    backlog.run_in();
    REQUIRE(backlog.next());
    backlog.answer({}, 500);  // every second id is ours
    const auto further = backlog.next();
    REQUIRE(further);
    CHECK(further->upto == RowId{further->after.value + 1750});  // seven eighths of 2,000: LIMIT is not to be met
    backlog.answer({}, 499);
    const auto anew = backlog.next();
    REQUIRE(anew);
    CHECK(anew->upto == no_row);
}

TEST_CASE("nothing goes out behind a read while lanes have to go back, or a sweep is due") {
    Backlog backlog;
    backlog.run_in();
    REQUIRE(backlog.next());
    backlog.lanes.renewed(start + 61s, LaneSet::only(1));
    CHECK_FALSE(backlog.next(start + 61s));
    backlog.lanes.acquired(start, LaneSet::only(2));
    backlog.lanes.settled(2);
    CHECK_FALSE(backlog.next());
}

TEST_CASE("reads under way share the room in the window") {
    Backlog backlog;
    backlog.run_in();
    std::uint64_t most = 0;
    for (const ReadRows& read : backlog.all_that_go_out()) {
        most += std::uint64_t{read.payload_bytes_max} * read.limit;
        CHECK(read.payload_bytes_max >= 6000);  // a fifth each
    }
    CHECK(most <= backlog.settings.in_flight_bytes);
    for (std::int64_t id = 1; backlog.window.rows_free() > 6000; ++id)
        backlog.window.admit({.id = RowId{id}, .bytes = 200}, false, start);
    backlog.answer();
    CHECK_FALSE(backlog.next());  // an eighth is kept free, and those under way may bring 4,000
}

TEST_CASE("what reads under way may bring and what is in flight never take more than the room, however it changes") {
    Backlog backlog;
    backlog.run_in();
    std::deque<std::uint64_t> awaited;
    std::int64_t id = 1;
    std::vector<Slot> in_flight;
    std::size_t most_reads = 0;
    for (int turn = 0; turn < 200; ++turn) {
        for (const ReadRows& read : backlog.all_that_go_out())
            awaited.push_back(std::uint64_t{read.payload_bytes_max} * read.limit);
        most_reads = std::max(most_reads, awaited.size());
        std::uint64_t most = backlog.window.bytes_in_flight();
        for (const std::uint64_t bytes : awaited) most += bytes;
        REQUIRE(most <= backlog.settings.in_flight_bytes);
        if (!awaited.empty()) {  // it brings the most it may
            const auto bytes = static_cast<std::uint32_t>(awaited.front());
            awaited.pop_front();
            in_flight.push_back(backlog.window.admit({.id = RowId{id++}, .bytes = bytes}, false, start));
            backlog.answer();
        }
        if (turn % 3 != 0) continue;
        for (const Slot slot : in_flight) backlog.window.acknowledge(slot);
        in_flight.clear();
    }
    CHECK(most_reads == 5);
    CHECK(id > 60);
}

TEST_CASE("a ceiling holds for reads under way together") {
    Backlog backlog;
    backlog.run_in();
    backlog.pacing.set_lanes(lane_count, start);
    backlog.pacing.set_ceiling(2500, start);
    const std::uint64_t allowed = backlog.pacing.rows_allowed(1024, start + 1s);
    std::uint64_t asked = 0;
    for (const ReadRows& read : backlog.all_that_go_out(start + 1s)) asked += read.limit;
    CHECK(asked > 0);
    CHECK(asked <= allowed);
}
