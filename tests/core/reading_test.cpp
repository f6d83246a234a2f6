#include "core/reading.hpp"

#include <doctest/doctest.h>

#include "support/reading_desk.hpp"
#include "support/relay_world.hpp"

using namespace outbox;
using namespace std::chrono_literals;

namespace {

constexpr Instant start = testing::ReadingDesk::start;

struct Desk : testing::ReadingDesk {
    Desk() : ReadingDesk(RowId{100}) { mark.rows_read(RowId{100}, false); }
    void answered(std::size_t rows, bool cut_short, Instant now) {
        reading.finished({.rows = rows,
                          .admitted = static_cast<std::uint32_t>(rows),
                          .bytes = rows * 200,
                          .largest_bytes = 200,
                          .last = RowId{100},
                          .cut_short = cut_short},
                         now);
    }
};

}  // namespace

TEST_CASE("one read at a time, from low on, of the current lanes") {
    Desk desk;
    const auto read = desk.next(start);
    REQUIRE(read.has_value());
    CHECK(read->after == RowId{100});
    CHECK(read->upto == no_row);
    CHECK(read->lanes == LaneSet::only(1));
    CHECK(read->limit == 1000);
    CHECK_FALSE(desk.next(start).has_value());
    CHECK(desk.reading.wake_at(desk.lanes, desk.pacing, start) == never);
}

TEST_CASE("polling slows down while nothing comes, and is prompt when rows do") {
    Desk desk;
    std::vector<Duration> waits;
    Instant now = start;
    for (int i = 0; i < 8; ++i) {
        REQUIRE(desk.next(now).has_value());
        desk.answered(0, false, now);
        waits.push_back(desk.reading.wake_at(desk.lanes, desk.pacing, now) - now);
        CHECK_FALSE(desk.next(now).has_value());
        now += waits.back();
        desk.lanes.renewed(now, LaneSet::only(1));
    }
    CHECK(waits == std::vector<Duration>{1ms, 2ms, 4ms, 8ms, 16ms, 32ms, 50ms, 50ms});
    REQUIRE(desk.next(now).has_value());
    desk.answered(3, false, now);
    CHECK(desk.reading.wake_at(desk.lanes, desk.pacing, now) == now + 1ms);
}

TEST_CASE("a read that filled its limit is followed by the next at once") {
    Desk desk;
    REQUIRE(desk.next(start).has_value());
    desk.answered(1000, true, start);
    CHECK(desk.next(start).has_value());
}

TEST_CASE("a read that took long leaves as much time to everybody else") {
    Desk desk;
    REQUIRE(desk.next(start).has_value());
    desk.answered(0, false, start + 300ms);
    CHECK(desk.reading.wake_at(desk.lanes, desk.pacing, start + 300ms) == start + 600ms);
}

TEST_CASE("a lane that is behind reads from where it resumes, up to low, and nothing newer") {
    Desk desk;
    desk.lanes.fail(1, RowId{40});
    CHECK_FALSE(desk.next(start).has_value());  // not before its rows are home
    desk.lanes.settled(1);
    const auto read = desk.next(start);
    REQUIRE(read.has_value());
    CHECK(read->after == RowId{40});
    CHECK(read->upto == RowId{100});
    CHECK(desk.reading.under_way()->scope == ReadScope::lanes);
}

TEST_CASE("lanes that are not trusted are not read") {
    Desk desk;
    CHECK_FALSE(desk.next(start + 2700ms).has_value());
    desk.lanes.renewed(start + 2700ms, LaneSet::only(1));
    CHECK(desk.next(start + 2700ms).has_value());
}

TEST_CASE("nothing is read while the window has room for crumbs only") {
    Desk desk;
    RowHead row;
    for (std::int64_t id = 1; id <= 19'600; ++id) {
        row.id = RowId{id};
        desk.window.admit(row, false, start);
    }
    CHECK_FALSE(desk.next(start).has_value());
    CHECK(desk.reading.wake_at(desk.lanes, desk.pacing, start) == never);  // an event makes room, time does not
}

