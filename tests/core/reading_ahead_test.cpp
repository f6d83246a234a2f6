// Of a backlog, the next read goes out behind one that is under way.
#include <doctest/doctest.h>

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
    // Until strides are as long as they get, and rows are known to be small.
    void run_in() {
        for (int i = 0; i < 60; ++i) {
            if (reading.under_way() == nullptr) REQUIRE(next());
            answer();
        }
        while (reading.under_way() != nullptr) answer();
    }
};

}  // namespace

TEST_CASE("a read of a backlog asks for all rows up to a settled id, and the next goes out behind it") {
    Backlog backlog;
    backlog.run_in();
    const RowId low = backlog.mark.low();
    const auto first = backlog.next();
    REQUIRE(first);
    CHECK(first->after == low);
    CHECK(first->upto == RowId{low.value + 2500});
    CHECK(first->limit == 2500);
    const auto second = backlog.next();
    REQUIRE(second);
    CHECK(second->after == first->upto);
    CHECK(second->lanes == first->lanes);
    CHECK_FALSE(backlog.next());  // two at most
    backlog.answer();
    const auto third = backlog.next();
    REQUIRE(third);
    CHECK(third->after == second->upto);
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
    REQUIRE(backlog.next());
    const RowId cut_at{first->after.value + 10};
    backlog.answer(cut_at);
    CHECK(backlog.reading.under_way()->vain);
    CHECK_FALSE(backlog.next());
    backlog.answer();
    const auto again = backlog.next();
    REQUIRE(again);
    CHECK(again->after == RowId{cut_at.value - 1});
}

TEST_CASE("no read asks for all rows up to an id that is not settled") {
    Backlog backlog;
    backlog.run_in();
    while (backlog.mark.low().value + 2500 <= settled.value) {
        if (backlog.reading.under_way() == nullptr) REQUIRE(backlog.next());
        backlog.answer();
    }
    while (backlog.reading.under_way() != nullptr) backlog.answer();
    const auto last = backlog.next();
    REQUIRE(last);
    CHECK(last->upto == no_row);
    CHECK_FALSE(backlog.next());
}

TEST_CASE("where ids are not ours alone a read reaches further, and where few rows came LIMIT ends the next one") {
    Backlog backlog;
    backlog.run_in();
    REQUIRE(backlog.next());
    backlog.answer({}, 1250);  // every second id is ours
    const auto further = backlog.next();
    REQUIRE(further);
    CHECK(further->upto == RowId{further->after.value + 4375});  // seven eighths of 5,000: LIMIT is not to be met
    backlog.answer({}, 1249);
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

TEST_CASE("two reads under way share the room in the window") {
    Backlog backlog;
    backlog.run_in();
    const auto first = backlog.next();
    const auto second = backlog.next();
    REQUIRE(first);
    REQUIRE(second);
    const std::uint64_t most = std::uint64_t{first->payload_bytes_max} * first->limit +
                               std::uint64_t{second->payload_bytes_max} * second->limit;
    CHECK(most <= backlog.settings.in_flight_bytes);
    for (std::int64_t id = 1; backlog.window.rows_free() > 6000; ++id)
        backlog.window.admit({.id = RowId{id}, .bytes = 200}, false, start);
    backlog.answer();
    CHECK_FALSE(backlog.next());  // an eighth is kept free, and the one under way may bring 2,500
}

TEST_CASE("a ceiling holds for two reads together") {
    Backlog backlog;
    backlog.run_in();
    backlog.pacing.set_lanes(lane_count, start);
    backlog.pacing.set_ceiling(3000, start);
    const std::uint64_t allowed = backlog.pacing.rows_allowed(1024, start + 1s);
    std::uint64_t asked = 0;
    while (const auto read = backlog.next(start + 1s)) asked += read->limit;
    CHECK(asked > 0);
    CHECK(asked <= allowed);
}
