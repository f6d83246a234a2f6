#include "core/topics.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>

#include "support/relay_world.hpp"

using namespace outbox;
using namespace std::chrono_literals;

namespace {

constexpr Instant start{std::chrono::seconds(10)};

bool allowed(std::string_view name, std::initializer_list<std::string> patterns) {
    const std::vector<std::string> allow(patterns);
    return is_allowed_topic(name, allow);
}

std::size_t count_of(const RelayWorld& world, const std::string& topic) {
    return static_cast<std::size_t>(std::count_if(world.in_flight.begin(), world.in_flight.end(),
                                                  [&](const auto& record) { return record.row.row.topic == topic; }));
}

}  // namespace

TEST_CASE("a topic name follows Kafka's rules") {
    for (const char* good : {"a", "orders.v1", "Orders_2-x", "...", "__consumer_offsets"}) CHECK(is_topic_name(good));
    CHECK(is_topic_name(std::string(249, 'x')));
    CHECK_FALSE(is_topic_name(std::string(250, 'x')));
    for (const char* bad : {"", ".", "..", "a b", "a/b", "caf\xc3\xa9", "a\n"}) CHECK_FALSE(is_topic_name(bad));
    CHECK_FALSE(is_topic_name(std::string_view("a\0b", 3)));
}

TEST_CASE("the allow-list holds exact names and prefixes") {
    CHECK(allowed("orders", {"orders"}));
    CHECK_FALSE(allowed("orders2", {"orders"}));
    CHECK_FALSE(allowed("order", {"orders"}));
    CHECK(allowed("orders.eu", {"billing", "orders.*"}));
    CHECK(allowed("orders.", {"orders.*"}));
    CHECK_FALSE(allowed("orders", {"orders.*"}));
    CHECK(allowed("anything", {"*"}));
    CHECK_FALSE(allowed("anything", {}));
}

TEST_CASE("Kafka's own topics are refused whatever is allowed") {
    CHECK_FALSE(allowed("__consumer_offsets", {"*", "__consumer_offsets"}));
    CHECK(allowed("_schemas", {"*"}));
}

TEST_CASE("a topic keeps its index, and knows why it is refused") {
    Topics topics({"orders*"}, 1);
    const TopicIndex good = topics.index_of("orders");
    const TopicIndex other = topics.index_of("billing");
    const TopicIndex bad = topics.index_of("no good");
    CHECK(topics.index_of("orders") == good);
    CHECK(topics.size() == 3);
    CHECK(topics[good].refusal.empty());
    CHECK(topics[other].refusal == "TOPIC_NOT_ALLOWED");
    CHECK(topics[bad].refusal == "TOPIC_INVALID");
}

TEST_CASE("a topic waits longer after every failure in a row, until a row is taken") {
    Topics topics({"*"}, 7);
    const TopicIndex topic = topics.index_of("orders");
    Duration before{};
    for (int failure = 0; failure < 4; ++failure) {
        topics.fail(topic, "test", RowId{9}, start);
        const Duration wait = topics[topic].circuit.retry_at() - start;
        CHECK(wait >= 100ms * (1 << failure));
        CHECK(wait <= 200ms * (1 << failure));
        CHECK(wait > before / 2);
        before = wait;
        topics.turn(true, start);
        topics.turn(true, topics[topic].circuit.retry_at());
        CHECK(topics[topic].state == Topics::State::behind);
    }
    topics.taken(topic, start);
    topics.fail(topic, "test", RowId{9}, start);
    CHECK(topics[topic].circuit.retry_at() - start <= 200ms);
}

TEST_CASE("all rows of one failure count once") {
    Topics topics({"*"}, 7);
    const TopicIndex topic = topics.index_of("orders");
    for (int row = 0; row < 100; ++row) topics.fail(topic, "test", RowId{100 - row}, start);
    CHECK(topics[topic].circuit.failures() == 1);
    CHECK(topics[topic].resume_after == RowId{1});
    CHECK(topics.parked().size() == 1);
}

TEST_CASE("a topic settles only when nothing of it is in flight") {
    Topics topics({"*"}, 7);
    const TopicIndex topic = topics.index_of("orders");
    topics.admitted(topic, 200, false, start);
    topics.admitted(topic, 200, false, start);
    topics.left_flight(topic, 200);
    topics.fail(topic, "test", RowId{4}, start);
    topics.turn(true, start + 1h);
    CHECK(topics[topic].state == Topics::State::settling);
    topics.left_flight(topic, 200);
    topics.turn(true, start);
    CHECK(topics[topic].state == Topics::State::waiting);
    CHECK(topics.wake_at(true) == topics[topic].circuit.retry_at());
    topics.turn(true, start + 1h);
    CHECK(topics[topic].state == Topics::State::behind);
    CHECK(topics.wake_at(true) == never);
    topics.caught_up(topic);
    CHECK(topics.parked().empty());
}

