#include "core/fleet.hpp"

#include <doctest/doctest.h>

using namespace outbox;
using namespace std::chrono_literals;

namespace {

constexpr Instant start{std::chrono::seconds(10)};
constexpr LaneSet nothing_empty;

LaneSet lanes_below(std::uint32_t count) {
    return count == lane_count ? LaneSet::all() : LaneSet((std::uint64_t{1} << count) - 1);
}

template <class Wanted>
bool is(const std::optional<Action>& action) {
    return action && std::holds_alternative<Wanted>(*action);
}

// A fleet of one that owns all lanes and has nothing more to say at `start`.
Fleet settled_fleet() {
    Fleet fleet(3s);
    fleet.producer_opened(start);
    fleet.session_opened(start);
    REQUIRE(is<RenewLeases>(fleet.next(start, nothing_empty)));
    REQUIRE(is<AcquireLanes>(fleet.next(start, nothing_empty)));
    REQUIRE_FALSE(fleet.next(start, nothing_empty));
    fleet.on(LeasesRenewed{start, {}, 1, 0});
    fleet.on(LanesAcquired{start, LaneSet::all()});
    return fleet;
}

}  // namespace

TEST_CASE("a worker says it lives before it looks for lanes") {
    Fleet fleet(3s);
    CHECK_FALSE(fleet.next(start, LaneSet::all()));
    CHECK(fleet.wake_at() == never);
    fleet.producer_opened(start);
    fleet.session_opened(start);
    CHECK(is<RenewLeases>(fleet.next(start, LaneSet::all())));
    CHECK(is<AcquireLanes>(fleet.next(start, LaneSet::all())));
    CHECK_FALSE(fleet.next(start, LaneSet::all()));
}

TEST_CASE("leases are renewed three times in a lifetime, one renewal at a time") {
    Fleet fleet = settled_fleet();
    CHECK(fleet.wake_at() == start + 1s);
    CHECK_FALSE(fleet.next(start + 999ms, nothing_empty));
    CHECK(is<RenewLeases>(fleet.next(start + 1s, nothing_empty)));
    CHECK_FALSE(fleet.next(start + 5s, nothing_empty));
    CHECK(fleet.wake_at() == never);
    fleet.on(LeasesRenewed{start + 1s, LaneSet::all(), 1, 0});
    CHECK(is<RenewLeases>(fleet.next(start + 5s, nothing_empty)));
}

TEST_CASE("shares differ by at most one and add up to all lanes") {
    for (std::uint32_t living = 1; living <= 70; ++living) {
        CAPTURE(living);
        std::uint32_t sum = 0;
        for (std::uint32_t rank = 0; rank < living; ++rank) {
            Fleet fleet = settled_fleet();
            fleet.on(LeasesRenewed{start, LaneSet::all(), living, rank});
            const std::uint32_t kept = lane_count - fleet.lanes.leaving().size();
            CHECK(kept >= lane_count / living);
            CHECK(kept <= lane_count / living + 1);
            sum += kept;
        }
        CHECK(sum == lane_count);
    }
}

TEST_CASE("a stable fleet moves nothing") {
    Fleet fleet = settled_fleet();
    fleet.on(LeasesRenewed{start, lanes_below(22), 3, 0});
    for (int round = 1; round < 20; ++round) {
        const Instant now = start + round * 1s;
        fleet.on(LeasesRenewed{now, lanes_below(22), 3, 0});
        while (const auto action = fleet.next(now, LaneSet::all())) {
            CHECK_FALSE(is<ReleaseLanes>(action));
            if (is<AcquireLanes>(action)) fleet.on(LanesAcquired{now, {}});
        }
        CHECK(fleet.lanes.owned() == lanes_below(22));
        CHECK(fleet.lanes.leaving().empty());
    }
}

TEST_CASE("a surplus lane is released only when nothing of it is held") {
    Fleet fleet = settled_fleet();
    fleet.on(LeasesRenewed{start, LaneSet::all(), 2, 1});
    CHECK(fleet.lanes.leaving() == LaneSet::all() - lanes_below(32));
    CHECK_FALSE(is<ReleaseLanes>(fleet.next(start, lanes_below(32))));
    const auto action = fleet.next(start, LaneSet::only(40) | LaneSet::only(3));
    REQUIRE(is<ReleaseLanes>(action));
    CHECK(std::get<ReleaseLanes>(*action).lanes == LaneSet::only(40));
    fleet.on(LanesReleased{LaneSet::only(40)});
    CHECK_FALSE(fleet.lanes.owned().contains(40));
}

TEST_CASE("no renewal is sent while lanes are being released, and nobody wakes up for it") {
    Fleet fleet = settled_fleet();
    fleet.on(LeasesRenewed{start, LaneSet::all(), 2, 0});
    REQUIRE(is<ReleaseLanes>(fleet.next(start, LaneSet::all())));
    const Instant later = start + 2s;
    while (const auto action = fleet.next(later, LaneSet::all())) CHECK_FALSE(is<RenewLeases>(action));
    CHECK(fleet.wake_at() > later);
    fleet.on(LanesReleased{LaneSet::all() - lanes_below(32)});
    CHECK(is<RenewLeases>(fleet.next(later, LaneSet::all())));
}

