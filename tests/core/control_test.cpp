#include "core/control.hpp"

#include <doctest/doctest.h>

#include <algorithm>

#include "support/relay_world.hpp"

using namespace outbox;
using namespace std::chrono_literals;

namespace {

constexpr Instant start{std::chrono::seconds(10)};
constexpr KeyBlock seven{7, RowId{70}, 1};
constexpr BlockedDigest one_key{1, 70};

ControlRead control_read(BlockedDigest blocked = {}) {
    ControlRead read;
    read.blocked = blocked;
    return read;
}

template <class Wanted>
bool wants(Control& control, Instant now, bool blocks_under_way = false) {
    const auto action = control.next(blocks_under_way, now);
    return action && std::holds_alternative<Wanted>(*action);
}

// A session whose list of blocked keys holds this one.
void learn_of(Control& control, Instant now, std::vector<KeyBlock> keys = {seven}, BlockedDigest digest = one_key) {
    REQUIRE(wants<ReadControl>(control, now));
    control.on(control_read(digest), false, now);
    REQUIRE(wants<ReadBlockedKeys>(control, now));
    control.on(BlockedKeysRead{keys, digest}, false);
    REQUIRE(control.known());
}

}  // namespace

TEST_CASE("what operators want is read at once, then every half second, one statement at a time") {
    Control control;
    CHECK_FALSE(control.next(false, start).has_value());
    control.session_opened(start);
    CHECK(control.wake_at() == start);
    CHECK(wants<ReadControl>(control, start));
    CHECK_FALSE(control.next(false, start + 1h).has_value());
    CHECK_FALSE(control.known());
    control.on(control_read(), false, start);
    CHECK(control.known());
    CHECK(control.wake_at() == start + 500ms);
    CHECK_FALSE(control.next(false, start + 499ms).has_value());
    CHECK(wants<ReadControl>(control, start + 500ms));
}

TEST_CASE("the list of blocked keys is read when the database's differs from ours, and only then") {
    Control control;
    control.session_opened(start);
    CHECK(wants<ReadControl>(control, start));
    control.on(control_read(one_key), false, start);
    CHECK_FALSE(control.known());
    CHECK(wants<ReadBlockedKeys>(control, start));
    const std::vector<KeyBlock> keys{seven};
    CHECK(control.on(BlockedKeysRead{keys, one_key}, false).empty());
    CHECK(control.known());
    CHECK(control.pass_over(7, no_row));
    CHECK_FALSE(control.pass_over(8, no_row));
    CHECK(wants<ReadControl>(control, start + 500ms));
    control.on(control_read(one_key), false, start + 500ms);
    CHECK_FALSE(control.next(false, start + 500ms).has_value());
}

TEST_CASE("a key that is gone from the list is released, once") {
    Control control;
    control.session_opened(start);
    learn_of(control, start);
    CHECK(wants<ReadControl>(control, start + 500ms));
    control.on(control_read(), false, start + 500ms);
    CHECK(wants<ReadBlockedKeys>(control, start + 500ms));
    const auto released = control.on(BlockedKeysRead{}, false);
    REQUIRE(released.size() == 1);
    CHECK(released[0].row == RowId{70});
    CHECK_FALSE(control.pass_over(7, no_row));
    CHECK(control.blocked_keys() == 0);
}

TEST_CASE("a list that was read while a key was being blocked does not release that key") {
    for (const bool after_it_was_sent : {false, true}) {
        Control control;
        control.session_opened(start);
        learn_of(control, start);
        CHECK(wants<ReadControl>(control, start + 500ms));
        control.on(control_read(), false, start + 500ms);
        if (!after_it_was_sent) control.block(8, RowId{80}, 1);
        CHECK(wants<ReadBlockedKeys>(control, start + 500ms));
        if (after_it_was_sent) control.block(8, RowId{80}, 1);
        CHECK(control.on(BlockedKeysRead{}, !after_it_was_sent).empty());
        CHECK(control.pass_over(8, no_row));
        CHECK(control.pass_over(7, no_row));
    }
}

TEST_CASE("a key that was blocked and released between two looks is not blocked for ever") {
    Control control;
    control.session_opened(start);
    CHECK(wants<ReadControl>(control, start));
    control.on(control_read(), false, start);
    control.block(8, RowId{80}, 1);  // and an operator releases it at once
    CHECK(wants<ReadControl>(control, start + 500ms));
    control.on(control_read(), false, start + 500ms);
    CHECK(wants<ReadBlockedKeys>(control, start + 500ms));
    const auto released = control.on(BlockedKeysRead{}, false);
    REQUIRE(released.size() == 1);
    CHECK(released[0].row == RowId{80});
}

