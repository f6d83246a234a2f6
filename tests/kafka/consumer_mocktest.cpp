#include <doctest/doctest.h>
#include <poll.h>

#include <chrono>
#include <set>
#include <string>

#include "kafka/consumer.hpp"
#include "kafka/producer.hpp"
#include "kafka/reachability.hpp"
#include "support/mock_cluster.hpp"

namespace outbox {

namespace {

using namespace std::chrono_literals;
using testing::MockCluster;
using Clock = std::chrono::steady_clock;

void publish(const KafkaSettings& settings, const std::vector<std::string>& payloads) {
    Producer producer(settings, {});
    ProducerReports reports;
    for (std::size_t i = 0; i < payloads.size(); ++i) {
        const std::string key = "key-" + std::to_string(i);
        RowContent row;
        row.topic = "t";
        row.key = key;
        row.payload = payloads[i];
        row.headers = R"({"run": "7"})";
        REQUIRE_FALSE(producer.publish(TopicIndex{0}, row, Slot{static_cast<std::uint32_t>(i)}).has_value());
    }
    for (const auto give_up = Clock::now() + 10s; reports.delivered.size() < payloads.size();) {
        REQUIRE(Clock::now() < give_up);
        pollfd wait{producer.descriptor(), POLLIN, 0};
        if (poll(&wait, 1, 20) > 0) producer.collect(reports, Instant{});
    }
}

std::set<std::string> read(Consumer& consumer, std::size_t count) {
    std::set<std::string> payloads;
    ConsumedRecord record;
    for (const auto give_up = Clock::now() + 10s; payloads.size() < count && Clock::now() < give_up;)
        if (consumer.next(record, 20ms)) {
            CHECK(record.header("run") == "7");
            CHECK(record.key.starts_with("key-"));
            payloads.insert(record.payload);
        }
    return payloads;
}

std::string refusal(const KafkaSettings& settings, const std::string& topic, std::chrono::milliseconds timeout) {
    try {
        const Consumer consumer(settings, topic, timeout);
    } catch (const KafkaUnreachable& error) {
        return error.what();
    }
    return {};
}

}  // namespace

TEST_CASE("a consumer reads every partition from where it ended, and nothing older") {
    MockCluster cluster;
    cluster.create_topic("t", 3);
    // With a producer's properties in place, as the relay has them.
    const KafkaSettings settings = cluster.settings({{"linger.ms", "1"}, {"enable.idempotence", "true"}});
    publish(settings, {"old-1", "old-2", "old-3", "old-4"});
    Consumer consumer(settings, "t", 5s);
    publish(settings, {"new-1", "new-2", "new-3", "new-4", "new-5"});
    CHECK(read(consumer, 5) == std::set<std::string>{"new-1", "new-2", "new-3", "new-4", "new-5"});
    ConsumedRecord record;
    CHECK_FALSE(consumer.next(record, 100ms));
}

TEST_CASE("a consumer says that the topic is missing, or that no broker answers") {
    MockCluster cluster;
    cluster.answer_metadata("absent", RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART);
    CHECK(refusal(cluster.settings(), "absent", 5s) == "there is no topic absent: create it first");
    CHECK(refusal({{{"bootstrap.servers", "127.0.0.1:1"}}, {}}, "t", 1s).find("cannot read the topic t: ") == 0);
}

TEST_CASE("a value that librdkafka does not take is named without being shown") {
    const std::string text = refusal(
        {{{"bootstrap.servers", "127.0.0.1:1"}, {"sasl.mechanisms", "s3cret\n"}, {"security.protocol", "s3cret"}}, {}},
        "t", 1s);
    CHECK(text == "librdkafka does not accept the value given for security.protocol");
}

}  // namespace outbox
