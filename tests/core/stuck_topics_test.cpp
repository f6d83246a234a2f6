// Topics that are stopped, missing or stuck, beside topics that are well: across Topics, Reading, Cluster and Relay.
#include <doctest/doctest.h>

#include <algorithm>

#include "support/relay_world.hpp"

using namespace outbox;
using namespace std::chrono_literals;
using Writer = RelayWorld::Writer;

namespace {

std::size_t count_waiting(const RelayWorld& world, const std::string& topic) {
    return static_cast<std::size_t>(std::count_if(world.table.begin(), world.table.end(),
                                                  [&](const auto& one) { return one.second.row.topic == topic; }));
}

}  // namespace

TEST_CASE("a topic whose acknowledgements fail to come leaves the others flowing, and catches up in order") {
    RelayWorld world;
    world.start();
    world.prove("stuck");
    world.prove("good");
    world.stick("stuck");
    const Writer writer = world.begin();
    for (int i = 0; i < 100'000; ++i) world.insert(writer, {.key = i % 50, .topic = "stuck"});
    world.commit(writer);
    world.insert_many(1000, {.key = 1, .topic = "good"});
    const RowId first_good{world.last_id - 999};
    world.run_for(4s);
    CHECK(world.persisted.size() == 1002);
    CHECK(world.persisted.back() == RowId{world.last_id});
    CHECK(world.persisted[2] == first_good);
    const std::size_t stuck = world.stuck();
    CHECK(stuck > 10'000);
    world.run_for(30s);
    CHECK(world.stuck() == stuck);
    CHECK(world.relay.cluster().circuit().closed());
    const std::size_t before = world.persisted.size();
    for (int i = 0; i < 100; ++i) {
        world.insert_many(100, {.key = 1, .topic = "good"});
        world.run_for(10ms);
    }
    world.run_for(100ms);
    CHECK(world.persisted.size() - before == 10'000);  // at full speed
    world.unstick("stuck");
    world.run_for(5s);
    CHECK(world.drained_dry());
    CHECK(world.published.size() == 111'002);  // nothing twice
    CHECK(world.problems() == "");
}

TEST_CASE("a topic that is stuck opens its circuit, and its acknowledgements close it") {
    RelayWorld world;
    world.start();
    world.prove("stuck");
    world.prove("good");
    world.stick("stuck");
    world.insert_many(50'000, {.topic = "stuck"});
    world.insert_many(10, {.topic = "good"});
    const TopicIndex stuck = world.relay.topics().index_of("stuck");
    for (int i = 0; i < 8; ++i) {
        world.run_for(1s);
        world.insert({.topic = "good"});
    }
    CHECK(world.relay.topics()[stuck].circuit.state() == Circuit::State::open);
    CHECK(world.relay.cluster().circuit().closed());
    world.unstick("stuck");
    world.run_for(2s);
    CHECK(world.relay.topics()[stuck].circuit.closed());
    CHECK(world.drained_dry());
    CHECK(world.published.size() == 50'020);
    CHECK(world.problems() == "");
}

TEST_CASE("several stuck topics leave room for the rest") {
    RelayWorld world;
    world.start();
    for (const char* topic : {"one", "two", "three", "good"}) world.prove(topic);
    for (const char* topic : {"one", "two", "three"}) {
        world.stick(topic);
        world.insert_many(30'000, {.topic = topic});
    }
    world.insert_many(1000, {.topic = "good"});
    world.run_for(10s);
    CHECK(count_waiting(world, "good") == 0);
    for (const char* topic : {"three", "one", "two"}) world.unstick(topic);
    world.run_for(5s);
    CHECK(world.drained_dry());
    CHECK(world.published.size() == 91'004);
    CHECK(world.problems() == "");
}

TEST_CASE("a stopped topic with many rows in front does not hold up the others while low lags") {
    RelayWorld world;
    world.start();
    world.prove("bad");
    world.prove("good");
    world.hold_low();
    world.pause_topic("bad", true);
    world.run_for(1s);
    world.insert_many(20'000, {.topic = "bad"});
    world.insert_many(100, {.topic = "good"});
    world.run_for(5s);
    CHECK(count_waiting(world, "good") == 0);
    CHECK(world.problems() == "");
}

TEST_CASE("a missing topic with many rows in front does not hold up the others") {
    RelayWorld world;
    world.start();
    world.insert_many(50'000, {.topic = "missing"});
    world.insert_many(1000, {.key = 7, .topic = "good"});
    for (int i = 0; i < 50; ++i) {
        world.stick("missing");
        world.run_for(100ms);
        world.unstick("missing");
        world.fail_topic(FailureKind::topic, "missing");
    }
    CHECK(count_waiting(world, "good") == 0);
    CHECK(world.relay.topics()[world.relay.topics().index_of("missing")].circuit.failures() > 2);
    world.run_for(30s);
    CHECK(world.drained_dry());
    CHECK(world.problems() == "");
}

TEST_CASE("a stuck topic does not keep a new session or a lapsed lane from the others") {
    for (const bool session : {false, true}) {
        CAPTURE(session);
        RelayWorld world;
        world.start();
        world.prove("stuck");
        world.prove("good");
        world.stick("stuck");
        for (int key = 0; key < 64; ++key) world.insert({.key = key, .topic = "stuck"});
        world.run_for(500ms);
        REQUIRE(world.stuck() == 64);
        if (session) {
            world.lose_session();
            world.open_session();
        } else {
            world.now += 2800ms;  // nobody answers for the whole trust of the leases
            world.act();
        }
        for (int key = 0; key < 64; ++key) world.insert({.key = key, .topic = "good"});
        world.run_for(10s);
        CHECK(count_waiting(world, "good") == 0);
        world.unstick("stuck");
        world.run_for(5s);
        CHECK(world.drained_dry());
        CHECK(world.problems() == "");
    }
}

TEST_CASE("a row of a failed topic that commits late, below the row that failed, is not left out for good") {
    RelayWorld world;
    world.start();
    world.prove("bad");
    world.broker_up = false;
    const Writer writer = world.begin();
    const RowId late = world.insert(writer, {.key = 1, .topic = "bad"});
    world.insert({.key = 2, .topic = "bad"});
    world.run_for(100ms);
    REQUIRE(world.in_flight.size() == 1);
    world.fail_topic(FailureKind::topic, "bad");
    world.commit(writer);
    world.broker_up = true;
    world.run_for(5s);  // `low` moves past the late row by reads that leave the topic out
    CHECK(std::count(world.persisted.begin(), world.persisted.end(), late) == 1);
    CHECK(world.drained_dry());
    CHECK(world.problems() == "");
}
