#include "core/relay.hpp"

#include <doctest/doctest.h>

#include <algorithm>

#include "support/relay_world.hpp"

using namespace outbox;
using namespace std::chrono_literals;

namespace {

template <class Wanted>
std::size_t count_of(const std::vector<Action>& actions) {
    return static_cast<std::size_t>(std::count_if(
        actions.begin(), actions.end(), [](const Action& one) { return std::holds_alternative<Wanted>(one); }));
}

template <class Wanted>
std::size_t place_of(const std::vector<Action>& actions) {
    const auto found = std::find_if(actions.begin(), actions.end(),
                                    [](const Action& one) { return std::holds_alternative<Wanted>(one); });
    return static_cast<std::size_t>(found - actions.begin());
}

std::vector<RowId> ids(std::initializer_list<std::int64_t> values) {
    std::vector<RowId> rows;
    for (const std::int64_t value : values) rows.push_back(RowId{value});
    return rows;
}

RelayWorldSettings small_batches(std::uint32_t batch_rows, std::uint32_t in_flight_rows = 1000) {
    RelayWorldSettings settings;
    settings.relay.batch_rows = batch_rows;
    settings.relay.in_flight_rows = in_flight_rows;
    return settings;
}

}  // namespace

TEST_CASE("a row is deleted only after the broker acknowledged it") {
    RelayWorld world;
    world.broker_up = false;
    world.start();
    world.insert();
    world.run_for(5s);
    CHECK(world.published == ids({1}));
    CHECK(world.deleted.empty());
    world.broker_up = true;
    world.run_for(1s);
    CHECK(world.deleted == ids({1}));
    CHECK(world.drained_dry());
    CHECK(world.problems() == "");
}

TEST_CASE("no lane is taken and nothing is read without a producer") {
    RelayWorld world;
    world.insert();
    world.open_session();
    world.answer_all();
    world.run_for(60s);
    CHECK(world.relay.lanes().owned().empty());
    CHECK(world.reads.empty());
    world.open_producer();
    world.run_for(1s);
    CHECK(world.relay.lanes().owned() == LaneSet::all());
    CHECK(world.drained_dry());
}

TEST_CASE("the rows of a read are published before the next read is asked for") {
    RelayWorld world(small_batches(10));
    world.start();
    world.insert_many(30);
    world.now += 60ms;
    world.act();
    world.execute();
    world.actions.clear();
    while (world.published.empty()) {
        world.execute();
        world.answer();
    }
    CHECK(place_of<Publish>(world.actions) < place_of<ReadRows>(world.actions));
}

TEST_CASE("rows of a backlog may wait for company at the producer, the last ones may not") {
    RelayWorld world(small_batches(10));
    world.start();
    world.prove("orders");
    world.actions.clear();
    world.insert_many(25);
    world.run_for(1s);
    CHECK(world.drained_dry());
    std::vector<std::pair<std::size_t, bool>> published;
    for (const Action& action : world.actions)
        if (const auto* rows = std::get_if<Publish>(&action))
            published.emplace_back(rows->rows.size(), rows->more_follow);
    CHECK(published == std::vector<std::pair<std::size_t, bool>>{{10, true}, {10, true}, {5, false}});
}

TEST_CASE("rows that a ceiling lets through do not wait for company: the next ones may be long in coming") {
    RelayWorld world(small_batches(10));
    world.start();
    world.prove("orders");
    world.set_rate(5);
    world.actions.clear();
    world.insert_many(25);
    world.run_for(10s);
    CHECK(world.drained_dry());
    CHECK(std::ranges::none_of(world.actions, [](const Action& action) {
        const auto* rows = std::get_if<Publish>(&action);
        return rows != nullptr && rows->more_follow;
    }));
}

TEST_CASE("a delete takes as many rows as a read brings") {
    RelayWorld world(small_batches(10, 400));
    world.start();
    world.prove("orders");
    world.broker_up = false;
    world.insert_many(300);
    world.run_for(1s);
    REQUIRE(world.in_flight.size() == 300);
    world.actions.clear();
    world.broker_up = true;
    world.run_for(1s);
    CHECK(world.drained_dry());
    CHECK(count_of<DeleteRows>(world.actions) == 30);
    CHECK(world.problems() == "");
}

