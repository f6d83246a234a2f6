#include "kafka/partitioner.hpp"

#include <algorithm>
#include <array>
#include <utility>

namespace outbox {

namespace {

thread_local PartitionChoice* choice_under_way = nullptr;

template <PartitionerCallback choose>
std::int32_t choose_and_ask(const rd_kafka_topic_t* topic, const void* key, std::size_t key_size,
                            std::int32_t partitions, void* topic_opaque, void* message_opaque) {
    const std::int32_t partition = choose(topic, key, key_size, partitions, topic_opaque, message_opaque);
    if (key == nullptr || choice_under_way == nullptr || choice_under_way->may_go(partition)) return partition;
    return partitions;  // there is none of this number, so that the row is refused at once
}

constexpr std::array<std::pair<std::string_view, PartitionerCallback>, 7> partitioners{{
    {"random", choose_and_ask<rd_kafka_msg_partitioner_random>},
    {"consistent", choose_and_ask<rd_kafka_msg_partitioner_consistent>},
    {"consistent_random", choose_and_ask<rd_kafka_msg_partitioner_consistent_random>},
    {"murmur2", choose_and_ask<rd_kafka_msg_partitioner_murmur2>},
    {"murmur2_random", choose_and_ask<rd_kafka_msg_partitioner_murmur2_random>},
    {"fnv1a", choose_and_ask<rd_kafka_msg_partitioner_fnv1a>},
    {"fnv1a_random", choose_and_ask<rd_kafka_msg_partitioner_fnv1a_random>},
}};

}  // namespace

PartitionerCallback asking_partitioner(std::string_view name) {
    const auto* const found =
        std::find_if(partitioners.begin(), partitioners.end(), [&](const auto& one) { return one.first == name; });
    return found == partitioners.end() ? nullptr : found->second;
}

PartitionChoice::PartitionChoice(const FirstContact& contact, TopicIndex topic) : contact_(contact), topic_(topic) {
    choice_under_way = this;
}

PartitionChoice::~PartitionChoice() {
    choice_under_way = nullptr;
}

bool PartitionChoice::may_go(std::int32_t partition) {
    partition_ = partition;
    has_to_wait_ = !contact_.may_send(topic_, partition);
    return !has_to_wait_;
}

}  // namespace outbox
