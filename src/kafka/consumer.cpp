#include "kafka/consumer.hpp"

#include <librdkafka/rdkafka.h>

#include <algorithm>
#include <array>
#include <stdexcept>

#include "core/owned.hpp"
#include "kafka/producer_conf.hpp"
#include "kafka/reachability.hpp"
#include "kafka/secrets.hpp"

namespace outbox {

namespace {

using Kafka = std::unique_ptr<rd_kafka_t, FreeWith<rd_kafka_destroy>>;
using KafkaQueue = std::unique_ptr<rd_kafka_queue_t, FreeWith<rd_kafka_queue_destroy>>;
using KafkaTopic = std::unique_ptr<rd_kafka_topic_t, FreeWith<rd_kafka_topic_destroy>>;
using KafkaEvent = std::unique_ptr<rd_kafka_event_t, FreeWith<rd_kafka_event_destroy>>;
using Message = std::unique_ptr<rd_kafka_message_t, FreeWith<rd_kafka_message_destroy>>;

constexpr std::array<std::string_view, 9> connection_prefixes{
    "bootstrap.servers", "metadata.broker.list", "broker.address.", "client.id", "security.", "sasl.", "ssl.",
    "enable.ssl.",       "enable.sasl."};

void set(rd_kafka_conf_t* conf, const std::string& name, const std::string& value) {
    // librdkafka's reason may repeat the value, which may be a secret.
    if (rd_kafka_conf_set(conf, name.c_str(), value.c_str(), nullptr, 0) != RD_KAFKA_CONF_OK)
        throw KafkaUnreachable("librdkafka does not accept the value given for " + name);
}

KafkaConf consumer_conf(const KafkaSettings& settings) {
    KafkaConf conf(rd_kafka_conf_new());
    const std::vector<KafkaProperty> ours{
        {"client.id", "outbox-relay-verify"},
        {"socket.nagle.disable", "true"},
        {"socket.keepalive.enable", "true"},
        {"reconnect.backoff.max.ms", "1000"},
        {"fetch.wait.max.ms", "100"},
        {"fetch.error.backoff.ms", "50"},  // the wait when a topic is read for the first time
        {"isolation.level", "read_uncommitted"},
        {"auto.offset.reset", "error"},  // starting anywhere else would look like loss
        {"allow.auto.create.topics", "false"},
    };
    for (const auto& [name, value] : ours) set(conf.get(), name, value);
    for (const auto& [name, value] : settings.properties)
        if (concerns_connection(name)) set(conf.get(), name, value);
    for (const auto& [name, file] : settings.files)
        if (concerns_connection(name)) set(conf.get(), name, read_secret(file));
    rd_kafka_conf_set_log_cb(conf.get(), nullptr);
    rd_kafka_conf_set_events(conf.get(), RD_KAFKA_EVENT_ERROR);
    return conf;
}

std::string bytes(const void* data, std::size_t size) {
    return data == nullptr ? std::string{} : std::string(static_cast<const char*>(data), size);
}

void read_headers(const rd_kafka_message_t& message, ConsumedRecord& record) {
    record.headers.clear();
    rd_kafka_headers_t* headers = nullptr;
    if (rd_kafka_message_headers(&message, &headers) != RD_KAFKA_RESP_ERR_NO_ERROR) return;
    const char* name = nullptr;
    const void* value = nullptr;
    std::size_t size = 0;
    for (std::size_t i = 0; rd_kafka_header_get_all(headers, i, &name, &value, &size) == RD_KAFKA_RESP_ERR_NO_ERROR;
         ++i)
        record.headers.emplace_back(name, bytes(value, size));
}

}  // namespace

struct Consumer::State {
    State(const KafkaSettings& settings, const std::string& name) : topic_name(name) {
        KafkaConf conf = consumer_conf(settings);
        std::array<char, 512> reason{};
        kafka.reset(rd_kafka_new(RD_KAFKA_CONSUMER, conf.get(), reason.data(), reason.size()));
        if (!kafka) throw KafkaUnreachable(std::string("cannot create the Kafka consumer: ") + reason.data());
        static_cast<void>(conf.release());
        main.reset(rd_kafka_queue_get_main(kafka.get()));
        records.reset(rd_kafka_queue_new(kafka.get()));
        topic.reset(rd_kafka_topic_new(kafka.get(), name.c_str(), nullptr));
    }
    ~State() {
        for (const std::int32_t partition : reading) rd_kafka_consume_stop(topic.get(), partition);
    }
    State(const State&) = delete;
    State& operator=(const State&) = delete;

