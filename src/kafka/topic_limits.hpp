// What the brokers take of a topic, asked of them before rows are sent: a batch that breaks such a rule is rejected as
// a whole, and what follows it in its partition overtakes the innocent rows in it. Called by Producer; the worker's
// thread.
#pragma once

#include <librdkafka/rdkafka.h>

#include <string>

#include "core/row.hpp"
#include "kafka/producer.hpp"

namespace outbox {

// The answer comes as an event on `queue`. Needs leave to DescribeConfigs the topic, which not every broker gives.
void ask_topic_limits(rd_kafka_t* producer, rd_kafka_queue_t* queue, TopicIndex topic, const std::string& name);
TopicLimits topic_limits(rd_kafka_event_t* answer);

}  // namespace outbox
