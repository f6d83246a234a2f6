// Keys that wait because a row of theirs can never be published: across Control, Window, Topics and Relay.
#include <doctest/doctest.h>

#include <algorithm>

#include "support/relay_world.hpp"

using namespace outbox;
using namespace std::chrono_literals;

namespace {

RelayWorldSettings blocking() {
    RelayWorldSettings settings;
    settings.poison.policy = PoisonPolicy::block_key;
    return settings;
}

std::vector<RowId> persisted_of(const RelayWorld& world, RowId first, RowId last) {
    std::vector<RowId> rows;
    std::copy_if(world.persisted.begin(), world.persisted.end(), std::back_inserter(rows),
                 [&](RowId row) { return row >= first && row <= last; });
    return rows;
}

// Rows 2 to 11 of keys 0 to 4, twice each; the broker rejects row 4, the first of key 2.
RowId block_key_two(RelayWorld& world) {
    world.start();
    world.prove("orders");
    for (int i = 0; i < 10; ++i) world.insert({.key = i % 5});
    const RowId culprit{world.last_id - 7};
    world.poison.insert(culprit);
    world.run_for(2s);
    REQUIRE(world.blocked_keys.size() == 1);
    return culprit;
}

}  // namespace

TEST_CASE("a key whose row is rejected waits by policy, and every other key goes on") {
    RelayWorld world(blocking());
    const RowId culprit = block_key_two(world);
    CHECK(world.buried.empty());
    CHECK(world.table.size() == 2);
    CHECK(world.persisted.size() == 9);
    CHECK(world.relay.control().blocked_keys() == 1);
    for (int i = 0; i < 10; ++i) world.insert({.key = i % 5});
    world.run_for(5s);
    CHECK(world.table.size() == 4);
    CHECK(world.table.begin()->first == culprit.value);
    CHECK(world.problems() == "");
}

TEST_CASE("a released key goes on in order from the row that blocked it") {
    RelayWorld world(blocking());
    const RowId culprit = block_key_two(world);
    const RowId next{culprit.value + 5};
    const RowId last = world.insert({.key = 2});
    world.run_for(1s);
    world.poison.clear();
    world.unblock(2);
    world.run_for(2s);
    CHECK(world.drained_dry());
    CHECK(persisted_of(world, culprit, culprit) == std::vector{culprit});
    CHECK(std::find(world.persisted.begin(), world.persisted.end(), next) <
          std::find(world.persisted.begin(), world.persisted.end(), last));
    CHECK(world.problems() == "");
}

TEST_CASE("a key that is released although its row is still rejected is blocked again") {
    RelayWorld world(blocking());
    const RowId culprit = block_key_two(world);
    world.unblock(2);
    world.run_for(5s);
    CHECK(world.blocked_keys.size() == 1);
    CHECK(world.blocked_keys.begin()->second.id == culprit);
    CHECK(world.table.size() == 2);
    CHECK(world.problems() == "");
}

TEST_CASE("a key stays blocked through a lost session, and for a new process") {
    RelayWorld world(blocking());
    block_key_two(world);
    world.insert({.key = 2});
    world.lose_session();
    world.open_session();
    world.run_for(5s);
    CHECK(world.table.size() == 3);
    world.crash();
    world.start();
    world.insert({.key = 2});
    world.insert({.key = 3});
    world.run_for(5s);
    CHECK(world.table.size() == 4);
    world.poison.clear();
    world.unblock(2);
    world.run_for(2s);
    CHECK(world.drained_dry());
    CHECK(world.problems() == "");
}

TEST_CASE("rows without a key are dead-lettered under both policies") {
    RelayWorld world(blocking());
    world.start();
    world.prove("orders");
    for (int i = 0; i < 5; ++i) world.insert({.key = -1});
    const RowId culprit{world.last_id - 2};
    world.poison.insert(culprit);
    world.run_for(2s);
    CHECK(world.buried == std::vector{culprit});
    CHECK(world.blocked_keys.empty());
    CHECK(world.drained_dry());
}

TEST_CASE("a row too large for the broker blocks its key, and those behind it in the same read wait") {
    RelayWorld world(blocking());
    world.start();
    world.prove("orders");
    const RowId large = world.insert({.key = 1, .bytes = 3'000'000});
    world.insert({.key = 1});
    world.insert({.key = 2});
    world.run_for(2s);
    CHECK(world.table.size() == 2);
    CHECK(world.blocked_keys.size() == 1);
    CHECK(world.blocked_keys.begin()->second.id == large);
    CHECK(world.problems() == "");
}

TEST_CASE("a block that is refused is tried again, and the key waits meanwhile") {
    RelayWorld world(blocking());
    world.refuse_deletes = SIZE_MAX;
    world.start();
    const RowId large = world.insert({.key = 1, .bytes = 3'000'000});
    world.insert({.key = 1});
    world.run_for(10s);
    CHECK(world.blocked_keys.empty());
    CHECK(world.published.empty());
    world.refuse_deletes = 0;
    world.run_for(6s);
    REQUIRE(world.blocked_keys.size() == 1);
    CHECK(world.blocked_keys.begin()->second.id == large);
    CHECK(world.problems() == "");
}

TEST_CASE("a released key goes back to earlier rows than the one that blocked it") {
    for (const bool low_lags : {false, true}) {
        CAPTURE(low_lags);
        RelayWorld world(blocking());
        world.start();
        world.prove("orders");
        const auto writer = low_lags ? world.hold_low() : 0;
        world.broker_up = false;
        const RowId early = world.insert({.key = 1});
        world.insert({.key = 1, .bytes = 3'000'000});  // condemned at sight, while the first one is in flight
        world.run_for(1s);
        REQUIRE(world.blocked_keys.size() == 1);
        world.fail_all(FailureKind::in_doubt);
        world.run_for(3s);
        if (low_lags) world.rollback(writer);
        world.broker_up = true;
        world.run_for(3s);
        CHECK(world.table.size() == 2);
        world.unblock(1);
        world.run_for(3s);
        CHECK(world.persisted.back() == early);
        CHECK(world.blocked_keys.size() == 1);
        CHECK(world.problems() == "");
    }
}

TEST_CASE("a blocked key with many rows does not hold up the others while low lags") {
    RelayWorld world(blocking());
    const RowId culprit = block_key_two(world);
    world.hold_low();
    world.insert_many(20'000, {.key = 2});
    world.insert_many(100, {.key = 3});
    world.run_for(5s);
    CHECK(world.persisted.size() == 109);
    CHECK(world.table.begin()->first == culprit.value);
    CHECK(world.problems() == "");
}

// The other one's lease is over, and it does not know yet. Had the read left out what it was not told of, `low` would
// have gone past it.
TEST_CASE("a key that another worker blocks and an operator releases at once keeps its order while low lags") {
    RelayWorld world(blocking());
    block_key_two(world);
    const auto writer = world.hold_low();
    world.insert({.key = 9});
    world.run_for(600ms);
    const RowId earlier = world.insert({.key = 7});
    world.blocked_keys[{"orders", 7}] = world.table.at(earlier.value);
    world.insert({.key = 8});
    world.rollback(writer);
    world.run_for(200ms);  // the list is read twice a second
    world.unblock(7);
    const RowId later = world.insert({.key = 7});
    world.run_for(3s);
    const auto& rows = world.persisted;
    CHECK(world.table.size() == 2);
    CHECK(std::find(rows.begin(), rows.end(), earlier) < std::find(rows.begin(), rows.end(), later));
    CHECK(world.problems() == "");
}