TEST_CASE("a new session knows nothing before it has asked, and releases what went in between") {
    Control control;
    control.session_opened(start);
    learn_of(control, start);
    control.session_lost();
    CHECK_FALSE(control.known());
    CHECK(control.wake_at() == never);
    CHECK(control.pass_over(7, no_row));
    control.session_opened(start + 1s);
    CHECK(wants<ReadControl>(control, start + 1s));
    control.on(control_read(), false, start + 1s);
    CHECK_FALSE(control.known());
    CHECK(wants<ReadBlockedKeys>(control, start + 1s));
    CHECK(control.on(BlockedKeysRead{}, false).size() == 1);
    CHECK(control.known());
}

TEST_CASE("a row without a key blocks none") {
    Control control;
    control.block(0, RowId{5}, 1);
    CHECK_FALSE(control.pass_over(0, no_row));
    CHECK(control.blocked_keys() == 0);
}

TEST_CASE("while everything is paused nothing is read, what is in flight finishes, and both are told") {
    RelayWorld world;
    world.start();
    world.prove("orders");
    world.broker_up = false;
    world.insert_many(10);
    world.run_for(100ms);
    REQUIRE(world.in_flight.size() == 10);
    world.pause(true);
    world.run_for(600ms);  // well before the next renewal is due
    CHECK(world.told_revision == 1);
    CHECK(world.told_in_flight == 10);
    world.insert_many(10);
    world.reads.clear();
    world.broker_up = true;
    world.run_for(100ms);
    CHECK(world.told_in_flight == 0);
    CHECK(world.table.size() == 10);
    world.run_for(120s);  // longer than a sweep takes to come round
    CHECK(world.reads.empty());
    CHECK(world.published.size() == 11);
    world.pause(false);
    world.run_for(1s);
    CHECK(world.told_revision == 2);
    CHECK(world.drained_dry());
    CHECK(world.problems() == "");
}

TEST_CASE("a pause survives a new session and a new process") {
    RelayWorld world;
    world.pause(true);
    world.insert_many(10);
    world.start();
    world.run_for(5s);
    CHECK(world.reads.empty());
    world.lose_session();
    world.open_session();
    world.run_for(5s);
    world.crash();
    world.start();
    world.run_for(5s);
    CHECK(world.reads.empty());
    CHECK(world.published.empty());
    world.pause(false);
    world.run_for(1s);
    CHECK(world.drained_dry());
}

TEST_CASE("rows that were read while the pause arrived are left for later") {
    RelayWorld world;
    world.start();
    world.prove("orders");
    world.pause(true);
    world.insert_many(10);
    world.now += 500ms;
    world.act();  // a look at what operators want and, behind it, a read
    while (world.execute()) {
    }
    REQUIRE(world.reads.back().limit > 0);
    world.run_for(1s);
    CHECK(world.published.size() == 1);
    world.pause(false);
    world.run_for(1s);
    CHECK(world.drained_dry());
    CHECK(world.problems() == "");
}

TEST_CASE("a topic that is paused before its first row is seen waits, and the others go on") {
    RelayWorld world;
    world.pause_topic("paused", true);
    world.insert_many(3000, {.key = 1, .topic = "paused"});
    world.insert_many(3000, {.key = 1, .topic = "good"});
    world.start();
    world.run_for(2s);
    CHECK(world.persisted.size() == 3000);
    CHECK(world.persisted.front() == RowId{3001});
    CHECK(world.table.size() == 3000);
    world.pause_topic("paused", false);
    world.run_for(2s);
    CHECK(world.drained_dry());
    CHECK(world.published.size() == 6000);
    CHECK(world.problems() == "");
}

TEST_CASE("a topic that is paused while its rows are in flight finishes those, and goes on in order when resumed") {
    RelayWorld world;
    world.start();
    world.prove("orders");
    world.prove("good");
    world.broker_up = false;
    for (int i = 0; i < 10; ++i) world.insert({.key = i % 3});
    world.run_for(100ms);
    world.pause_topic("orders", true);
    for (int i = 0; i < 10; ++i) world.insert({.key = i % 3});
    world.run_for(1s);
    CHECK(world.in_flight.size() >= 10);
    for (int i = 0; i < 5; ++i) world.insert({.key = i % 3});
    world.insert_many(10, {.topic = "good"});
    world.broker_up = true;
    world.run_for(5s);
    const auto waiting = world.table.size();
    CHECK(waiting >= 5);
    CHECK(waiting <= 15);
    world.run_for(5s);
    CHECK(world.table.size() == waiting);
    world.pause_topic("orders", false);
    world.run_for(2s);
    CHECK(world.drained_dry());
    CHECK(world.published.size() == 37);
    CHECK(world.problems() == "");
}

TEST_CASE("a topic may be paused and resumed again and again") {
    RelayWorld world;
    world.start();
    for (int i = 0; i < 20; ++i) {
        for (int key = 0; key < 7; ++key) world.insert({.key = key});
        world.pause_topic("orders", i % 2 == 0);
        world.run_for(std::chrono::milliseconds(250 + 90 * i));
    }
    world.run_for(2s);
    CHECK(world.drained_dry());
    CHECK(world.published.size() == 140);
    CHECK(world.problems() == "");
}
