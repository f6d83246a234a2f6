#include "core/cluster.hpp"

#include <doctest/doctest.h>

#include <algorithm>

#include "support/relay_world.hpp"

using namespace outbox;
using namespace std::chrono_literals;

namespace {

constexpr Instant start{std::chrono::seconds(10)};
constexpr Backoff backoff{100ms, 1s};

using State = Circuit::State;

template <class Wanted>
std::size_t count_of(const std::vector<Action>& actions) {
    return static_cast<std::size_t>(std::count_if(
        actions.begin(), actions.end(), [](const Action& one) { return std::holds_alternative<Wanted>(one); }));
}

// Ten rows are out and the broker does not answer.
void strand_ten_rows(RelayWorld& world) {
    world.start();
    world.prove("orders");
    world.broker_up = false;
    world.insert_many(10);
    world.run_for(100ms);
    REQUIRE(world.in_flight.size() == 10);
}

State state_of(const RelayWorld& world) {
    return world.relay.cluster().circuit().state();
}

}  // namespace

TEST_CASE("a circuit opens on a failure, and failures while it is open are the same one") {
    Circuit circuit;
    CHECK(circuit.closed());
    circuit.trip("first", start, backoff, 0.5);
    CHECK(circuit.state() == State::open);
    CHECK(circuit.retry_at() == start + 75ms);
    circuit.trip("again", start + 10ms, backoff, 0.5);
    CHECK(circuit.failures() == 1);
    CHECK(circuit.retry_at() == start + 85ms);
    CHECK(circuit.reason() == "again");
}

TEST_CASE("a circuit that fails half-open waits longer, and one that closed starts anew") {
    Circuit circuit;
    Duration before{};
    for (int i = 0; i < 4; ++i) {
        circuit.trip("test", start, backoff, 0);
        CHECK(circuit.retry_at() - start == std::max<Duration>(before * 2, 50ms));
        before = circuit.retry_at() - start;
        circuit.try_again();
        CHECK(circuit.state() == State::half_open);
        CHECK_FALSE(circuit.closed());
    }
    circuit.close();
    CHECK(circuit.closed());
    circuit.trip("test", start, backoff, 0);
    CHECK(circuit.retry_at() - start == 50ms);
}

TEST_CASE("the cluster is tried again after the backoff, but not before a broker can be reached") {
    Cluster cluster(1);
    cluster.unreachable(start);
    CHECK(cluster.circuit().state() == State::open);
    CHECK(cluster.wake_at(0) == never);
    cluster.turn(0, start + 1h);
    CHECK(cluster.circuit().state() == State::open);
    cluster.reachable(start);
    CHECK(cluster.wake_at(0) == cluster.circuit().retry_at());
    cluster.turn(0, cluster.circuit().retry_at() - 1ns);
    CHECK(cluster.circuit().state() == State::open);
    cluster.turn(0, cluster.circuit().retry_at());
    CHECK(cluster.circuit().state() == State::half_open);
}

TEST_CASE("an acknowledgement closes the cluster's circuit, and says so once") {
    Cluster cluster(1);
    CHECK_FALSE(cluster.acknowledged(start));
    cluster.failed("test", start);
    CHECK(cluster.circuit().reason() == "test");
    CHECK(cluster.acknowledged(start + 1s));
    CHECK(cluster.circuit().closed());
    CHECK_FALSE(cluster.acknowledged(start + 1s));
}

TEST_CASE("three seconds without an acknowledgement open the cluster's circuit, unless nothing is in flight") {
    Cluster cluster(1);
    cluster.turn(0, start + 1h);
    CHECK(cluster.circuit().closed());
    cluster.sent(0, start);
    cluster.sent(5, start + 2s);  // more rows are no progress
    CHECK(cluster.wake_at(5) == start + 3s);
    cluster.turn(5, start + 3s - 1ns);
    CHECK(cluster.circuit().closed());
    cluster.turn(5, start + 3s);
    CHECK(cluster.circuit().state() == State::open);
}

TEST_CASE("while the cluster's circuit is open nothing is read and nothing is given up") {
    RelayWorld world;
    strand_ten_rows(world);
    world.relay.on(ClusterUnreachable{}, world.now);
    world.insert_many(10);
    const std::size_t reads = world.reads.size();
    world.wake_ups = 0;
    world.run_for(60s);
    CHECK(state_of(world) == State::open);
    CHECK(world.reads.size() <= reads);
    CHECK(world.in_flight.size() == 10);
    CHECK(world.published.size() == 11);
    CHECK(world.wake_ups < 1000);
    CHECK(world.problems() == "");
}

TEST_CASE("the first acknowledgement of what was in flight closes the cluster's circuit, and nothing is sent twice") {
    RelayWorld world;
    strand_ten_rows(world);
    world.relay.on(ClusterUnreachable{}, world.now);
    world.insert_many(10);
    world.run_for(20s);
    world.relay.on(ClusterReachable{}, world.now);
    world.run_for(100ms);
    CHECK(world.published.size() == 11);
    world.deliver(1);
    CHECK(state_of(world) == State::closed);
    world.broker_up = true;
    world.run_for(1s);
    CHECK(world.drained_dry());
    CHECK(world.published.size() == 21);
    CHECK(world.buried.empty());
    CHECK(world.problems() == "");
}

