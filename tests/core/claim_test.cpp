// What a relay does that claims rows, one situation at a time. Several of them over one table: claims_random_test.cpp.
#include "core/claim.hpp"

#include <doctest/doctest.h>

#include <algorithm>

#include "support/relay_world.hpp"

using namespace outbox;
using namespace std::chrono_literals;

namespace {

constexpr Duration hold = 1500ms;  // half a lease

RelayWorldSettings settings() {
    RelayWorldSettings settings;
    settings.relay.claim = ClaimMode::rows;
    settings.relay.batch_rows = 8;
    settings.relay.in_flight_rows = 64;
    return settings;
}

std::ptrdiff_t acquisitions(const RelayWorld& world) {
    return std::count_if(world.actions.begin(), world.actions.end(), [](const Action& action) {
        return std::holds_alternative<AcquireLanes>(action) || std::holds_alternative<ReleaseLanes>(action);
    });
}

}  // namespace

TEST_CASE("a claim is due when every row is home, or when it was held for long enough") {
    Claim claim(3s);
    const Instant start{100s};
    CHECK_FALSE(claim.due(0, start));
    claim.sent(false, start);
    CHECK_FALSE(claim.due(0, start + 1h));  // the rows have not come: nothing can be said
    CHECK(claim.wake_at() == never);
    claim.answered();
    CHECK(claim.due(0, start));
    CHECK_FALSE(claim.due(1, start + hold - 1ns));
    CHECK(claim.due(1, start + hold));
    CHECK(claim.wake_at() == start + hold);
    claim.ended(1);
    CHECK(claim.outlasted() == 1);
    CHECK_FALSE(claim.open());
    CHECK(claim.wake_at() == never);

    claim.sent(true, start);
    claim.answered();
    CHECK(claim.wake_at() == start + hold / 6);
    Claim patient(1h);
    patient.sent(false, start);
    patient.answered();
    CHECK(patient.wake_at() == start + 5s);
}

TEST_CASE("rows are relayed without a lease, and nothing is said inside a claim") {
    RelayWorld world(settings());
    world.start();
    world.insert_many(500);
    world.run_for(5s);
    CHECK(world.problems() == "");
    CHECK(world.drained_dry());
    CHECK(world.persisted.size() == 500);
    CHECK(world.claims > 10);
    CHECK(acquisitions(world) == 0);
    CHECK(world.guarded_deletes == 0);
}

TEST_CASE("while somebody leases lanes nothing is claimed") {
    RelayWorld world(settings());
    world.steal(7);
    world.start();
    world.insert_many(5);
    world.run_for(5s);
    CHECK(world.problems() == "");
    CHECK(world.claims == 0);
    CHECK(world.relay.leased_by_others().size() == 1);
    world.owners.fill(RelayWorld::Owner::nobody);
    world.run_for(2s);
    CHECK(world.drained_dry());
    world.steal(7);
    world.run_for(2s);
    const std::size_t claims = world.claims;
    world.insert_many(5);
    world.run_for(2s);
    CHECK(world.claims == claims);
}

TEST_CASE("what Kafka does not take in time is let go, stays known, and is deleted by its event when it is home") {
    RelayWorld world(settings());
    world.start();
    world.prove("orders");
    world.broker_up = false;
    world.insert_many(6);
    world.run_for(2s);
    CHECK(world.published.size() == 7);
    CHECK(world.relay.window().rows_in_flight() == 6);
    CHECK(world.relay.window().rows_claimed() == 0);
    CHECK(world.held_longest >= hold);
    CHECK(world.held_longest < hold + 1ms);
    world.run_for(10s);
    CHECK(world.published.size() == 7);  // nobody is asked twice for what is in flight
    world.broker_up = true;
    world.run_for(1s);
    CHECK(world.problems() == "");
    CHECK(world.drained_dry());
    CHECK(world.guarded_deletes > 0);
    CHECK(world.published.size() == 7);
}

TEST_CASE("rows that come when their claim was held for long enough are left to others") {
    RelayWorld world(settings());
    world.start();
    world.prove("orders");
    const std::size_t claims = world.claims;
    while (world.claims == claims) {
        world.now += 1ms;
        world.act();
        while (world.claims == claims && (world.execute() || world.answer())) {
        }
    }
    world.insert_many(4);
    world.now += hold;  // Postgres is slow
    world.answer_all();
    CHECK(world.relay.window().rows() == 0);
    CHECK_FALSE(world.relay.claim().open());
    CHECK(world.published.size() == 1);
    world.run_for(1s);
    CHECK(world.problems() == "");
    CHECK(world.drained_dry());
    CHECK(world.published.size() == 5);
}