TEST_CASE("what lies below low is swept once a minute") {
    Desk desk;
    REQUIRE(desk.next(start).has_value());
    desk.answered(0, false, start);
    const Instant later = start + 61s;
    desk.lanes.renewed(later, LaneSet::only(1));
    bool swept = false;
    for (int i = 0; i < 3; ++i)
        if (const auto read = desk.next(later)) {
            swept = swept || (read->after == RowId{0} && read->upto == RowId{100});
            desk.answered(0, false, later);
        }
    CHECK(swept);
}

TEST_CASE("memory stays bounded when rows of 200 bytes turn into rows of a megabyte") {
    RelayWorldSettings settings;
    settings.limits.message_bytes_max = 2'000'000;
    RelayWorld world(settings);
    world.start();
    world.insert_many(3000);
    world.run_for(1s);
    REQUIRE(world.drained_dry());
    world.broker_up = false;
    world.insert_many(200, {.bytes = 1'048'576});
    world.run_for(2s);
    CHECK(world.bytes_in_flight_max <= settings.relay.in_flight_bytes);
    CHECK(world.in_flight.size() > 10);
    world.broker_up = true;
    world.run_for(3s);
    CHECK(world.drained_dry());
    CHECK(world.bytes_in_flight_max <= settings.relay.in_flight_bytes);
    CHECK(world.problems() == "");
}

TEST_CASE("rows too small to be withheld are bounded as well") {
    RelayWorldSettings settings;
    settings.relay.in_flight_bytes = 1 << 20U;
    RelayWorld world(settings);
    world.start();
    world.insert_many(5000);
    world.run_for(1s);
    REQUIRE(world.drained_dry());
    world.broker_up = false;
    world.insert_many(1000, {.bytes = 15'000});
    world.run_for(1s);
    CHECK(world.bytes_in_flight_max <= settings.relay.in_flight_bytes);
    CHECK(world.in_flight.size() == 61);
    CHECK(world.problems() == "");
}

TEST_CASE("a withheld payload cuts the batch, and the next read asks for fewer rows with more room each") {
    RelayWorld world;
    world.start();
    world.insert_many(10'000);
    world.run_for(2s);
    world.insert({.bytes = 900'000});
    world.reads.clear();
    world.run_for(1s);
    REQUIRE(world.reads.size() > 1);
    CHECK(world.reads[0].payload_bytes_max < 900'000);
    CHECK(world.reads[1].payload_bytes_max >= 900'000);
    CHECK(world.reads[1].limit < world.reads[0].limit);
    CHECK(world.drained_dry());
}

TEST_CASE("a row larger than the window for bytes passes alone") {
    RelayWorldSettings settings;
    settings.relay.in_flight_bytes = 1 << 20U;
    settings.limits.message_bytes_max = 10'000'000;
    RelayWorld world(settings);
    world.start();
    world.insert_many(50, {.bytes = 100'000});
    world.insert({.bytes = 5'000'000});
    world.insert_many(50, {.bytes = 100'000});
    world.run_for(3s);
    CHECK(world.drained_dry());
    CHECK(world.published.size() == 101);
    CHECK(world.bytes_in_flight_max == 5'000'000);
}

TEST_CASE("a row above the broker's limit goes to the dead letters") {
    RelayWorld world;
    world.start();
    const RowId large = world.insert({.bytes = 3'000'000});
    world.insert();
    world.run_for(1s);
    CHECK(world.buried == std::vector{large});
    CHECK(world.persisted.size() == 1);
    CHECK(world.drained_dry());
}

TEST_CASE("rows of a lane whose trust ran out while they were read are not published") {
    RelayWorld world;
    world.start();
    world.prove("orders");
    world.insert();
    world.now += 60ms;
    world.act();
    while (world.execute()) {
    }
    world.now += 3s;
    while (world.answer()) CHECK(world.published.size() == 1);
    world.run_for(1s);
    CHECK(world.drained_dry());
    CHECK(world.problems() == "");
}

TEST_CASE("the floor is below every row that waits") {
    RelayWorld world;
    world.start();
    world.prove("orders");
    world.broker_up = false;
    const RowId first = world.insert();
    world.insert();
    world.run_for(1s);
    CHECK(world.relay.floor() < first);
    world.broker_up = true;
    world.run_for(1s);
    CHECK(world.relay.floor() >= first);
}