    int partitions(int timeout_ms) const;
    void read_from_end(std::int32_t partition, int timeout_ms);
    std::string first_error() const;
    [[noreturn]] void refuse(rd_kafka_resp_err_t error) const;

    std::string topic_name;
    Kafka kafka;
    KafkaQueue main;
    KafkaQueue records;
    KafkaTopic topic;
    std::vector<std::int32_t> reading;
};

// What was said about the connection is more than "timed out" is.
std::string Consumer::State::first_error() const {
    std::string text;
    while (const KafkaEvent event{rd_kafka_queue_poll(main.get(), 0)})
        if (text.empty() && rd_kafka_event_type(event.get()) == RD_KAFKA_EVENT_ERROR)
            text = rd_kafka_event_error_string(event.get());
    return text;
}

void Consumer::State::refuse(rd_kafka_resp_err_t error) const {
    if (error == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART || error == RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC)
        throw KafkaUnreachable("there is no topic " + topic_name + ": create it first");
    const std::string detail = first_error();
    throw KafkaUnreachable("cannot read the topic " + topic_name + ": " +
                           (detail.empty() ? std::string(rd_kafka_err2str(error)) : detail));
}

int Consumer::State::partitions(int timeout_ms) const {
    const rd_kafka_metadata_t* metadata = nullptr;
    const auto error = rd_kafka_metadata(kafka.get(), 0, topic.get(), &metadata, timeout_ms);
    if (error != RD_KAFKA_RESP_ERR_NO_ERROR) refuse(error);
    const auto topic_error =
        metadata->topic_cnt == 1 ? metadata->topics[0].err : RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
    const int count = metadata->topic_cnt == 1 ? metadata->topics[0].partition_cnt : 0;
    rd_kafka_metadata_destroy(metadata);
    if (topic_error != RD_KAFKA_RESP_ERR_NO_ERROR) refuse(topic_error);
    return count;
}

void Consumer::State::read_from_end(std::int32_t partition, int timeout_ms) {
    std::int64_t begin = 0;
    std::int64_t end = 0;
    const auto error =
        rd_kafka_query_watermark_offsets(kafka.get(), topic_name.c_str(), partition, &begin, &end, timeout_ms);
    if (error != RD_KAFKA_RESP_ERR_NO_ERROR) refuse(error);
    if (rd_kafka_consume_start_queue(topic.get(), partition, end, records.get()) != 0) refuse(rd_kafka_last_error());
    reading.push_back(partition);
}

std::optional<std::string_view> ConsumedRecord::header(std::string_view name) const {
    const auto found =
        std::find_if(headers.begin(), headers.end(), [name](const auto& header) { return header.first == name; });
    if (found == headers.end()) return std::nullopt;
    return found->second;
}

bool concerns_connection(std::string_view property) {
    return std::any_of(connection_prefixes.begin(), connection_prefixes.end(),
                       [property](std::string_view prefix) { return property.starts_with(prefix); });
}

Consumer::Consumer(const KafkaSettings& settings, const std::string& topic, std::chrono::milliseconds timeout)
    : state_(std::make_unique<State>(settings, topic)) {
    const int timeout_ms = static_cast<int>(timeout.count());
    const int partitions = state_->partitions(timeout_ms);
    for (int partition = 0; partition < partitions; ++partition) state_->read_from_end(partition, timeout_ms);
}

Consumer::~Consumer() = default;

bool Consumer::next(ConsumedRecord& record, std::chrono::milliseconds timeout) {
    const Message message(rd_kafka_consume_queue(state_->records.get(), static_cast<int>(timeout.count())));
    if (!message) {
        static_cast<void>(state_->first_error());  // nobody else empties that queue
        return false;
    }
    switch (message->err) {
        case RD_KAFKA_RESP_ERR_NO_ERROR:
            record.key = bytes(message->key, message->key_len);
            record.payload = bytes(message->payload, message->len);
            read_headers(*message, record);
            return true;
        case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
        case RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET:
        case RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE:
            state_->refuse(message->err);
        default:
            return false;  // librdkafka tries again by itself
    }
}

}  // namespace outbox
