#include "core/window.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <map>
#include <random>
#include <set>

#include "support/relay_world.hpp"

using namespace outbox;
using namespace std::chrono_literals;

namespace {

constexpr Instant start{std::chrono::seconds(10)};

RowHead row(std::int64_t id, std::uint32_t bytes = 100, std::uint8_t lane = 1) {
    RowHead head;
    head.id = RowId{id};
    head.event_id[0] = static_cast<std::uint8_t>(id);
    head.bytes = bytes;
    head.lane = lane;
    return head;
}

std::vector<RowId> sorted(std::span<const RowId> ids) {
    std::vector<RowId> rows(ids.begin(), ids.end());
    std::sort(rows.begin(), rows.end());
    return rows;
}

bool bit(const Window::Known& known, std::int64_t id) {
    const auto at = static_cast<std::size_t>(id - known.base.value);
    return at / 8 < known.bits.size() && ((unsigned{known.bits[at / 8]} >> (at % 8)) & 1U) != 0;
}

}  // namespace

TEST_CASE("the window is bounded in rows and in bytes") {
    Window window(3, 250);
    CHECK(window.fits(250));
    window.admit(row(1), false, start);
    window.admit(row(2), false, start);
    CHECK(window.fits(50));
    CHECK_FALSE(window.fits(51));
    CHECK(window.bytes_free() == 50);
    window.admit(row(3, 0), false, start);
    CHECK_FALSE(window.fits(0));
    CHECK(window.rows_free() == 0);
}

TEST_CASE("a row larger than the window passes alone") {
    Window window(3, 250);
    CHECK(window.fits(1000));
    const Slot slot = window.admit(row(1, 1000), false, start);
    CHECK_FALSE(window.fits(1));
    CHECK(window.bytes_free() == 0);
    window.acknowledge(slot);
    CHECK(window.fits(1000));
}

TEST_CASE("bytes count while a row is in flight, the row until it is deleted") {
    Window window(10, 1000);
    const Slot slot = window.admit(row(7), false, start);
    CHECK(window.bytes_in_flight() == 100);
    CHECK(window.in_flight_of(1) == 1);
    CHECK(window.contains(RowId{7}));
    window.acknowledge(slot);
    CHECK(window.bytes_in_flight() == 0);
    CHECK(window.in_flight_of(1) == 0);
    CHECK(window.held_of(1) == 1);
    CHECK(sorted(window.take_deletes(10).ids) == std::vector{RowId{7}});
    CHECK(window.contains(RowId{7}));
    CHECK(window.deleted() == 1);
    CHECK_FALSE(window.contains(RowId{7}));
    CHECK(window.held_of(1) == 0);
    CHECK(window.rows() == 0);
}

