#include "support/mock_cluster.hpp"

#include <librdkafka/rdkafka_mock.h>

#include <array>
#include <memory>
#include <stdexcept>

#include "core/owned.hpp"

namespace outbox::testing {

namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;
using Conf = std::unique_ptr<rd_kafka_conf_t, FreeWith<rd_kafka_conf_destroy>>;
using Partitions = std::unique_ptr<rd_kafka_topic_partition_list_t, FreeWith<rd_kafka_topic_partition_list_destroy>>;
using Message = std::unique_ptr<rd_kafka_message_t, FreeWith<rd_kafka_message_destroy>>;

constexpr std::int16_t api_produce = 0;

void require_ok(rd_kafka_resp_err_t error, const char* what) {
    if (error != RD_KAFKA_RESP_ERR_NO_ERROR)
        throw std::runtime_error(std::string(what) + ": " + rd_kafka_err2str(error));
}

rd_kafka_t* new_handle(rd_kafka_type_t type, const std::vector<KafkaProperty>& properties) {
    std::array<char, 512> reason{};
    Conf conf(rd_kafka_conf_new());
    for (const auto& [name, value] : properties)
        if (rd_kafka_conf_set(conf.get(), name.c_str(), value.c_str(), reason.data(), reason.size()) !=
            RD_KAFKA_CONF_OK)
            throw std::runtime_error(reason.data());
    rd_kafka_t* const handle = rd_kafka_new(type, conf.get(), reason.data(), reason.size());
    if (handle == nullptr) throw std::runtime_error(reason.data());
    static_cast<void>(conf.release());
    return handle;
}

void close_consumer(rd_kafka_t* consumer) {
    rd_kafka_consumer_close(consumer);
    rd_kafka_destroy(consumer);
}
using Consumer = std::unique_ptr<rd_kafka_t, FreeWith<close_consumer>>;

int partitions_of(rd_kafka_t* client, const std::string& topic) {
    const std::unique_ptr<rd_kafka_topic_t, FreeWith<rd_kafka_topic_destroy>> handle(
        rd_kafka_topic_new(client, topic.c_str(), nullptr));
    const rd_kafka_metadata_t* metadata = nullptr;
    require_ok(rd_kafka_metadata(client, 0, handle.get(), &metadata, 10'000), "metadata");
    const int partitions = metadata->topic_cnt == 1 ? metadata->topics[0].partition_cnt : 0;
    rd_kafka_metadata_destroy(metadata);
    return partitions;
}

std::optional<std::string> bytes(const void* data, std::size_t size) {
    if (data == nullptr) return std::nullopt;
    return std::string(static_cast<const char*>(data), size);
}

Record record_from(const rd_kafka_message_t& message) {
    Record record;
    record.partition = message.partition;
    record.key = bytes(message.key, message.key_len);
    record.value = bytes(message.payload, message.len);
    record.timestamp_ms = rd_kafka_message_timestamp(&message, nullptr);
    rd_kafka_headers_t* headers = nullptr;
    if (rd_kafka_message_headers(&message, &headers) != RD_KAFKA_RESP_ERR_NO_ERROR) return record;
    const char* name = nullptr;
    const void* value = nullptr;
    std::size_t size = 0;
    for (std::size_t i = 0; rd_kafka_header_get_all(headers, i, &name, &value, &size) == RD_KAFKA_RESP_ERR_NO_ERROR;
         ++i)
        record.headers.emplace_back(name, bytes(value, size).value_or("NULL"));
    return record;
}

}  // namespace

MockCluster::MockCluster(int brokers)
    : brokers_(brokers),
      handle_(new_handle(RD_KAFKA_PRODUCER, {{"client.id", "mock"}, {"log_level", "0"}})),
      cluster_(rd_kafka_mock_cluster_new(handle_, brokers)) {}

MockCluster::~MockCluster() {
    rd_kafka_mock_cluster_destroy(cluster_);
    rd_kafka_destroy(handle_);
}

KafkaSettings MockCluster::settings(std::vector<KafkaProperty> more) const {
    KafkaSettings settings;
    settings.properties.push_back({"bootstrap.servers", rd_kafka_mock_cluster_bootstraps(cluster_)});
    for (KafkaProperty& property : more) settings.properties.push_back(std::move(property));
    return settings;
}

void MockCluster::create_topic(const std::string& topic, int partitions) {
    require_ok(rd_kafka_mock_topic_create(cluster_, topic.c_str(), partitions, 1), "create topic");
}

void MockCluster::answer_produce(const std::vector<rd_kafka_resp_err_t>& errors) {
    rd_kafka_mock_push_request_errors_array(cluster_, api_produce, errors.size(), errors.data());
}

void MockCluster::delay_answers(std::chrono::milliseconds delay) {
    for (int id = 1; id <= brokers_; ++id)
        require_ok(rd_kafka_mock_broker_set_rtt(cluster_, id, static_cast<int>(delay.count())), "delay");
}

void MockCluster::answer_metadata(const std::string& topic, rd_kafka_resp_err_t error) {
    rd_kafka_mock_topic_set_error(cluster_, topic.c_str(), error);
}

void MockCluster::lead(const std::string& topic, int partition, int broker) {
    require_ok(rd_kafka_mock_partition_set_leader(cluster_, topic.c_str(), partition, broker), "leader");
}

void MockCluster::take_down() {
    for (int id = 1; id <= brokers_; ++id) take_down(id);
}

void MockCluster::take_down(int broker) {
    require_ok(rd_kafka_mock_broker_set_down(cluster_, broker), "down");
}

void MockCluster::bring_up() {
    for (int id = 1; id <= brokers_; ++id) require_ok(rd_kafka_mock_broker_set_up(cluster_, id), "up");
}

std::vector<Record> MockCluster::consume(const std::string& topic, std::size_t count) const {
    const Consumer consumer(
        new_handle(RD_KAFKA_CONSUMER, {{"bootstrap.servers", rd_kafka_mock_cluster_bootstraps(cluster_)},
                                       {"group.id", "tests"},
                                       {"enable.auto.commit", "false"},
                                       {"fetch.wait.max.ms", "10"},
                                       {"log_level", "0"}}));
    rd_kafka_poll_set_consumer(consumer.get());
    const int partitions = partitions_of(consumer.get(), topic);
    const Partitions all(rd_kafka_topic_partition_list_new(partitions));
    for (int i = 0; i < partitions; ++i)
        rd_kafka_topic_partition_list_add(all.get(), topic.c_str(), i)->offset = RD_KAFKA_OFFSET_BEGINNING;
    require_ok(rd_kafka_assign(consumer.get(), all.get()), "assign");

    std::vector<Record> records;
    const auto give_up = Clock::now() + 10s;
    while (Clock::now() < give_up) {
        const Message message(rd_kafka_consumer_poll(consumer.get(), records.size() < count ? 100 : 300));
        if (message && message->err == RD_KAFKA_RESP_ERR_NO_ERROR)
            records.push_back(record_from(*message));
        else if (!message && records.size() >= count)
            break;
    }
    return records;
}

}  // namespace outbox::testing
