#include <doctest/doctest.h>
#include <poll.h>

#include <chrono>

#include "app/flusher.hpp"
#include "support/mock_cluster.hpp"

namespace outbox {

namespace {

using namespace std::chrono_literals;
using testing::MockCluster;
using Clock = std::chrono::steady_clock;

KafkaProperty ten_minutes() {
    return {"linger.ms", "600000"};
}

void publish(Producer& producer, std::uint32_t rows) {
    RowContent row;
    row.topic = "t";
    row.payload = "x";
    row.headers = "{}";
    for (std::uint32_t i = 0; i < rows; ++i) REQUIRE_FALSE(producer.publish(TopicIndex{0}, row, Slot{i}));
}

// How many have come by then, `rows` at the most asked for.
std::size_t await(Producer& producer, std::size_t rows, Clock::duration time) {
    ProducerReports reports;
    for (const auto give_up = Clock::now() + time; reports.delivered.size() < rows && Clock::now() < give_up;) {
        pollfd wait{producer.descriptor(), POLLIN, 0};
        if (poll(&wait, 1, 20) > 0) producer.collect(reports, Instant{});
    }
    return reports.delivered.size();
}

}  // namespace

TEST_CASE("rows that would wait for company for minutes go at once when asked") {
    MockCluster cluster;
    cluster.create_topic("t", 1);
    Producer producer(cluster.settings({ten_minutes()}), {});
    const Flusher flusher(producer);
    for (int round = 0; round < 20; ++round) {
        publish(producer, 3);
        std::size_t seen = 0;
        // Again, should the machine have been so busy that the call was over before librdkafka had woken.
        for (const auto give_up = Clock::now() + 30s; seen < 3 && Clock::now() < give_up;) {
            flusher.ask();
            seen += await(producer, 3 - seen, 500ms);
        }
        CHECK(seen == 3);
    }
}

TEST_CASE("a flusher ends while what it is to send cannot go") {
    MockCluster cluster;
    cluster.create_topic("t", 1);
    Producer producer(cluster.settings({ten_minutes()}), {});
    cluster.take_down();
    publish(producer, 1);
    const auto begin = Clock::now();
    {
        const Flusher flusher(producer);
        for (int i = 0; i < 1000; ++i) flusher.ask();
    }
    CHECK(Clock::now() - begin < 30s);
    CHECK(producer.queued() >= 1);
}

TEST_CASE("an operator's own linger is one that is not cut short, by either of its names") {
    const MockCluster cluster;
    CHECK_FALSE(linger_is_chosen(cluster.settings()));
    CHECK(linger_is_chosen(cluster.settings({ten_minutes()})));
    CHECK(linger_is_chosen(cluster.settings({{"queue.buffering.max.ms", "7"}})));
}

}  // namespace outbox
