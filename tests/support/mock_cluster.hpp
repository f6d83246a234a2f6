// librdkafka's mock brokers, in this process on 127.0.0.1, and a plain consumer to see what arrived. The mock API calls
// itself experimental, so it is used here and nowhere else. Test threads only.
#pragma once

#include <librdkafka/rdkafka.h>

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kafka/settings.hpp"

struct rd_kafka_mock_cluster_s;

namespace outbox::testing {

struct Record {
    std::int32_t partition = 0;
    std::optional<std::string> key;
    std::optional<std::string> value;
    std::vector<std::pair<std::string, std::string>> headers;
    std::int64_t timestamp_ms = 0;
};

class MockCluster {
public:
    explicit MockCluster(int brokers = 1);
    ~MockCluster();
    MockCluster(const MockCluster&) = delete;
    MockCluster& operator=(const MockCluster&) = delete;

    // bootstrap.servers, then `more`.
    KafkaSettings settings(std::vector<KafkaProperty> more = {}) const;

    void create_topic(const std::string& topic, int partitions);  // each led by whichever broker
    void lead(const std::string& topic, int partition, int broker);
    // The next produce requests are answered with these, one each.
    void answer_produce(const std::vector<rd_kafka_resp_err_t>& errors);
    // Produce requests are held this long from now on.
    void delay_answers(std::chrono::milliseconds delay);
    // What clients learn when they ask about the topic.
    void answer_metadata(const std::string& topic, rd_kafka_resp_err_t error);
    void take_down();
    void take_down(int broker);  // from 1
    void bring_up();

    // From the topic's beginning; ends when `count` records were seen and a moment passed without more, or after 10 s.
    std::vector<Record> consume(const std::string& topic, std::size_t count) const;

private:
    int brokers_;
    rd_kafka_t* handle_;  // bookkeeping of the mock cluster, connected to nothing
    rd_kafka_mock_cluster_s* cluster_;
};

}  // namespace outbox::testing
