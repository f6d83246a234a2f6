#include <doctest/doctest.h>

#include <set>

#include "core/backoff.hpp"
#include "core/token_bucket.hpp"
#include "support/relay_world.hpp"

using namespace outbox;
using namespace std::chrono_literals;

namespace {

constexpr Instant start{std::chrono::seconds(10)};

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
    RelayWorldSettings settings;
    settings.pacing.max_rows_per_second = 2000;
    RelayWorld world(settings);
    world.start();
    world.insert_many(12'000);
    world.run_for(500ms);
    const std::size_t before = world.persisted.size();
    world.run_for(4s);
    CHECK(static_cast<double>(world.persisted.size() - before) == doctest::Approx(8000).epsilon(0.05));
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