// Where reads and deletes have a session each, an answer waits for the read beside it, and the server must not.
TEST_CASE("deletes go out although several earlier ones have not been answered") {
    RelayWorld world(small_batches(10, 400));
    world.start();
    world.prove("orders");
    world.broker_up = false;
    world.insert_many(300);
    world.run_for(1s);
    REQUIRE(world.in_flight.size() == 300);
    world.actions.clear();
    for (std::size_t deletes = 1; deletes <= deletes_under_way_max + 2; ++deletes) {
        world.deliver(10);
        world.now += 10ms;
        world.act();
        CHECK(count_of<DeleteRows>(world.actions) == std::min(deletes, deletes_under_way_max));
    }
    world.broker_up = true;
    world.run_for(1s);
    CHECK(world.drained_dry());
    CHECK(world.deleted.size() == 301);
    CHECK(world.problems() == "");
}

// Those acknowledged first lie among others that will be in a moment: of three times as many, the lowest are nearly
// whole.
TEST_CASE("a delete takes the lowest of the rows that are worth one") {
    RelayWorld world(small_batches(10, 400));
    world.start();
    world.prove("orders");
    world.broker_up = false;
    world.insert_many(300);
    world.run_for(1s);
    REQUIRE(world.in_flight.size() == 300);
    world.actions.clear();
    world.deliver(29);
    world.act();
    CHECK(count_of<DeleteRows>(world.actions) == 0);
    world.deliver(1);
    world.act();
    CHECK(count_of<DeleteRows>(world.actions) == 1);
    CHECK(world.relay.window().rows_acknowledged() == 20);
    CHECK(world.relay.window().rows_deleting() == 10);
    world.now += 10ms;  // the others wait no longer than rows that are few
    world.act();
    CHECK(world.relay.window().rows_acknowledged() == 0);
}

TEST_CASE("rows in flight are not published twice when low lags and are left out of the next reads") {
    RelayWorld world(small_batches(10));
    world.start();
    world.prove("orders");
    const auto writer = world.hold_low();
    world.broker_up = false;
    world.insert_many(50);
    world.run_for(1s);
    CHECK(world.relay.low_mark().lags());
    CHECK(world.in_flight.size() == 50);
    CHECK_FALSE(world.reads.back().known.empty());
    world.broker_up = true;
    world.commit(writer);
    world.run_for(1s);
    CHECK(world.published.size() == 52);
    CHECK(world.drained_dry());
    CHECK(world.problems() == "");
}

TEST_CASE("a row that commits late is published when it commits") {
    RelayWorld world;
    world.start();
    const auto writer = world.begin();
    const RowId late = world.insert(writer, {.key = 1});
    const RowId early = world.insert({.key = 2});
    world.run_for(2s);
    CHECK(world.persisted == std::vector{early});
    CHECK(world.relay.low_mark().low() < late);
    world.commit(writer);
    world.run_for(200ms);
    CHECK(world.persisted == std::vector{early, late});
    CHECK(world.problems() == "");
}

TEST_CASE("a failed row closes its lane until nothing of it is in flight, then the lane reads again from that row") {
    RelayWorld world;
    world.start();
    world.prove("orders");
    world.broker_up = false;
    for (int i = 0; i < 3; ++i) world.insert({.key = 5});
    world.insert({.key = 6});
    world.run_for(100ms);
    REQUIRE(world.in_flight.size() == 4);
    world.fail(FailureKind::in_doubt, {0});
    world.insert({.key = 5});
    world.insert({.key = 6});
    world.run_for(500ms);
    CHECK(world.published == ids({1, 2, 3, 4, 5, 7}));
    world.fail(FailureKind::in_doubt, {0, 1});
    world.run_for(500ms);
    CHECK(world.published == ids({1, 2, 3, 4, 5, 7, 2, 3, 4, 6}));
    world.broker_up = true;
    world.run_for(1s);
    CHECK(world.drained_dry());
    CHECK(world.problems() == "");
}