TEST_CASE("the end of a claim deletes nothing that an earlier one let go") {
    RelayWorld world(settings());
    world.start();
    world.prove("orders");
    world.prove("stuck");
    world.stick("stuck");
    world.insert_many(4, {.topic = "stuck"});
    world.run_for(4s);
    CHECK(world.relay.window().rows_in_flight() == 4);
    CHECK(world.relay.window().rows_claimed() == 0);
    world.broker_latency = 100ms;
    world.insert_many(8);
    world.run_for(50ms);
    CHECK(world.relay.window().rows_claimed() == 8);
    world.unstick("stuck");
    world.run_for(15s);
    CHECK(world.problems() == "");
    CHECK(world.drained_dry());
    CHECK(world.guarded_deletes > 0);
}

TEST_CASE("no claim is open while the cluster is down") {
    RelayWorld world(settings());
    world.start();
    world.prove("orders");
    world.broker_up = false;
    world.relay.on(ClusterUnreachable{}, world.now);
    const std::size_t claims = world.claims;
    world.insert_many(100);
    world.run_for(60s);
    CHECK(world.claims == claims);
    world.broker_up = true;
    world.relay.on(ClusterReachable{}, world.now);
    world.run_for(10s);
    CHECK(world.drained_dry());
    CHECK(world.problems() == "");
}

TEST_CASE("a drain ends the claim, deletes what it published and leaves") {
    RelayWorld world(settings());
    world.start();
    world.prove("orders");
    world.broker_up = false;
    world.insert_many(8);
    world.run_for(100ms);
    CHECK(world.relay.window().rows_claimed() > 0);
    world.relay.drain();
    world.run_for(100ms);
    CHECK_FALSE(world.left);
    world.broker_up = true;
    world.run_for(1s);
    CHECK(world.left);
    CHECK(world.relay.drained());
    CHECK(world.problems() == "");
    CHECK(world.relay.window().rows() == 0);
    CHECK(world.published.size() == world.persisted.size());
}

TEST_CASE("a claim is over when its session is lost") {
    RelayWorld world(settings());
    world.start();
    world.prove("orders");
    world.broker_up = false;
    world.insert_many(8);
    world.run_for(100ms);
    REQUIRE(world.relay.window().rows_claimed() == 8);
    world.lose_session();
    CHECK_FALSE(world.relay.claim().open());
    CHECK(world.relay.window().rows_claimed() == 0);
    world.broker_up = true;
    world.open_session();
    world.run_for(1s);
    CHECK(world.problems() == "");
    CHECK(world.drained_dry());
    CHECK(world.published.size() == 9);
}

TEST_CASE("a topic that is stuck costs the others one claim, not more") {
    RelayWorld world(settings());
    world.start();
    world.prove("orders");
    world.prove("stuck");
    world.stick("stuck");
    world.insert_many(4, {.topic = "stuck"});
    world.insert_many(200);
    world.run_for(4s);
    CHECK(world.persisted.size() == 202);
    CHECK(world.relay.topics().parked().size() == 1);
    CHECK_FALSE(world.relay.low_mark().lags());  // nor does it hold the mark: reads would walk what died above its rows
    world.unstick("stuck");
    world.run_for(15s);
    CHECK(world.problems() == "");
    CHECK(world.drained_dry());
}

TEST_CASE("a topic that catches up waits for a row that somebody else has claimed") {
    RelayWorld world(settings());
    world.start();
    world.prove("orders");
    world.prove("stuck");
    world.stick("stuck");
    world.insert_many(4, {.topic = "stuck"});
    world.run_for(4s);
    REQUIRE(world.relay.topics().parked().size() == 1);
    world.insert_many(4, {.topic = "stuck"});
    const RowId theirs{world.last_id - 2};
    world.locked.insert(theirs);
    world.unstick("stuck");
    world.run_for(15s);
    REQUIRE(world.table.size() == 1);
    CHECK(world.table.contains(theirs.value));
    world.locked.clear();  // given back
    world.run_for(5s);     // sooner than a sweep
    CHECK(world.problems() == "");
    CHECK(world.drained_dry());
}

