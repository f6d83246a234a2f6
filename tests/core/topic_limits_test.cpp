// What the brokers take of a topic is asked, and kept to: they reject whole batches, the innocent with the culprit.
#include <doctest/doctest.h>

#include "support/relay_world.hpp"

using namespace outbox;
using namespace std::chrono_literals;

namespace {

TopicIndex asked(RelayWorld& world, const std::string& topic) {
    const TopicIndex index = world.relay.topics().index_of(topic);
    world.relay.on(TopicLimitsAsked{index}, world.now);
    return index;
}

void answer(RelayWorld& world, TopicIndex topic, std::uint32_t batch_bytes_max, bool keys_required = false) {
    world.relay.on(TopicLimitsRead{topic, true, batch_bytes_max, keys_required}, world.now);
    world.act();
}

}  // namespace

TEST_CASE("rows of a topic wait until its limits are known, and others do not") {
    RelayWorld world;
    world.start();
    world.prove("other");
    const TopicIndex orders = asked(world, "orders");
    world.insert_many(5);
    world.insert_many(5, {.topic = "other"});
    world.run_for(2s);
    CHECK(world.persisted.size() == 1 + 5);
    CHECK(world.table.size() == 5);
    answer(world, orders, 1'000'000);
    world.run_for(1s);
    CHECK(world.drained_dry());
    CHECK(world.problems() == "");
}

TEST_CASE("while limits of other topics are told, rows wait for those of theirs instead of being read apart") {
    RelayWorld world;
    world.start();
    world.prove("other");
    std::vector<TopicIndex> topics;
    for (int i = 0; i < 8; ++i) topics.push_back(asked(world, "topic-" + std::to_string(i)));
    for (int i = 0; i < 8; ++i) world.insert({.topic = "topic-" + std::to_string(i)});
    world.insert({.topic = "other"});
    for (const TopicIndex topic : topics) {
        world.run_for(200ms);
        answer(world, topic, 1'000'000);
        CHECK(world.relay.topics().parked().empty());
    }
    world.run_for(1s);
    CHECK(world.drained_dry());
    CHECK(world.problems() == "");
}

TEST_CASE("a topic whose limits are not told keeps others waiting for two seconds at most") {
    RelayWorld world;
    world.start();
    world.prove("other");
    const TopicIndex first = asked(world, "first");
    const TopicIndex orders = asked(world, "orders");
    const Instant began = world.now;
    world.insert();
    world.insert({.topic = "other"});
    while (world.persisted.size() == 1 && world.now < began + 5s) {
        world.run_for(100ms);
        answer(world, first, 1'000'000);
    }
    CHECK(world.now <= began + 2100ms);
    CHECK(world.table.size() == 1);
    answer(world, orders, 1'000'000);
    world.run_for(1s);
    CHECK(world.drained_dry());
    CHECK(world.problems() == "");
}

TEST_CASE("nothing is read in vain while limits are awaited, and the answer ends the wait") {
    RelayWorld world;
    world.start();
    const TopicIndex orders = asked(world, "orders");
    world.insert_many(5);
    world.run_for(100ms);
    const std::size_t reads = world.reads.size();
    world.run_for(100ms);
    CHECK(world.reads.size() == reads);
    answer(world, orders, 1'000'000);
    CHECK(world.reads.size() == reads + 1);
    world.run_for(1s);
    CHECK(world.drained_dry());
    CHECK(world.problems() == "");
}

TEST_CASE("an answer that says nothing lets the rows go on as before") {
    RelayWorld world;
    world.start();
    const TopicIndex orders = asked(world, "orders");
    world.insert_many(5);
    world.run_for(1s);
    CHECK(world.persisted.empty());
    world.relay.on(TopicLimitsRead{orders, false}, world.now);
    world.run_for(1s);
    CHECK(world.drained_dry());
}

TEST_CASE("what is in flight of a topic with a small limit never makes a batch above it") {
    RelayWorld world;
    world.start();
    const TopicIndex orders = asked(world, "orders");
    answer(world, orders, 2000);
    world.prove("orders");
    world.broker_up = false;
    world.insert_many(50, {.bytes = 300});
    world.run_for(1s);
    CHECK(world.in_flight.size() == 4);  // of 300 bytes and 128 more each
    world.broker_up = true;
    world.run_for(10s);
    CHECK(world.drained_dry());
    CHECK(world.problems() == "");
}

TEST_CASE("a row that the brokers may reject goes alone, and is judged by their answer") {
    RelayWorld world;
    world.start();
    const TopicIndex orders = asked(world, "orders");
    answer(world, orders, 20'000);
    world.prove("orders");
    world.broker_up = false;
    world.insert_many(3);
    const RowId large = world.insert({.key = 1, .bytes = 30'000});
    world.insert_many(3);
    world.run_for(1s);
    CHECK(world.in_flight.size() == 3);
    world.deliver(3);
    world.run_for(1s);
    REQUIRE(world.in_flight.size() == 1);
    CHECK(world.in_flight.front().row.id == large);
    world.fail_all(FailureKind::row);
    world.broker_up = true;
    world.run_for(5s);
    CHECK(world.buried == std::vector<RowId>{large});
    CHECK(world.persisted.size() == 1 + 6);
    CHECK(world.drained_dry());
    CHECK(world.problems() == "");
}

TEST_CASE("a row without a key goes alone where the topic wants keys") {
    RelayWorld world;
    world.start();
    const TopicIndex orders = asked(world, "orders");
    answer(world, orders, 1'000'000, true);
    world.prove("orders");
    world.broker_up = false;
    const RowId keyless = world.insert({.key = -1});
    world.insert_many(3);
    world.run_for(1s);
    REQUIRE(world.in_flight.size() == 1);
    CHECK(world.in_flight.front().row.id == keyless);
}

TEST_CASE("many topics that were held back come back one right after the other") {
    RelayWorld world;
    world.start();
    std::vector<TopicIndex> topics;
    for (int i = 0; i < 100; ++i) topics.push_back(asked(world, "topic-" + std::to_string(i)));
    for (int i = 0; i < 100; ++i) world.insert({.topic = "topic-" + std::to_string(i)});
    world.run_for(1s);
    REQUIRE(world.relay.topics().parked().size() == 100);
    for (const TopicIndex topic : topics) world.relay.on(TopicLimitsRead{topic, false}, world.now);
    world.run_for(100ms);
    CHECK(world.relay.topics().parked().empty());
    CHECK(world.drained_dry());
    CHECK(world.problems() == "");
}