TEST_CASE("rows of a failed lane in a read that was under way are not taken from it") {
    RelayWorld world(small_batches(4));
    world.start();
    world.prove("orders");
    world.broker_up = false;
    world.insert_many(8, {.key = 5});
    while (world.in_flight.empty()) {
        world.now += 1ms;
        world.act();
        world.execute();
        world.answer();
    }
    REQUIRE(world.in_flight.size() == 4);  // rows 2..5, and the read of 6..9 has been sent
    world.execute();
    world.fail_all(FailureKind::in_doubt);
    world.broker_up = true;
    world.run_for(1s);
    CHECK(world.drained_dry());
    CHECK(world.problems() == "");
}

TEST_CASE("a row that commits late in a lane that failed above it is still published, and in order") {
    RelayWorld world;
    world.start();
    world.prove("orders");
    world.broker_up = false;
    const auto writer = world.begin();
    const RowId late = world.insert(writer, {.key = 5});
    const RowId later = world.insert({.key = 5 + lane_count});  // the same lane, another key
    world.run_for(100ms);
    REQUIRE(world.in_flight.size() == 1);
    world.fail_all(FailureKind::in_doubt);  // the lane goes back to below `later`, and `late` is lower still
    world.commit(writer);
    world.insert({.key = 5});
    world.broker_up = true;
    world.run_for(10s);
    CHECK(std::count(world.persisted.begin(), world.persisted.end(), later) == 1);
    CHECK(std::count(world.persisted.begin(), world.persisted.end(), late) == 1);
    CHECK(world.drained_dry());
    CHECK(world.problems() == "");
}

TEST_CASE("a lane that commits late while it waits for its rows to come home misses nothing") {
    RelayWorld world;
    world.start();
    world.prove("orders");
    world.broker_up = false;
    const auto writer = world.begin();
    world.insert(writer, {.key = 5});
    world.insert({.key = 5 + lane_count});
    world.insert({.key = 5 + lane_count});
    world.run_for(100ms);
    REQUIRE(world.in_flight.size() == 2);
    world.fail(FailureKind::in_doubt, {0});  // settling: the second row is still out
    world.commit(writer);
    world.insert({.key = 5});
    world.run_for(1s);  // `low` moves past the late row meanwhile, by reads that leave this lane out
    world.fail_all(FailureKind::in_doubt);
    world.broker_up = true;
    world.run_for(10s);
    CHECK(world.drained_dry());
    CHECK(world.problems() == "");
}

TEST_CASE("a lost session deletes again what was acknowledged, by event id, and reads nothing before that is done") {
    RelayWorld world;
    world.start();
    world.prove("orders");
    world.broker_up = false;
    world.insert_many(10);
    world.run_for(50ms);
    world.deliver(5);
    world.now += 20ms;
    world.act();  // the delete is sent, and its result is never known
    world.lose_session();
    world.reads.clear();
    world.deleted.clear();
    world.open_session();
    world.run_for(500ms);
    CHECK(world.reads.empty());
    CHECK(world.guarded_deletes == 1);
    CHECK(world.deleted == ids({2, 3, 4, 5, 6}));
    world.deliver(5);
    world.run_for(500ms);
    CHECK(world.guarded_deletes == 2);
    CHECK_FALSE(world.reads.empty());
    CHECK(world.published.size() == 11);
    CHECK(world.drained_dry());
    CHECK(world.problems() == "");
}

TEST_CASE("rows read just before the session went are still published, once") {
    RelayWorld world(small_batches(10));
    world.start();
    world.prove("orders");
    world.insert_many(5);
    world.broker_up = false;
    world.run_for(60ms);
    world.lose_session();
    world.open_session();
    world.broker_up = true;
    world.run_for(1s);
    CHECK(world.published.size() == 6);
    CHECK(world.drained_dry());
    CHECK(world.problems() == "");
}

TEST_CASE("after a lost producer its rows are sent again in order, by the next one") {
    RelayWorld world;
    world.start();
    world.prove("orders");
    world.broker_up = false;
    for (int i = 0; i < 10; ++i) world.insert({.key = i % 3});
    world.run_for(100ms);
    world.lose_producer();
    world.insert();
    const std::size_t reads = world.reads.size();
    world.run_for(1s);
    CHECK(world.reads.size() <= reads);
    CHECK(world.published.size() == 11);
    world.broker_up = true;
    world.open_producer();
    world.run_for(1s);
    CHECK(world.drained_dry());
    CHECK(world.published.size() == 22);
    CHECK(world.problems() == "");
}