TEST_CASE("rows that were missed where they lay are deleted by id and event id the next time") {
    Window window(10, 10'000);
    RowHead head = row(7);
    head.place = 70;
    const Slot slot = window.admit(head, false, start);
    window.acknowledge(slot);
    const DeleteRows first = window.take_deletes(10);
    CHECK(first.event_ids.empty());
    REQUIRE(first.places.size() == 1);
    CHECK(first.places[0] == 70);
    window.rows_missed();
    CHECK(window.rows_acknowledged() == 1);
    const DeleteRows second = window.take_deletes(10);
    CHECK(sorted(second.ids) == std::vector{RowId{7}});
    CHECK(second.event_ids.size() == 1);
    CHECK(second.places.empty());
    CHECK(window.deleted() == 1);
    CHECK(window.rows() == 0);
}

TEST_CASE("only acknowledged rows are deleted, by exact ids") {
    Window window(10, 10'000);
    std::vector<Slot> slots;
    for (const std::int64_t id : {10, 20, 30, 40}) slots.push_back(window.admit(row(id), false, start));
    window.acknowledge(slots[0]);
    window.acknowledge(slots[2]);
    const DeleteRows rows = window.take_deletes(10);
    CHECK(sorted(rows.ids) == std::vector{RowId{10}, RowId{30}});
    CHECK(rows.event_ids.empty());
    CHECK(window.rows_acknowledged() == 0);
    CHECK(window.deletes_under_way() == 1);
}

TEST_CASE("the lowest of the acknowledged rows are deleted first, whichever was acknowledged first") {
    Window window(10, 10'000);
    std::vector<Slot> slots;
    for (const std::int64_t id : {1, 2, 3, 4, 5, 6}) slots.push_back(window.admit(row(id), false, start));
    for (const std::size_t i : {5U, 1U, 3U, 0U, 4U}) window.acknowledge(slots[i]);
    CHECK(sorted(window.take_deletes(2).ids) == std::vector{RowId{1}, RowId{2}});
    window.acknowledge(slots[2]);
    CHECK(sorted(window.take_deletes(3).ids) == std::vector{RowId{3}, RowId{4}, RowId{5}});
    CHECK(sorted(window.take_deletes(3).ids) == std::vector{RowId{6}});
}

TEST_CASE("as many deletes as may be under way are answered in the order they were sent") {
    constexpr auto rows = std::int64_t{2 * deletes_under_way_max};
    Window window(rows, 10'000);
    window.acknowledge(window.admit(row(1000), false, start));
    window.take_deletes(1);
    window.deleted();  // the ring does not begin at its beginning
    for (std::int64_t id = 0; id < rows; ++id) window.acknowledge(window.admit(row(id), false, start));
    for (std::int64_t id = 0; id < rows; id += 2)
        CHECK(sorted(window.take_deletes(2).ids) == std::vector{RowId{id}, RowId{id + 1}});
    CHECK(window.deletes_under_way() == deletes_under_way_max);
    for (std::int64_t id = 0; id < rows; id += 2) {
        CHECK(window.contains(RowId{id}));
        CHECK(window.deleted() == 2);
        CHECK_FALSE(window.contains(RowId{id + 1}));
    }
    CHECK(window.rows() == 0);
}

TEST_CASE("after a lost session deletes under way are sent again, with event ids") {
    Window window(10, 10'000);
    const Slot one = window.admit(row(1), false, start);
    const Slot two = window.admit(row(2), false, start);
    const Slot three = window.admit(row(3), false, start);
    window.acknowledge(one);
    window.take_deletes(10);
    window.acknowledge(two);
    window.session_lost();
    CHECK(window.deletes_under_way() == 0);
    CHECK(window.rows_acknowledged() == 2);
    const DeleteRows again = window.take_deletes(10);
    CHECK(sorted(again.ids) == std::vector{RowId{1}, RowId{2}});
    REQUIRE(again.event_ids.size() == 2);
    for (std::size_t i = 0; i < 2; ++i) CHECK(again.event_ids[i][0] == again.ids[i].value);
    window.deleted();
    window.acknowledge(three);  // read on the old session, acknowledged on the new one
    CHECK(window.take_deletes(10).event_ids.size() == 1);
    window.deleted();
    window.acknowledge(window.admit(row(4), false, start));
    CHECK(window.take_deletes(10).event_ids.empty());
}

TEST_CASE("rows of an earlier session are deleted apart from those of this one") {
    Window window(10, 10'000);
    const Slot old = window.admit(row(1), false, start);
    window.session_lost();
    const Slot fresh = window.admit(row(2), false, start);
    window.acknowledge(old);
    window.acknowledge(fresh);
    const DeleteRows first = window.take_deletes(10);
    CHECK(sorted(first.ids) == std::vector{RowId{1}});
    CHECK(first.event_ids.size() == 1);
    const DeleteRows second = window.take_deletes(10);
    CHECK(sorted(second.ids) == std::vector{RowId{2}});
    CHECK(second.event_ids.empty());
}

TEST_CASE("a condemned row is buried once, and again after a lost session") {
    Window window(10, 10'000);
    window.condemn(window.admit(row(5), true, start), "TOO_BAD", "because");
    CHECK(window.burial_waiting());
    CHECK(window.bytes_in_flight() == 0);
    BuryRow burial = window.take_burial();
    CHECK(burial.id == RowId{5});
    CHECK(burial.event_id[0] == 5);
    CHECK_FALSE(window.burial_waiting());
    window.session_lost();
    CHECK(window.burial_waiting());
    burial = window.take_burial();
    CHECK(burial.code == "TOO_BAD");
    CHECK(burial.text == "because");
    CHECK(window.contains(RowId{5}));
    window.buried();
    CHECK(window.rows() == 0);
    CHECK(window.held_of(1) == 0);
}

TEST_CASE("a released row is gone and may be read again") {
    Window window(1, 100);
    window.release(window.admit(row(5), false, start));
    CHECK_FALSE(window.contains(RowId{5}));
    CHECK(window.bytes_in_flight() == 0);
    window.admit(row(5), true, start);
    CHECK(window.contains(RowId{5}));
}

TEST_CASE("the rows above a mark are told as a bitmap, least significant bit first") {
    Window window(10, 10'000);
    for (const std::int64_t id : {5, 11, 12, 27}) window.admit(row(id), false, start);
    const Window::Known known = window.known_above(RowId{10}, false);
    CHECK(known.base == RowId{11});
    REQUIRE(known.bits.size() == 3);
    CHECK(known.bits[0] == 3);
    for (std::int64_t id = 11; id < 40; ++id) CHECK(bit(known, id) == (id == 11 || id == 12 || id == 27));
    CHECK(known.rows_beyond == 0);
}

TEST_CASE("rows too far above the mark for the bitmap are counted") {
    Window window(10, 10'000);
    window.admit(row(1), false, start);
    window.admit(row(std::int64_t{1} << 40), false, start);
    window.admit(row((std::int64_t{1} << 40) + 1), false, start);
    const Window::Known known = window.known_above(RowId{0}, false);
    CHECK(known.bits.size() == 1);
    CHECK(known.rows_beyond == 2);
}

TEST_CASE("rows of an earlier session are not left out of reads: their ids may be another event's by now") {
    Window window(10, 10'000);
    window.admit(row(5), false, start);
    window.session_lost();
    window.admit(row(6), false, start);
    const Window::Known known = window.known_above(RowId{0}, false);
    CHECK_FALSE(bit(known, 5));
    CHECK(bit(known, 6));
    CHECK(known.rows_beyond == 1);
    CHECK(bit(window.known_above(RowId{0}, true), 5));
}

TEST_CASE("the lowest row is known") {
    Window window(10, 10'000);
    CHECK_FALSE(window.lowest().has_value());
    window.admit(row(9), false, start);
    const Slot three = window.admit(row(3), false, start);
    CHECK(window.lowest() == RowId{3});
    window.release(three);
    CHECK(window.lowest() == RowId{9});
}

TEST_CASE("the id table finds exactly what is in it, whatever comes and goes") {
    constexpr std::uint64_t seed = 42;
    CAPTURE(seed);
    std::mt19937_64 random(seed);
    IdMap map(64);
    std::map<std::int64_t, Slot> model;
    std::vector<Slot> free;
    for (std::uint32_t i = 0; i < 64; ++i) free.push_back(Slot{i});
    for (int step = 0; step < 20'000; ++step) {
        const auto id = static_cast<std::int64_t>(random() % 200) * (random() % 2 == 0 ? 1 : 256);
        if (const auto known = model.find(id); known != model.end()) {
            map.erase(RowId{id});
            free.push_back(known->second);
            model.erase(known);
        } else if (!free.empty()) {
            map.insert(RowId{id}, free.back());
            model.emplace(id, free.back());
            free.pop_back();
        }
        if (step % 16 != 0) continue;
        for (std::int64_t other = 0; other < 200; ++other) {
            const auto known = model.find(other);
            REQUIRE(map.find(RowId{other}) == (known == model.end() ? std::nullopt : std::optional(known->second)));
        }
    }
}

TEST_CASE("the lowest free slot is taken first, and each once, whatever comes and goes") {
    constexpr std::uint64_t seed = 42;
    CAPTURE(seed);
    constexpr std::uint32_t slots = 200;  // the last word of 64 is not full
    std::mt19937_64 random(seed);
    FreeSlots free(slots);
    std::set<Slot> model;
    for (std::uint32_t i = 0; i < slots; ++i) model.insert(Slot{i});
    std::vector<Slot> taken;
    for (int step = 0; step < 20'000; ++step) {
        const bool mostly_takes = step / 500 % 2 == 0;  // so that there are none, and all, from time to time
        if (!model.empty() && (taken.empty() || (random() % 4 != 0) == mostly_takes)) {
            taken.push_back(free.take());
            REQUIRE(taken.back() == *model.begin());
            model.erase(model.begin());
        } else if (!taken.empty()) {
            std::swap(taken[random() % taken.size()], taken.back());
            free.put(taken.back());
            model.insert(taken.back());
            taken.pop_back();
        }
        REQUIRE(free.size() == model.size());
    }
}

TEST_CASE("a refused delete leaves its rows acknowledged") {
    Window window(10, 10'000);
    for (const std::int64_t id : {1, 2, 3, 4}) window.acknowledge(window.admit(row(id), false, start));
    window.take_deletes(2);
    window.take_deletes(1);
    window.delete_refused();
    CHECK(window.deletes_under_way() == 1);
    CHECK(window.rows_acknowledged() == 3);
    CHECK(window.rows() == 4);
    CHECK(window.deleted() == 1);
    CHECK_FALSE(window.contains(RowId{3}));
    CHECK(sorted(window.take_deletes(10).ids) == std::vector{RowId{1}, RowId{2}, RowId{4}});
}

TEST_CASE("a refused burial is sent again before the next one") {
    Window window(10, 10'000);
    window.condemn(window.admit(row(1), true, start), "A", "first");
    window.condemn(window.admit(row(2), true, start), "B", "second");
    CHECK(window.take_burial().id == RowId{1});
    window.burial_refused();
    CHECK(window.burying());
    CHECK(window.take_burial().id == RowId{1});
    CHECK(window.take_burial().code == "B");
    CHECK_FALSE(window.burial_waiting());
    CHECK(window.burying());
    window.buried();
    window.buried();
    CHECK_FALSE(window.burying());
    CHECK(window.rows() == 0);
}

TEST_CASE("a row that is isolated takes no place, and is waited for through refusals and lost sessions") {
    Window window(10, 10'000);
    window.isolate(RowId{5}, "CRASH", "why");
    CHECK(window.isolating());
    CHECK(window.rows() == 0);
    BuryRow burial = window.take_burial();
    CHECK(burial.id == RowId{5});
    CHECK(burial.event_id == EventId{});
    window.burial_refused();
    CHECK(window.isolating());
    window.take_burial();
    window.session_lost();
    CHECK(window.isolating());
    CHECK(window.burial_waiting());
    window.take_burial();
    window.buried();
    CHECK_FALSE(window.isolating());
}

TEST_CASE("deletes that are refused are tried again, ever more rarely, and nothing is sent twice or lost") {
    RelayWorld world;
    world.start();
    world.refuse_deletes = SIZE_MAX;
    world.insert_many(3000);
    world.run_for(5s);
    world.insert_many(10);
    world.run_for(5s);
    CHECK(world.persisted.size() == 3010);
    CHECK(world.table.size() == 3010);
    const std::size_t refused_late = world.refuse_deletes;
    world.run_for(60s);
    CHECK(refused_late - world.refuse_deletes < 60);
    CHECK(refused_late - world.refuse_deletes > 10);
    world.refuse_deletes = 0;
    world.run_for(6s);
    CHECK(world.drained_dry());
    CHECK(world.published.size() == 3010);
    CHECK(world.problems() == "");
}

TEST_CASE("one refused delete costs little") {
    RelayWorld world;
    world.start();
    world.refuse_deletes = 1;
    world.insert_many(100);
    world.run_for(300ms);
    CHECK(world.drained_dry());
    CHECK(world.refuse_deletes == 0);
}

TEST_CASE("a refused delete that a lost session follows is sent again with event ids") {
    RelayWorld world;
    world.start();
    world.refuse_deletes = SIZE_MAX;
    world.insert_many(10);
    world.run_for(1s);
    world.lose_session();
    world.open_session();
    world.run_for(1s);
    world.refuse_deletes = 0;
    world.run_for(6s);
    CHECK(world.guarded_deletes == 1);
    CHECK(world.drained_dry());
    CHECK(world.published.size() == 10);
    CHECK(world.problems() == "");
}

TEST_CASE("a window full of rows whose deletes are refused stops reading, and starts again") {
    RelayWorldSettings settings;
    settings.relay.batch_rows = 10;
    settings.relay.in_flight_rows = 100;
    RelayWorld world(settings);
    world.start();
    world.refuse_deletes = SIZE_MAX;
    world.insert_many(500);
    world.run_for(20s);
    CHECK(world.relay.window().rows() <= 100);
    CHECK(world.published.size() <= 100);
    world.refuse_deletes = 0;
    world.run_for(6s);
    CHECK(world.drained_dry());
    CHECK(world.published.size() == 500);
}
