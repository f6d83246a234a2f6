#include "core/lanes.hpp"

#include <doctest/doctest.h>

using namespace outbox;
using namespace std::chrono_literals;

namespace {

constexpr Instant start{std::chrono::seconds(10)};
const LaneSet five = LaneSet::only(5);
const LaneSet six = LaneSet::only(6);

// Lanes 5 and 6, read up to date.
Lanes current_lanes() {
    Lanes lanes(3s);
    lanes.acquired(start, five | six);
    lanes.settled(5);
    lanes.settled(6);
    lanes.caught_up(five | six);
    return lanes;
}

}  // namespace

TEST_CASE("a lease is trusted from when it was asked for, for less than its time-to-live") {
    Lanes lanes(3s);
    lanes.acquired(start, five);
    CHECK(lanes.trusted(5, start + 2699ms));
    CHECK_FALSE(lanes.trusted(5, start + 2700ms));
    CHECK_FALSE(lanes.trusted(6, start));
    lanes.renewed(start + 1s, five);
    CHECK(lanes.trusted(5, start + 3699ms));
    CHECK_FALSE(lanes.trusted(5, start + 3700ms));
}

TEST_CASE("an answer that comes late never shortens trust") {
    Lanes lanes(3s);
    lanes.acquired(start + 1s, five);
    lanes.renewed(start, five);
    CHECK(lanes.trusted(5, start + 3600ms));
}

TEST_CASE("a lane taken over is read from the very start, when nothing of it is in flight") {
    Lanes lanes(3s);
    lanes.acquired(start, five);
    CHECK(lanes.settling() == five);
    CHECK(lanes.current().empty());
    CHECK(lanes.lowest_resume(five) == RowId{0});
    lanes.settled(5);
    CHECK(lanes.behind() == five);
    CHECK(lanes.current().empty());
    lanes.caught_up(five);
    CHECK(lanes.current() == five);
}

TEST_CASE("a renewal leaves lanes we had where they are, and drops those that were taken") {
    Lanes lanes = current_lanes();
    lanes.renewed(start + 1s, five);
    CHECK(lanes.owned() == five);
    CHECK(lanes.current() == five);
    CHECK_FALSE(lanes.trusted(6, start));
    lanes.renewed(start + 1s, five | six);
    CHECK(lanes.settling() == six);
    CHECK(lanes.lowest_resume(six) == RowId{0});
}

TEST_CASE("a lapsed lane goes back to low and is not current until it is renewed") {
    Lanes lanes = current_lanes();
    lanes.renewed(start + 1s, five | six);
    lanes.lapse(start + 3s, RowId{70});
    CHECK(lanes.current() == (five | six));
    lanes.lapse(start + 3700ms, RowId{70});
    CHECK(lanes.owned() == (five | six));
    CHECK(lanes.settling() == (five | six));
    CHECK(lanes.lowest_resume(five | six) == RowId{70});
    CHECK(lanes.trust_ends(start + 3700ms) == never);
    lanes.settled(5);
    lanes.renewed(start + 4s, five | six);
    CHECK(lanes.trusted(5, start + 4s));
    CHECK(lanes.behind() == five);
    CHECK(lanes.lowest_resume(five) == RowId{70});
}

TEST_CASE("the lane that lapses next is the one to wake up for") {
    Lanes lanes = current_lanes();
    lanes.renewed(start + 1s, five | six);
    CHECK(lanes.trust_ends(start + 1s) == start + 3700ms);
}

TEST_CASE("a lane that fails twice resumes from the lower row") {
    Lanes lanes = current_lanes();
    lanes.fail(5, RowId{80});
    CHECK(lanes.lowest_resume(five) == RowId{80});
    lanes.fail(5, RowId{60});
    lanes.fail(5, RowId{90});
    CHECK(lanes.lowest_resume(five) == RowId{60});
    lanes.settled(5);
    lanes.fail(5, RowId{70});
    CHECK(lanes.settling() == five);
    CHECK(lanes.lowest_resume(five) == RowId{60});
}

TEST_CASE("only lanes that are behind advance, and never backwards") {
    Lanes lanes = current_lanes();
    lanes.fail(5, RowId{60});
    lanes.advance(five, RowId{80});
    CHECK(lanes.lowest_resume(five) == RowId{60});
    lanes.settled(5);
    lanes.advance(five | six, RowId{80});
    lanes.advance(five | six, RowId{70});
    CHECK(lanes.lowest_resume(five) == RowId{80});
}

TEST_CASE("lanes that are not current can be pushed back") {
    Lanes lanes = current_lanes();
    lanes.fail(5, RowId{60});
    lanes.push_back(RowId{50});
    lanes.push_back(RowId{55});
    CHECK(lanes.lowest_resume(five) == RowId{50});
    CHECK(lanes.current() == six);
}

TEST_CASE("a lane that is leaving takes no part in reading and is not opened again by a failure") {
    Lanes lanes = current_lanes();
    lanes.leave(five | LaneSet::only(9));
    CHECK(lanes.leaving() == five);
    CHECK(lanes.current() == six);
    lanes.fail(5, RowId{1});
    CHECK(lanes.settling().empty());
    lanes.restart();
    CHECK(lanes.settling() == six);
    lanes.released(five);
    CHECK(lanes.owned() == six);
    CHECK(lanes.leaving().empty());
    CHECK_FALSE(lanes.trusted(5, start));
}

TEST_CASE("the highest lanes are the surplus, and those that leave already do not count") {
    Lanes lanes(3s);
    lanes.acquired(start, LaneSet::all());
    CHECK(lanes.surplus(64).empty());
    CHECK(lanes.surplus(62) == (LaneSet::only(63) | LaneSet::only(62)));
    CHECK(lanes.surplus(0) == LaneSet::all());
    lanes.leave(LaneSet::only(63));
    CHECK(lanes.surplus(63).empty());
    CHECK(lanes.surplus(62) == LaneSet::only(62));
}

TEST_CASE("a failure of a lane that is not ours changes nothing") {
    Lanes lanes = current_lanes();
    lanes.fail(9, RowId{1});
    CHECK(lanes.owned() == (five | six));
    CHECK(lanes.settling().empty());
}
