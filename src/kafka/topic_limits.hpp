// What the brokers take of a topic, asked of them before rows are sent: a batch that breaks such a rule is rejected as
// a whole, and what follows it in its partition overtakes the innocent rows in it. Called by Producer; the worker's
// thread.
#pragma once

#include <librdkafka/rdkafka.h>

#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

#include "kafka/producer.hpp"

namespace outbox {

// The questions of one producer, and who is waiting for their answers.
class TopicLimitsQuestions {
public:
    // Many topics share a request: a thousand requests, one after the other, take the brokers seconds. The answers come
    // as events on `queue`. Needs leave to DescribeConfigs the topics, which not every broker gives.
    void ask(rd_kafka_t* producer, rd_kafka_queue_t* queue, std::span<const NamedTopic> topics);

    // One for each topic of the request, also where it failed as a whole.
    void answered(rd_kafka_event_t* answer, std::vector<TopicLimits>& limits);

private:
    std::unordered_map<std::uintptr_t, std::vector<NamedTopic>> open_;  // by the request's number
    std::uintptr_t last_ = 0;
};

}  // namespace outbox
