#include "core/crash_guard.hpp"

#include <doctest/doctest.h>

#include <algorithm>

#include "support/relay_world.hpp"

using namespace outbox;
using namespace std::chrono_literals;

namespace {

constexpr Instant start{std::chrono::seconds(10)};

// Each of another process, unless told so.
Attempt attempt(std::int64_t from, std::int64_t upto, std::int64_t process = 0) {
    static std::int64_t processes = 1000;
    return {RowId{from}, RowId{upto}, process != 0 ? process : ++processes};
}

std::vector<Attempt> three_over(std::int64_t from, std::int64_t upto) {
    return {attempt(from, upto), attempt(from, upto), attempt(from, upto)};
}

CrashGuard guard_after(const std::vector<Attempt>& attempts) {
    CrashGuard guard(1000);
    guard.learn({attempts});
    return guard;
}

// Processes start, and die as soon as this row is handed to the producer. How many did.
int crash_at(RelayWorld& world, RowId deadly, int crashes_max) {
    for (int crashes = 0; crashes < crashes_max; ++crashes) {
        world.start();
        const Instant end = world.now + 20s;
        while (world.now < end) {
            world.run_for(5ms);
            if (std::find(world.published.begin(), world.published.end(), deadly) != world.published.end()) break;
        }
        if (world.now >= end) return crashes;
        world.published.clear();
        world.crash(world.in_flight.size());
    }
    return crashes_max;
}

}  // namespace

TEST_CASE("care begins when three processes died over the same rows") {
    CHECK_FALSE(guard_after({}).active());
    CHECK_FALSE(guard_after({attempt(1, 9), attempt(1, 9)}).active());
    CHECK(guard_after({attempt(1, 9), attempt(1, 9)}).rows_max(RowId{}) == UINT32_MAX);
    CHECK(guard_after({attempt(5, 9), attempt(3, 7), attempt(1, 5)}).active());
}

TEST_CASE("processes that got on with their work before they died are no reason for care") {
    CHECK_FALSE(guard_after({attempt(40, 49), attempt(20, 29), attempt(1, 9), attempt(1, 9), attempt(1, 9)}).active());
}

TEST_CASE("several workers of one process count as one") {
    CHECK_FALSE(guard_after({attempt(1, 9, 1), attempt(1, 9, 1), attempt(1, 9, 1)}).active());
}

TEST_CASE("with care a read brings 64 rows at most, and one where somebody died before") {
    const CrashGuard guard = guard_after(three_over(40, 60));
    CHECK(guard.rows_max(RowId{0}) == 1);
    CHECK(guard.rows_max(RowId{59}) == 1);
    CHECK(guard.rows_max(RowId{60}) == 64);
}

TEST_CASE("only a row that was alone in crashes of two processes is isolated, and once") {
    CHECK(guard_after({attempt(5, 5), attempt(5, 6), attempt(5, 6)}).take_culprits().empty());
    CHECK(guard_after(three_over(5, 6)).take_culprits().empty());
    CHECK(guard_after({attempt(5, 5, 7), attempt(5, 5, 7), attempt(5, 6), attempt(5, 6)}).take_culprits().empty());
    CrashGuard guard = guard_after({attempt(5, 5), attempt(5, 5), attempt(5, 5), attempt(1, 9)});
    CHECK(guard.take_culprits() == std::vector{RowId{5}});
    CHECK(guard.take_culprits().empty());
}

TEST_CASE("only the first session's history counts") {
    CrashGuard guard = guard_after({});
    const std::vector<Attempt> attempts = three_over(5, 5);
    guard.learn({attempts});
    CHECK_FALSE(guard.active());
    CHECK(guard.take_culprits().empty());
}

TEST_CASE("the first read is noted, and the note withdrawn a second after its rows came") {
    CrashGuard guard = guard_after({});
    CHECK(guard.notes());
    CHECK(guard.wake_at() == never);
    guard.sent();
    CHECK_FALSE(guard.notes());
    guard.rows_came(start);
    guard.rows_came(start + 500ms);  // of a later read
    CHECK(guard.wake_at() == start + 1s);
    CHECK_FALSE(guard.withdrawal_due(start + 999ms));
    CHECK(guard.withdrawal_due(start + 1s));
    guard.withdrawn();
    CHECK_FALSE(guard.withdrawal_due(start + 1h));
}

TEST_CASE("care ends after twice the rows that can have been under way, or when nothing waits") {
    CrashGuard guard = guard_after(three_over(1, 9));
    CHECK_FALSE(guard.passed(1999));
    CHECK(guard.active());
    CHECK(guard.passed(64));
    CHECK_FALSE(guard.active());
    CHECK_FALSE(guard.passed(1));
    CHECK_FALSE(guard.caught_up());
    CrashGuard other = guard_after(three_over(1, 9));
    CHECK(other.caught_up());
    CHECK_FALSE(other.active());
    CHECK(other.rows_max(RowId{}) == UINT32_MAX);
}