// A lane that goes back over its rows is read by itself, and what such a read brings would move no claim's mark.
TEST_CASE("a topic that is tried while the session is lost keeps no lane from being claimed") {
    RelayWorld world(settings());
    world.start();
    world.prove("orders");
    world.broker_up = false;
    const RowId row = world.insert({.topic = "denied"});
    const auto until_it_is_sent = [&] {
        for (int i = 0; i < 200 && world.in_flight.empty(); ++i) world.run_for(10ms);
    };
    until_it_is_sent();
    world.fail_topic(FailureKind::topic, "denied");
    until_it_is_sent();
    REQUIRE(world.relay.topics().parked_in_flight() == 1);  // it is tried
    world.lose_session();
    world.open_session();
    world.run_for(100ms);
    world.fail_topic(FailureKind::topic, "denied");
    CHECK(world.relay.lanes().current() == LaneSet::all());
    world.broker_up = true;
    const std::size_t claims = world.claims;
    world.run_for(5s);  // sooner than a sweep
    CHECK(std::count(world.persisted.begin(), world.persisted.end(), row) == 1);
    CHECK(world.claims - claims < 200);
    CHECK(world.problems() == "");
    CHECK(world.drained_dry());
}

TEST_CASE("the mark stays below a row that is there, and follows when it is gone") {
    RelayWorld world(settings());
    world.start();
    world.prove("orders");
    world.run_for(1s);
    const RowId first{world.last_id};
    world.broker_latency = 200ms;
    world.insert_many(8);
    world.run_for(150ms);
    CHECK(world.relay.low_mark().low() == first);
    world.run_for(1s);
    CHECK(world.drained_dry());
    CHECK(world.relay.low_mark().low() == RowId{world.last_id});
    CHECK(world.problems() == "");
}

TEST_CASE("a worker that gets no rows keeps its mark up with those that others relay") {
    RelayWorld world(settings());
    world.start();
    world.prove("orders");
    for (int i = 0; i < 20; ++i) {
        world.last_id += 1000;  // drawn, relayed and deleted elsewhere
        world.run_for(1s);
    }
    CHECK(world.relay.low_mark().low() == RowId{world.last_id});
    CHECK(world.problems() == "");
}

TEST_CASE("the rows of a process's first claim are noted before they are claimed") {
    RelayWorld world(settings());
    world.insert_many(20);
    world.start();
    world.run_for(5ms);
    REQUIRE(world.reads.size() >= 2);
    CHECK(world.reads[0].noted);
    CHECK_FALSE(world.reads[0].claim);
    CHECK(world.reads[1].claim);
    CHECK_FALSE(world.reads[1].noted);
    CHECK(world.reads[1].upto == world.noted.back());
    world.run_for(2s);
    CHECK(world.noted.empty());
    CHECK(world.drained_dry());
    CHECK(world.problems() == "");
}

TEST_CASE("while the burial of a row that ends processes waits nothing is claimed, and nobody turns in vain") {
    RelayWorld world(settings());
    world.attempts = {{RowId{3}, RowId{3}, 1}, {RowId{3}, RowId{3}, 2}, {RowId{3}, RowId{3}, 3}};
    world.insert_many(10);
    world.refuse_deletes = SIZE_MAX;
    world.start();
    world.run_for(10s);
    CHECK(world.claims == 0);
    CHECK(world.wake_ups < 500);
    world.refuse_deletes = 0;
    world.run_for(10s);
    CHECK(world.buried == std::vector{RowId{3}});
    CHECK(world.problems() == "");
    CHECK(world.drained_dry());
}

TEST_CASE("the operator's ceiling is shared by those who claim rows") {
    RelayWorld world(settings());
    world.living = 4;
    world.rank = 1;
    world.start();
    world.set_rate(400);
    world.run_for(2s);
    world.insert_many(1000);
    const std::size_t before = world.persisted.size();
    world.run_for(4s);
    const std::size_t relayed = world.persisted.size() - before;
    CHECK(relayed >= 350);
    CHECK(relayed <= 450);
}

TEST_CASE("a claim whose delete is refused is over; its rows are deleted by their events") {
    RelayWorld world(settings());
    world.start();
    world.prove("orders");
    world.refuse_deletes = 1;
    world.insert_many(5);
    world.run_for(2s);
    CHECK(world.problems() == "");
    CHECK(world.drained_dry());
    CHECK(world.guarded_deletes == 1);
    CHECK(world.published.size() == 6);
}