TEST_CASE("a draining worker releases all its lanes at once, then leaves, then is silent") {
    Fleet fleet = settled_fleet();
    fleet.leave();
    fleet.lanes.leave(fleet.lanes.owned());
    CHECK_FALSE(fleet.next(start, LaneSet::all() - LaneSet::only(9)));
    const auto action = fleet.next(start, LaneSet::all());
    REQUIRE(is<ReleaseLanes>(action));
    CHECK(std::get<ReleaseLanes>(*action).lanes == LaneSet::all());
    CHECK_FALSE(fleet.next(start, LaneSet::all()));
    CHECK_FALSE(fleet.left());
    fleet.on(LanesReleased{LaneSet::all()});
    CHECK(is<LeaveFleet>(fleet.next(start, LaneSet::all())));
    CHECK(fleet.left());
    CHECK_FALSE(fleet.next(start + 1h, LaneSet::all()));
    CHECK(fleet.wake_at() == never);
}

TEST_CASE("a draining worker waits for lanes it has asked for, and asks for no more") {
    Fleet fleet(3s);
    fleet.producer_opened(start);
    fleet.session_opened(start);
    REQUIRE(is<RenewLeases>(fleet.next(start, LaneSet::all())));
    REQUIRE(is<AcquireLanes>(fleet.next(start, LaneSet::all())));
    fleet.leave();
    fleet.on(LeasesRenewed{start, {}, 1, 0});
    CHECK_FALSE(fleet.next(start, LaneSet::all()));
    fleet.on(LanesAcquired{start, LaneSet::only(7)});
    CHECK(is<ReleaseLanes>(fleet.next(start, LaneSet::all())));
    fleet.on(LanesReleased{LaneSet::only(7)});
    CHECK(is<LeaveFleet>(fleet.next(start, LaneSet::all())));
}

TEST_CASE("a worker is counted, and takes lanes, once it has a producer to serve them") {
    Fleet fleet(3s);
    fleet.session_opened(start);
    fleet.renew_soon(start + 1s);
    CHECK_FALSE(fleet.next(start + 60s, nothing_empty));
    CHECK(fleet.wake_at() == never);
    fleet.producer_opened(start + 60s);
    CHECK(fleet.wake_at() == start + 60s);
    REQUIRE(is<RenewLeases>(fleet.next(start + 60s, nothing_empty)));
    CHECK(is<AcquireLanes>(fleet.next(start + 60s, nothing_empty)));
}

TEST_CASE("a worker without a producer keeps its lanes and takes no more") {
    Fleet fleet(3s);
    fleet.producer_opened(start);
    fleet.session_opened(start);
    REQUIRE(is<RenewLeases>(fleet.next(start, nothing_empty)));
    REQUIRE(is<AcquireLanes>(fleet.next(start, nothing_empty)));
    fleet.on(LeasesRenewed{start, {}, 1, 0});
    fleet.on(LanesAcquired{start, LaneSet::only(7)});
    fleet.producer_lost();
    REQUIRE(is<RenewLeases>(fleet.next(start + 1s, nothing_empty)));
    fleet.on(LeasesRenewed{start + 1s, LaneSet::only(7), 1, 0});
    CHECK_FALSE(fleet.next(start + 1999ms, nothing_empty));
    fleet.producer_opened(start + 1999ms);
    CHECK(is<AcquireLanes>(fleet.next(start + 1999ms, nothing_empty)));
}

TEST_CASE("a worker that has been counted renews at once on a new session, producer or not") {
    Fleet fleet = settled_fleet();
    fleet.producer_lost();
    fleet.session_lost();
    fleet.session_opened(start + 200ms);
    CHECK(is<RenewLeases>(fleet.next(start + 200ms, nothing_empty)));
}

TEST_CASE("after a lost session everything that was under way is asked again") {
    Fleet fleet = settled_fleet();
    REQUIRE(is<RenewLeases>(fleet.next(start + 1s, nothing_empty)));
    fleet.session_lost();
    CHECK_FALSE(fleet.next(start + 9s, nothing_empty));
    CHECK(fleet.wake_at() == never);
    fleet.session_opened(start + 10s);
    CHECK(is<RenewLeases>(fleet.next(start + 10s, nothing_empty)));
}

TEST_CASE("a fleet that counts nobody still has this worker") {
    Fleet fleet = settled_fleet();
    fleet.on(LeasesRenewed{start, LaneSet::all(), 0, 0});
    CHECK(fleet.living() == 1);
    CHECK(fleet.lanes.leaving().empty());
}

TEST_CASE("free lanes are looked for more often while rows flow, and by whoever has less than a share") {
    Fleet fleet(3s);
    fleet.producer_opened(start);
    fleet.session_opened(start);
    Instant now = start;
    const auto looks_after = [&](LaneSet empty_lanes) {
        REQUIRE(is<AcquireLanes>(fleet.next(now, empty_lanes)));
        fleet.on(LanesAcquired{now, {}});
        const Duration wait = fleet.wake_at() - now;
        now = fleet.wake_at();
        return wait;
    };
    REQUIRE(is<RenewLeases>(fleet.next(now, LaneSet::all())));
    fleet.on(LeasesRenewed{now, lanes_below(31), 2, 0});
    CHECK(looks_after(LaneSet::all()) == 100ms);
    fleet.on(LeasesRenewed{now, lanes_below(32), 2, 0});
    CHECK(looks_after(LaneSet::all()) == 300ms);
    CHECK(looks_after(nothing_empty) == 100ms);
    CHECK(looks_after(LaneSet::all()) == 100ms);
}