TEST_CASE("a read answered while there is no producer is asked for again") {
    RelayWorld world;
    world.start();
    world.insert();
    world.now += 60ms;
    world.act();
    world.execute();
    world.lose_producer();
    world.answer_all();
    CHECK(world.published.empty());
    world.open_producer();
    world.run_for(1s);
    CHECK(world.drained_dry());
}

TEST_CASE("draining reads no more, finishes the window, releases the lanes, then leaves") {
    RelayWorld world;
    world.start();
    world.prove("orders");
    world.broker_up = false;
    world.insert_many(10);
    world.run_for(100ms);
    world.insert_many(10);
    world.actions.clear();
    world.relay.drain();
    world.run_for(2s);
    CHECK(count_of<ReadRows>(world.actions) == 0);
    CHECK(count_of<ReleaseLanes>(world.actions) == 0);
    CHECK(count_of<RenewLeases>(world.actions) > 0);
    CHECK_FALSE(world.relay.drained());
    world.broker_up = true;
    world.run_for(100ms);
    CHECK(count_of<DeleteRows>(world.actions) > 0);
    CHECK(place_of<DeleteRows>(world.actions) < place_of<ReleaseLanes>(world.actions));
    CHECK(place_of<ReleaseLanes>(world.actions) < place_of<LeaveFleet>(world.actions));
    CHECK(world.relay.drained());
    CHECK(world.left);
    CHECK(world.table.size() == 10);
    CHECK(world.relay.window().rows() == 0);
    CHECK(world.problems() == "");
}

TEST_CASE("draining lets go of lanes that were granted while it began") {
    RelayWorld world;
    world.open_producer();
    world.open_session();
    world.execute();  // the renewal
    world.execute();  // the lanes are granted, and the answer is on its way
    world.relay.drain();
    world.run_for(5s);
    CHECK(world.left);
    CHECK(std::count(world.owners.begin(), world.owners.end(), RelayWorld::Owner::us) == 0);
}

TEST_CASE("draining after the lanes were lost still deletes what was acknowledged before it leaves") {
    RelayWorld world;
    world.start();
    world.broker_up = false;
    world.insert();
    world.run_for(100ms);
    REQUIRE(world.in_flight.size() == 1);
    for (std::uint8_t lane = 0; lane < lane_count; ++lane) world.steal(lane);
    world.run_for(1100ms);
    REQUIRE(world.relay.lanes().owned().empty());
    world.relay.drain();
    world.run_for(100ms);
    CHECK_FALSE(world.left);
    world.broker_up = true;
    world.run_for(100ms);
    CHECK(world.left);
    CHECK(world.table.empty());
}

TEST_CASE("a lane taken by another is dropped, and read from the start when it comes back") {
    RelayWorld world;
    world.start();
    world.prove("orders");
    world.steal(5);
    world.run_for(1100ms);
    const RowId row = world.insert({.key = 5});
    world.run_for(1s);
    CHECK(world.published.back() != row);
    world.owners[5] = RelayWorld::Owner::nobody;
    world.run_for(1s);
    CHECK(world.published.back() == row);
    CHECK(world.drained_dry());
    CHECK(world.problems() == "");
}

TEST_CASE("rows of a lane that is being handed over are not taken from a read that was under way") {
    RelayWorld world(small_batches(10));
    world.start();
    world.prove("orders");
    world.insert({.key = 60});
    world.living = 2;
    world.now += 1100ms;
    world.act();  // a renewal and, behind it, a read: both sent before either is answered
    world.insert({.key = 60});
    world.run_for(5s);
    CHECK(world.relay.lanes().owned().size() == 32);
    CHECK(world.relay.window().rows() == 0);
    CHECK(world.problems() == "");
}

TEST_CASE("a lapsed lane publishes nothing until its lease is renewed") {
    RelayWorld world;
    world.start();
    world.prove("orders");
    world.insert();
    world.now += 2700ms;  // nobody answered for the whole trust of the lease
    world.act();
    CHECK(world.relay.lanes().current().empty());
    CHECK(world.published.size() == 1);
    world.run_for(1s);
    CHECK(world.drained_dry());
    CHECK(world.problems() == "");
}
