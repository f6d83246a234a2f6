#include "kafka/reachability.hpp"

#include <librdkafka/rdkafka.h>

#include <array>
#include <memory>
#include <string>

#include "core/owned.hpp"
#include "kafka/producer_conf.hpp"

namespace outbox {

namespace {

using Kafka = std::unique_ptr<rd_kafka_t, FreeWith<rd_kafka_destroy>>;
using KafkaQueue = std::unique_ptr<rd_kafka_queue_t, FreeWith<rd_kafka_queue_destroy>>;
using KafkaEvent = std::unique_ptr<rd_kafka_event_t, FreeWith<rd_kafka_event_destroy>>;

// The first error about the connection says more than "timed out" does.
std::string first_error(rd_kafka_queue_t* queue) {
    while (const KafkaEvent event{rd_kafka_queue_poll(queue, 0)})
        if (rd_kafka_event_type(event.get()) == RD_KAFKA_EVENT_ERROR) return rd_kafka_event_error_string(event.get());
    return {};
}

}  // namespace

BrokerSurvey survey_brokers(const KafkaSettings& settings, const RelaySettings& relay,
                            std::chrono::milliseconds timeout) {
    KafkaConf conf = producer_conf(settings, relay);
    std::array<char, 512> reason{};
    const Kafka kafka(rd_kafka_new(RD_KAFKA_PRODUCER, conf.get(), reason.data(), reason.size()));
    if (!kafka) throw KafkaUnreachable(std::string("cannot create the Kafka producer: ") + reason.data());
    static_cast<void>(conf.release());
    const KafkaQueue queue(rd_kafka_queue_get_main(kafka.get()));

    const rd_kafka_metadata_t* metadata = nullptr;
    const auto error = rd_kafka_metadata(kafka.get(), 1, nullptr, &metadata, static_cast<int>(timeout.count()));
    if (error != RD_KAFKA_RESP_ERR_NO_ERROR) {
        const std::string detail = first_error(queue.get());
        throw KafkaUnreachable("Kafka does not answer: " +
                               (detail.empty() ? std::string(rd_kafka_err2str(error)) : detail));
    }
    const BrokerSurvey survey{metadata->broker_cnt, metadata->topic_cnt};
    rd_kafka_metadata_destroy(metadata);
    return survey;
}

}  // namespace outbox
