#include "core/pacing.hpp"

#include <doctest/doctest.h>

#include <set>

#include "core/backoff.hpp"
#include "core/token_bucket.hpp"
#include "support/relay_world.hpp"

using namespace outbox;
using namespace std::chrono_literals;

namespace {

constexpr Instant start{std::chrono::seconds(10)};

PacingSettings ceiling_of(std::uint64_t rows_per_second, std::uint64_t recovery = 1000) {
    PacingSettings settings;
    settings.max_rows_per_second = rows_per_second;
    settings.recovery_rows_per_second = recovery;
    return settings;
}

// Rows taken in a second by somebody who asks every millisecond, after a second in which the burst was spent.
std::uint64_t rows_in_a_second(Pacing& pacing, Instant now) {
    std::uint64_t taken = 0;
    for (int i = 0; i < 2000; ++i, now += 1ms) {
        const std::uint64_t rows = std::min<std::uint64_t>(pacing.rows_allowed(200, now), 10'000);
        pacing.spent(rows, rows * 200);
        if (i >= 1000) taken += rows;
    }
    return taken;
}

double rate_in_world(RelayWorld& world, Duration duration) {
    const std::size_t before = world.persisted.size();
    world.run_for(duration);
    return static_cast<double>(world.persisted.size() - before) / std::chrono::duration<double>(duration).count();
}

}  // namespace

TEST_CASE("a token bucket holds its rate over seconds") {
    for (const std::uint64_t rate : {50U, 1000U, 250'000U}) {
        TokenBucket bucket(rate, rate / 10);
        std::uint64_t taken = 0;
        for (Instant now = start; now < start + 10s; now += 1ms) {
            const std::uint64_t tokens = bucket.available(now);
            bucket.take(tokens);
            taken += tokens;
        }
        CHECK(static_cast<double>(taken) == doctest::Approx(static_cast<double>(rate) * 10).epsilon(0.05));
    }
}

TEST_CASE("a debt is paid before the next token is at hand") {
    TokenBucket bucket(100, 10);
    CHECK(bucket.available(start) == 10);
    bucket.take(60);
    CHECK(bucket.available(start + 400ms) == 0);
    const Instant paid = bucket.when(1, start + 400ms);
    CHECK(paid > start + 509ms);
    CHECK(paid < start + 511ms);
    CHECK(bucket.available(paid) == 1);
}

TEST_CASE("a burst is all that can be saved up") {
    TokenBucket bucket(100, 10);
    CHECK(bucket.available(start + 1h) == 10);
    CHECK(bucket.when(1000, start + 1h) == start + 1h);
}

TEST_CASE("no rate is no ceiling") {
    TokenBucket bucket(0, 1);
    bucket.take(UINT32_MAX);
    CHECK(bucket.unlimited());
    CHECK(bucket.available(start) == UINT64_MAX);
    CHECK(bucket.when(1, start) == start);
}

TEST_CASE("the relay keeps to the operator's ceiling within five per cent") {
    for (const std::uint64_t rate : {1000U, 10'000U, 50'000U}) {
        CAPTURE(rate);
        RelayWorldSettings settings;
        settings.pacing.max_rows_per_second = rate;
        RelayWorld world(settings);
        world.start();
        world.insert_many(rate * 2);
        world.run_for(500ms);
        CHECK(rate_in_world(world, 1s) == doctest::Approx(static_cast<double>(rate)).epsilon(0.05));
        CHECK(world.problems() == "");
    }
}

TEST_CASE("an operator's rate holds within a second, and goes when it is taken back") {
    RelayWorldSettings settings;
    settings.pacing.max_rows_per_second = 1000;
    RelayWorld world(settings);
    world.start();
    world.insert_many(30'000);
    world.run_for(1s);
    world.set_rate(5000);
    world.run_for(1s);
    CHECK(rate_in_world(world, 1s) == doctest::Approx(5000).epsilon(0.05));
    world.set_rate(std::nullopt);
    world.run_for(1s);
    CHECK(rate_in_world(world, 1s) == doctest::Approx(1000).epsilon(0.05));
    world.set_rate(0);  // no ceiling
    world.run_for(2s);
    CHECK(world.drained_dry());
    CHECK(world.problems() == "");
}

TEST_CASE("a worker takes its share of the ceiling, by the lanes it owns") {
    RelayWorldSettings settings;
    settings.pacing.max_rows_per_second = 4000;
    RelayWorld world(settings);
    world.living = 4;
    world.start();
    world.run_for(1s);
    REQUIRE(world.relay.lanes().owned().size() == 16);
    world.insert_many(20'000, {.key = 1});
    world.run_for(1s);
    CHECK(rate_in_world(world, 2s) == doctest::Approx(1000).epsilon(0.05));
    world.living = 1;
    world.run_for(2s);
    REQUIRE(world.relay.lanes().owned() == LaneSet::all());
    CHECK(rate_in_world(world, 500ms) == doctest::Approx(4000).epsilon(0.05));
}

TEST_CASE("rows and bytes are shared by lanes, and a worker with few of them still gets something") {
    PacingSettings settings = ceiling_of(6400);
    Pacing pacing({}, settings);
    pacing.set_lanes(16, start);
    CHECK(rows_in_a_second(pacing, start) == doctest::Approx(1600).epsilon(0.05));
    pacing.set_ceiling(10, start + 2s);
    pacing.set_lanes(1, start + 2s);
    CHECK(rows_in_a_second(pacing, start + 2s) == 1);
    settings.max_rows_per_second = 0;
    settings.max_bytes_per_second = 1'280'000;  // 6400 rows of 200
    Pacing bytes({}, settings);
    bytes.set_lanes(32, start);
    CHECK(rows_in_a_second(bytes, start) == doctest::Approx(3200).epsilon(0.05));
}

TEST_CASE("the slow start begins at its rate and doubles every second up to the ceiling") {
    Pacing pacing({}, ceiling_of(10'000, 1000));
    pacing.recover(start);
    std::vector<std::uint64_t> rates;
    for (int second = 0; second < 6; ++second) {
        pacing.turn(start + 1s * second);
        rates.push_back(pacing.recovery_rate());
        pacing.turn(start + 1s * second + 999ms);
        CHECK(pacing.recovery_rate() == rates.back());
    }
    CHECK(rates == std::vector<std::uint64_t>{1000, 2000, 4000, 8000, 0, 0});
    CHECK(pacing.wake_at() == never);
    CHECK(rows_in_a_second(pacing, start + 6s) == doctest::Approx(10'000).epsilon(0.05));
}

TEST_CASE("the slow start backs off while the broker struggles") {
    Pacing pacing({}, ceiling_of(0, 1000));
    pacing.recover(start);
    pacing.turn(start + 1s);
    CHECK(pacing.recovery_rate() == 2000);
    pacing.setback(start + 1500ms);
    pacing.turn(start + 2s);
    CHECK(pacing.recovery_rate() == 1000);
    pacing.turn(start + 3s);
    CHECK(pacing.recovery_rate() == 2000);
}

TEST_CASE("the slow start ends when nothing waits any more, whatever the ceiling") {
    for (const std::uint64_t ceiling : {0U, 10'000U, 5'000'000U}) {
        CAPTURE(ceiling);
        Pacing pacing({}, ceiling_of(ceiling));
        pacing.recover(start);
        pacing.caught_up();
        pacing.turn(start);
        CHECK(pacing.recovery_rate() == 0);
        CHECK(pacing.wake_at() == never);
        pacing.recover(start);
        for (int second = 0; second < 20; ++second) pacing.turn(start + 1s * second);
        CHECK(pacing.recovery_rate() == 0);
    }
}

TEST_CASE("no slow start where none is wanted, and none above the ceiling") {
    Pacing without({}, ceiling_of(0, 0));
    without.recover(start);
    CHECK(without.recovery_rate() == 0);
    Pacing slow({}, ceiling_of(500, 1000));
    slow.recover(start);
    CHECK(rows_in_a_second(slow, start) == doctest::Approx(500).epsilon(0.05));
}

TEST_CASE("after an outage the relay starts slowly, then drains the backlog at full speed") {
    RelayWorld world;
    world.start();
    world.prove("orders");
    world.broker_up = false;
    world.insert();
    world.run_for(100ms);
    world.relay.on(ClusterUnreachable{}, world.now);
    world.insert_many(20'000);
    world.run_for(60s);
    world.broker_up = true;
    world.run_for(10ms);
    CHECK(world.relay.pacing().recovery_rate() == 1000);
    for (const double rate : {1000.0, 2000.0, 4000.0, 8000.0})
        CHECK(rate_in_world(world, 1s) == doctest::Approx(rate).epsilon(0.15));
    world.run_for(2s);
    CHECK(world.drained_dry());
    CHECK(world.relay.pacing().recovery_rate() == 0);
    CHECK(world.problems() == "");
}

TEST_CASE("the relay keeps to a ceiling in bytes within five per cent") {
    RelayWorldSettings settings;
    settings.pacing.max_bytes_per_second = 1'000'000;
    RelayWorld world(settings);
    world.start();
    world.insert_many(8000, {.bytes = 1000});
    world.run_for(2s);  // the first reads go into debt
    const std::size_t before = world.persisted.size();
    world.run_for(5s);
    CHECK(static_cast<double>(world.persisted.size() - before) == doctest::Approx(5000).epsilon(0.05));
}

TEST_CASE("a ceiling on the rate does not turn into a read per row") {
    RelayWorldSettings settings;
    settings.pacing.max_rows_per_second = 2000;
    RelayWorld world(settings);
    world.start();
    world.insert_many(10'000);
    world.run_for(1s);
    world.reads.clear();
    world.run_for(2s);
    CHECK(world.reads.size() < 1000);
}

TEST_CASE("a backoff doubles up to its ceiling, and its upper half is drawn") {
    constexpr Backoff backoff{100ms, 5s};
    CHECK(backoff.delay(0, 0) == 50ms);
    CHECK(backoff.delay(1, 0) == 50ms);
    CHECK(backoff.delay(2, 0) == 100ms);
    CHECK(backoff.delay(4, 0) == 400ms);
    CHECK(backoff.delay(4, 0.5) == 600ms);
    CHECK(backoff.delay(4, 0.999999) < 800ms);
    CHECK(backoff.delay(7, 0) == 2500ms);
    CHECK(backoff.delay(UINT32_MAX, 0) == 2500ms);
}

TEST_CASE("jitter follows from its seed and stays below one") {
    Jitter one(5);
    Jitter same(5);
    Jitter other(6);
    std::set<double> seen;
    for (int i = 0; i < 1000; ++i) {
        const double value = one.next();
        CHECK(value >= 0);
        CHECK(value < 1);
        CHECK(value == same.next());
        CHECK(value != other.next());
        seen.insert(value);
    }
    CHECK(seen.size() == 1000);
}
