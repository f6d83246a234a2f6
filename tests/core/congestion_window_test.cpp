#include "core/congestion_window.hpp"

#include <doctest/doctest.h>

#include "support/relay_world.hpp"

using namespace outbox;
using namespace std::chrono_literals;

namespace {

constexpr Instant start{std::chrono::seconds(1000)};

// A broker whose acknowledgements take this long, `count` times.
Instant acknowledge(CongestionWindow& window, int count, Duration latency, Instant now) {
    for (int i = 0; i < count; ++i) {
        window.acknowledged(100, latency, now);
        now += 10ms;
    }
    return now;
}

}  // namespace

TEST_CASE("the congestion window is as large as allowed while acknowledgements are quick") {
    CongestionWindow window(20'000, 1000);
    acknowledge(window, 100, 400ms, start);
    CHECK(window.limit() == 20'000);
    CHECK(window.cut_at() == Instant{});
}

TEST_CASE("a slow acknowledgement halves the congestion window, once per round trip") {
    CongestionWindow window(20'000, 1000);
    window.acknowledged(100, 20ms, start);
    window.acknowledged(100, 2s, start + 1s);
    CHECK(window.limit() == 10'000);
    CHECK(window.cut_at() == start + 1s);
    window.acknowledged(100, 2s, start + 2900ms);
    CHECK(window.limit() == 10'000);
    window.acknowledged(100, 2s, start + 3s);
    CHECK(window.limit() == 5000);
}

TEST_CASE("the congestion window does not shrink below its step, and grows by a step per window's worth") {
    CongestionWindow window(20'000, 1000);
    Instant now = start;
    for (int i = 0; i < 100; ++i) window.setback(now += 1s);
    CHECK(window.limit() == 1000);
    std::uint32_t acknowledged = 0;
    for (; window.limit() < 2000; acknowledged += 50) window.acknowledged(50, 10ms, now += 1ms);
    CHECK(acknowledged >= 1000);
    CHECK(acknowledged <= 1600);
    acknowledge(window, 10'000, 10ms, now);
    CHECK(window.limit() == 20'000);
}

TEST_CASE("a step larger than the window is the window") {
    CongestionWindow window(10, 1000);
    for (int i = 0; i < 10; ++i) window.setback(start + 1s * i);
    CHECK(window.limit() == 10);
    CongestionWindow smallest(1, 0);
    smallest.setback(start);
    CHECK(smallest.limit() == 1);
}

TEST_CASE("setbacks in quick succession are one") {
    CongestionWindow window(16'000, 1000);
    for (int i = 0; i < 100; ++i) window.setback(start + 1ms * i);
    CHECK(window.limit() == 8000);
    window.setback(start + 600ms);
    CHECK(window.limit() == 4000);
}

TEST_CASE("a broker that is always slow is taken as it is after a while") {
    CongestionWindow window(20'000, 1000);
    Instant now = acknowledge(window, 3000, 2s, start);
    const Instant last_cut = window.cut_at();
    CHECK(last_cut > Instant{});
    now = acknowledge(window, 12'000, 2s, now);
    CHECK(window.cut_at() == last_cut);
    CHECK(window.limit() == 20'000);
    window.acknowledged(100, 5s, now);
    CHECK(window.limit() == 10'000);
}

TEST_CASE("throttling and errors halve what the relay keeps in flight") {
    RelayWorld world;
    world.start();
    world.prove("orders");
    CHECK(world.relay.pacing().in_flight_limit() == 20'000);
    world.relay.on(ClusterThrottled{}, world.now);
    CHECK(world.relay.pacing().in_flight_limit() == 10'000);
    world.broker_up = false;
    world.insert_many(50'000);
    world.run_for(900ms);
    CHECK(world.in_flight.size() <= 10'000);
    CHECK(world.in_flight.size() > 8000);
    world.fail_all(FailureKind::in_doubt);
    CHECK(world.relay.pacing().in_flight_limit() == 5000);
    world.broker_up = true;
    world.run_for(2s);
    CHECK(world.drained_dry());
    CHECK(world.relay.pacing().in_flight_limit() > 5000);
    CHECK(world.problems() == "");
}

TEST_CASE("a topic that fails alone does not slow the others down") {
    RelayWorld world;
    world.start();
    world.prove("bad");
    world.broker_up = false;
    world.insert_many(10, {.topic = "bad"});
    world.run_for(100ms);
    world.fail_topic(FailureKind::topic, "bad");
    CHECK(world.relay.pacing().in_flight_limit() == 20'000);
}

TEST_CASE(
    "what was in flight through an outage says nothing about how fast the broker is, however late it comes home") {
    for (const std::uint64_t recovery : {0U, 1000U}) {
        CAPTURE(recovery);
        RelayWorldSettings settings;
        settings.pacing.recovery_rows_per_second = recovery;
        RelayWorld world(settings);
        world.start();
        world.prove("orders");
        world.broker_up = false;
        world.insert_many(10);
        world.run_for(100ms);
        world.relay.on(ClusterUnreachable{}, world.now);
        world.run_for(60s);
        world.deliver(1);
        world.run_for(200ms);
        world.deliver(5);
        world.broker_up = true;
        world.run_for(1s);
        CHECK(world.drained_dry());
        CHECK(world.relay.pacing().in_flight_limit() == 20'000);
    }
}