TEST_CASE("silence opens the cluster's circuit although brokers can be reached") {
    RelayWorld world;
    strand_ten_rows(world);
    world.run_for(2500ms);
    CHECK(state_of(world) == State::closed);
    world.run_for(500ms);
    CHECK(state_of(world) == State::open);
    CHECK(world.relay.cluster().circuit().reason() == "no acknowledgement for 3 s");
    world.broker_up = true;
    world.run_for(1s);
    CHECK(state_of(world) == State::closed);
    CHECK(world.drained_dry());
}

TEST_CASE("in the silence after an outage began, topics that are stuck are looked for at intervals") {
    RelayWorld world;
    world.start();
    world.prove("one");
    world.prove("two");
    world.broker_up = false;
    world.insert({.topic = "one"});
    world.run_for(2500ms);
    world.insert({.topic = "two"});
    world.wake_ups = 0;
    world.run_for(1s);  // "one" has been silent for long enough to be parked, "two" has not
    CHECK(state_of(world) == State::open);
    CHECK(world.wake_ups < 100);
    CHECK(world.problems() == "");
}

TEST_CASE("with nothing in flight a small batch tries the cluster, again after a longer wait") {
    RelayWorld world;
    world.start();
    world.prove("orders");
    world.broker_up = false;
    world.insert_many(5000);
    world.relay.on(ClusterFailed{"test"}, world.now);
    world.run_for(50ms);
    CHECK(world.in_flight.empty());
    world.run_for(450ms);
    CHECK(state_of(world) == State::half_open);
    CHECK(world.in_flight.size() == Cluster::probe_rows);
    world.fail_all(FailureKind::cluster);
    CHECK(state_of(world) == State::open);
    CHECK(world.relay.cluster().circuit().failures() == 2);
    world.run_for(190ms);
    CHECK(world.in_flight.empty());
    world.run_for(500ms);
    CHECK(world.in_flight.size() == Cluster::probe_rows);
    world.broker_up = true;
    world.run_for(10s);
    CHECK(state_of(world) == State::closed);
    CHECK(world.drained_dry());
    CHECK(world.problems() == "");
}

TEST_CASE("rows that were read while the cluster's circuit opened are left for later") {
    RelayWorld world;
    world.start();
    world.prove("orders");
    world.insert_many(50);
    world.now += 60ms;
    world.act();
    while (world.execute()) {
    }
    world.relay.on(ClusterUnreachable{}, world.now);
    world.answer_all();
    CHECK(world.published.size() == 1);
    world.relay.on(ClusterReachable{}, world.now);
    world.run_for(5s);
    CHECK(world.drained_dry());
    CHECK(world.published.size() == 51);
    CHECK(world.problems() == "");
}

TEST_CASE("an outage that met no row is over when there is none to try") {
    RelayWorld world;
    world.start();
    world.relay.on(ClusterUnreachable{}, world.now);
    world.run_for(10s);
    CHECK(state_of(world) == State::open);
    world.relay.on(ClusterReachable{}, world.now);
    world.run_for(100ms);
    CHECK(state_of(world) == State::closed);
    CHECK(world.relay.pacing().recovery_rate() == 0);
}

TEST_CASE("a topic whose acknowledgements fail to come does not open the cluster's circuit for the others") {
    RelayWorld world;
    world.start();
    world.prove("stuck");
    world.prove("good");
    world.stick("stuck");
    world.insert({.topic = "stuck"});
    world.run_for(10s);  // nobody else has anything to say
    world.insert_many(100, {.topic = "good"});
    world.run_for(10s);
    CHECK(std::count_if(world.table.begin(), world.table.end(),
                        [](const auto& one) { return one.second.row.topic == "good"; }) == 0);
    world.unstick("stuck");
    world.run_for(2s);
    CHECK(world.drained_dry());
    CHECK(world.published.size() == 103);
    CHECK(world.problems() == "");
}

TEST_CASE("rows that wait for their topic do not slow the trial of a cluster") {
    RelayWorld world;
    world.pause_topic("paused", true);
    world.insert_many(20'000, {.topic = "paused"});
    world.insert_many(10, {.topic = "good"});
    world.relay.on(ClusterFailed{"test"}, world.now);
    world.start();
    world.run_for(2s);
    CHECK(world.persisted.size() == 10);
    CHECK(state_of(world) == State::closed);
    CHECK(world.problems() == "");
}

TEST_CASE("an outage sends nothing to the dead letters, however long it is and however often a broker returns") {
    RelayWorld world;
    world.start();
    world.prove("orders");
    world.broker_up = false;
    for (int outage = 0; outage < 5; ++outage) {
        world.insert_many(500);
        world.relay.on(ClusterUnreachable{}, world.now);
        world.run_for(600s);
        world.relay.on(ClusterReachable{}, world.now);
        world.deliver(3);
        world.fail_all(outage % 2 == 0 ? FailureKind::cluster : FailureKind::in_doubt);
    }
    world.broker_up = true;
    world.run_for(30s);
    CHECK(world.drained_dry());
    CHECK(world.lost.empty());
    CHECK(world.buried.empty());
    CHECK(count_of<BuryRow>(world.actions) == 0);
    CHECK(world.problems() == "");
}