TEST_CASE("one failing topic is parked while the others go on, and nothing is left to do at once") {
    RelayWorld world;
    world.start();
    world.prove("good");
    world.prove("bad");
    world.broker_up = false;
    world.insert_many(5, {.key = 1, .topic = "bad"});
    world.run_for(60ms);
    REQUIRE(count_of(world, "bad") == 5);
    world.fail_topic(FailureKind::topic, "bad");
    world.insert_many(5, {.key = 1, .topic = "bad"});
    world.insert_many(5, {.key = 1, .topic = "good"});
    world.run_for(90ms);  // less than the shortest backoff
    CHECK(count_of(world, "bad") == 0);
    CHECK(count_of(world, "good") == 5);
    world.deliver(SIZE_MAX);
    world.run_for(400ms);
    CHECK(count_of(world, "bad") == 1);  // one row alone, to see whether the topic is back
    world.fail_topic(FailureKind::topic, "bad");
    world.run_for(190ms);
    CHECK(count_of(world, "bad") == 0);
    world.broker_up = true;
    world.run_for(2s);
    CHECK(world.drained_dry());
    CHECK(world.problems() == "");
}

TEST_CASE("a topic comes back with one row alone while low lags, too") {
    RelayWorld world;
    world.start();
    world.prove("bad");
    world.hold_low();
    world.broker_up = false;
    world.insert_many(5, {.topic = "bad"});
    world.run_for(60ms);
    REQUIRE(count_of(world, "bad") == 5);
    world.fail_topic(FailureKind::topic, "bad");
    world.run_for(5s);
    CHECK(count_of(world, "bad") == 1);
    CHECK(world.problems() == "");
}

TEST_CASE("rows rejected in company are sent one at a time, and only the culprit is condemned") {
    for (const bool low_lags : {false, true}) {
        CAPTURE(low_lags);
        RelayWorld world;
        world.start();
        world.prove("orders");
        if (low_lags) world.hold_low();
        world.broker_up = false;
        for (int i = 0; i < 6; ++i) world.insert({.key = i});
        const RowId culprit{world.last_id - 3};
        world.run_for(60ms);
        REQUIRE(world.in_flight.size() == 6);
        for (int round = 0; round < 50; ++round) {
            const bool guilty = std::any_of(world.in_flight.begin(), world.in_flight.end(),
                                            [&](const auto& record) { return record.row.id == culprit; });
            if (guilty)
                world.fail_all(FailureKind::row);  // the whole batch is rejected for the one row
            else
                world.deliver(SIZE_MAX);
            world.run_for(60ms);
        }
        CHECK(world.buried == std::vector<RowId>{culprit});
        CHECK(world.persisted.size() == 6);
        CHECK(world.problems() == "");
    }
}

TEST_CASE("a row that is sent alone to be judged gets no company from rows above suspicion") {
    RelayWorld world;
    world.start();
    world.prove("orders");
    world.hold_low();  // so that the topic's rows come with the main reads again
    world.broker_up = false;
    world.insert_many(2);
    world.run_for(60ms);
    REQUIRE(world.in_flight.size() == 2);
    world.fail_all(FailureKind::row);
    world.run_for(60ms);
    REQUIRE(world.in_flight.size() == 1);
    world.insert_many(5);
    world.deliver(1);
    world.run_for(60ms);
    CHECK(world.in_flight.size() == 1);
    CHECK(world.in_flight.front().row.id.value == world.last_id - 5);
    world.broker_up = true;
    world.run_for(2s);
    CHECK(world.persisted.size() == 8);  // the one that proved the topic among them
    CHECK(world.buried.empty());
    CHECK(world.problems() == "");
}

TEST_CASE("a lane that fails while its topic is read again loses no row of that topic") {
    RelayWorld world;
    world.start();
    world.prove("bad");
    world.prove("good");
    world.broker_up = false;
    const RowId waiting = world.insert({.key = 5, .topic = "bad"});
    world.run_for(60ms);
    world.fail_topic(FailureKind::topic, "bad");
    world.insert({.key = 5, .topic = "good"});
    while (!world.reads.back().topic) {  // until the topic is read again
        world.now += 1ms;
        world.act();
        while (!world.reads.back().topic && (world.execute() || world.answer())) {
        }
        REQUIRE(world.now < Instant{std::chrono::seconds(1100)});
    }
    REQUIRE(count_of(world, "good") == 1);
    world.fail_topic(FailureKind::in_doubt, "good");  // the lane fails above the row of the topic
    world.broker_up = true;
    world.insert({.key = 5, .topic = "bad"});
    world.run_for(10s);
    CHECK(std::count(world.persisted.begin(), world.persisted.end(), waiting) == 1);
    CHECK(world.drained_dry());
    CHECK(world.problems() == "");
}

TEST_CASE("a topic that is not allowed goes to the dead letters and holds nothing up") {
    RelayWorldSettings settings;
    settings.topics.allow = {"orders"};
    RelayWorld world(settings);
    world.start();
    world.insert_many(3, {.topic = "other"});
    world.insert_many(3);
    world.run_for(1s);
    CHECK(world.buried.size() == 3);
    CHECK(world.persisted.size() == 3);
    CHECK(world.drained_dry());
}

TEST_CASE("a topic the broker has not proven fills only a part of the window") {
    RelayWorldSettings settings;
    settings.relay.in_flight_rows = 1600;
    RelayWorld world(settings);
    world.broker_up = false;
    world.start();
    world.insert_many(1000);
    world.run_for(1s);
    CHECK(world.in_flight.size() == 100);
    world.broker_up = true;
    world.run_for(1s);
    CHECK(world.drained_dry());
    CHECK(world.problems() == "");
}
