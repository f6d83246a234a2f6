#include "kafka/producer_conf.hpp"

#include <algorithm>
#include <array>
#include <stdexcept>
#include <string>
#include <vector>

#include "kafka/producer.hpp"
#include "kafka/secrets.hpp"

namespace outbox {

namespace {

// The broker's own default: what it takes, we take.
constexpr std::uint32_t default_message_bytes_max = 1'048'588;

void set(rd_kafka_conf_t* conf, const std::string& name, const std::string& value) {
    std::array<char, 512> reason{};
    // The reason may repeat the value, which may be a secret: the name has to do.
    if (rd_kafka_conf_set(conf, name.c_str(), value.c_str(), reason.data(), reason.size()) != RD_KAFKA_CONF_OK)
        throw std::runtime_error("librdkafka does not accept the value given for " + name);
}

}  // namespace

std::uint32_t message_bytes_max(const KafkaSettings& settings) {
    for (const auto& [name, value] : settings.properties)
        if (name == "message.max.bytes") return static_cast<std::uint32_t>(std::stoul(value));
    return default_message_bytes_max;
}

std::string conf_value(const rd_kafka_conf_t* conf, const char* name) {
    std::array<char, 512> value{};
    std::size_t size = value.size();
    if (rd_kafka_conf_get(conf, name, value.data(), &size) != RD_KAFKA_CONF_OK) return {};
    return value.data();
}

// Ours first, so that the operator's may replace what is a matter of taste; config/ refuses those that are not.
KafkaConf producer_conf(const KafkaSettings& settings, const RelaySettings& relay) {
    KafkaConf conf(rd_kafka_conf_new());
    const std::vector<KafkaProperty> defaults{
        {"client.id", "outbox-relay"},
        {"enable.idempotence", "true"},
        {"acks", "all"},
        {"max.in.flight.requests.per.connection", "5"},
        {"message.timeout.ms", "0"},  // a time-out would punch holes into the order of a key
        {"message.max.bytes", std::to_string(default_message_bytes_max)},
        {"partitioner", "murmur2_random"},  // as Java producers do
        {"socket.timeout.ms", "15000"},     // how long a partition waits for a dead broker's answers
        {"socket.nagle.disable", "true"},   // librdkafka before 2.10 has Nagle on: 40 ms stalls
        {"socket.keepalive.enable", "true"},
        {"linger.ms", "5"},                             // for the rows of a backlog: the others are flushed
        {"topic.metadata.propagation.max.ms", "2000"},  // how long rows of an unknown topic sit in the window
        {"reconnect.backoff.max.ms", "1000"},
    };
    for (const auto& [name, value] : defaults) set(conf.get(), name, value);
    for (const auto& [name, value] : settings.properties) set(conf.get(), name, value);
    for (const auto& [name, file] : settings.files) set(conf.get(), name, read_secret(file));
    // The relay's window is the bound; librdkafka's own, twice as wide, is never met.
    set(conf.get(), "queue.buffering.max.messages", std::to_string(std::uint64_t{relay.in_flight_rows} * 2));
    set(conf.get(), "queue.buffering.max.kbytes",
        std::to_string(std::min<std::uint64_t>(relay.in_flight_bytes / 512 + 65536, INT32_MAX)));
    // These send rows without a key where the empty key belongs. librdkafka knows them by their address, and ours have
    // another one; without sticky partitions it asks whichever it has.
    const std::string partitioner = conf_value(conf.get(), "partitioner");
    if (partitioner == "consistent" || partitioner == "murmur2" || partitioner == "fnv1a")
        set(conf.get(), "sticky.partitioning.linger.ms", "0");
    set(conf.get(), "statistics.interval.ms", "500");
    set(conf.get(), "log.queue", "true");
    rd_kafka_conf_set_events(conf.get(),
                             RD_KAFKA_EVENT_DR | RD_KAFKA_EVENT_ERROR | RD_KAFKA_EVENT_LOG | RD_KAFKA_EVENT_STATS);
    return conf;
}

}  // namespace outbox