TEST_CASE("after three crashes rows are read a few at a time, noted, and only when the last ones are gone") {
    RelayWorld world;
    world.attempts = three_over(-9, -1);  // of rows that are gone
    world.insert_many(1000);
    world.start();
    world.broker_latency = 5ms;
    const Instant end = world.now + 20s;
    while (!world.table.empty() && world.now < end) {
        world.run_for(1ms);
        CHECK(world.relay.window().rows() <= 64);
    }
    world.run_for(2s);
    CHECK(world.drained_dry());
    CHECK(std::all_of(world.reads.begin(), world.reads.begin() + 15,
                      [](const ReadRows& read) { return read.noted && read.limit <= 64; }));
    CHECK(world.crashes_forgotten == 1);
    CHECK(world.noted.empty());
    CHECK_FALSE(world.relay.crash_guard().active());
    world.insert_many(1000);
    world.run_for(2s);
    CHECK_FALSE(world.reads.back().noted);
    CHECK(world.crashes_forgotten == 1);
    CHECK(world.problems() == "");
}

TEST_CASE("care ends by itself on a system that is never idle") {
    RelayWorldSettings settings;
    settings.relay.in_flight_rows = 500;
    RelayWorld world(settings);
    world.attempts = three_over(-9, -1);  // of rows that are gone
    world.insert_many(5000);
    world.start();
    world.broker_latency = 5ms;
    while (world.relay.crash_guard().active() && world.now < Instant{2000s}) world.run_for(1ms);
    CHECK(world.persisted.size() >= 900);
    CHECK(world.persisted.size() < 2000);
    world.run_for(5s);
    CHECK(world.crashes_forgotten == 1);
    CHECK(world.drained_dry());
}

TEST_CASE("while rows are in flight for longer than a second the note is withdrawn, as they are harmless") {
    RelayWorld world;
    world.attempts = three_over(-9, -1);  // of rows that are gone
    world.insert_many(10);
    world.broker_up = false;
    world.start();
    world.run_for(500ms);
    CHECK(world.noted.size() == 10);
    world.run_for(1s);
    CHECK(world.noted.empty());
    CHECK(world.in_flight.size() == 10);
    world.crash();
    CHECK(world.attempts.size() == 3);
}

TEST_CASE("a row that ends every process is found and isolated, and everything else is delivered") {
    for (const auto policy : {PoisonPolicy::dead_letter, PoisonPolicy::block_key}) {
        CAPTURE(static_cast<int>(policy));
        RelayWorldSettings settings;
        settings.poison.policy = policy;
        RelayWorld world(settings);
        world.broker_latency = 20ms;  // so that nothing is acknowledged before the process has died
        for (int i = 0; i < 200; ++i) world.insert({.key = i % 10});
        const RowId deadly{150};
        const int crashes = crash_at(world, deadly, 20);
        CHECK(crashes >= 3);
        CHECK(crashes <= 6);
        world.run_for(5s);
        if (policy == PoisonPolicy::dead_letter) {
            CHECK(world.buried == std::vector{deadly});
            CHECK(world.drained_dry());
            CHECK(world.lost.empty());
        } else {
            REQUIRE(world.blocked_keys.size() == 1);
            CHECK(world.blocked_keys.begin()->second.id == deadly);
            CHECK(world.table.size() == 6);
        }
        CHECK(std::find(world.published.begin(), world.published.end(), deadly) == world.published.end());
        CHECK(world.crashes_forgotten > 0);
        CHECK(world.problems() == "");
    }
}

TEST_CASE("rows that somebody died at are taken one at a time, and those behind them a few at a time") {
    RelayWorld world;
    world.attempts = three_over(3, 5);
    world.insert_many(100);
    world.start();
    world.run_for(5s);
    REQUIRE(world.reads.size() > 6);
    CHECK(std::count_if(world.reads.begin(), world.reads.end(), [](const ReadRows& read) { return read.limit == 1; }) >=
          5);
    CHECK(world.reads[5].limit <= 64);
    CHECK(world.drained_dry());
    CHECK(world.buried.empty());
}

TEST_CASE("processes that are killed one after another isolate nothing that was not alone twice") {
    RelayWorld world;
    world.insert_many(500);
    for (int kill = 0; kill < 10; ++kill) {
        world.start();
        world.run_for(std::chrono::milliseconds(7 + 3 * kill));
        world.crash(1);
    }
    world.start();
    world.run_for(10s);
    CHECK(world.buried.empty());
    CHECK(world.drained_dry());
    CHECK(world.lost.empty());
    CHECK(world.problems() == "");
}

TEST_CASE("an isolated row whose burial is refused stays untouched until it is buried") {
    RelayWorld world;
    world.attempts = three_over(3, 3);
    world.insert_many(10);
    world.refuse_deletes = SIZE_MAX;
    world.start();
    world.run_for(10s);
    CHECK(world.published.empty());
    world.lose_session();
    world.open_session();
    world.refuse_deletes = 2;
    world.run_for(10s);
    CHECK(world.buried == std::vector{RowId{3}});
    CHECK(world.published.size() == 9);
    CHECK(world.drained_dry());
    CHECK(world.problems() == "");
}

TEST_CASE("a topic that fails while care is taken does not wait for the care to end") {
    RelayWorld world;
    world.attempts = three_over(-9, -1);  // of rows that are gone
    world.broker_up = false;
    world.insert_many(5, {.topic = "bad"});
    world.start();
    world.run_for(100ms);
    REQUIRE(world.in_flight.size() == 5);
    world.fail_topic(FailureKind::topic, "bad");
    world.broker_up = true;
    world.run_for(10s);
    CHECK(world.drained_dry());
    CHECK(world.crashes_forgotten == 1);
    CHECK(world.problems() == "");
}
