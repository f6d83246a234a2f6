// librdkafka's own partitioners, with a word to say before a row goes: which partition it is for is not known before
// it is produced, and whether it may go there now hangs on that. The worker's thread; what was produced before
// librdkafka knew its topic is partitioned on one of librdkafka's threads, where nothing is asked.
#pragma once

#include <librdkafka/rdkafka.h>

#include <cstdint>
#include <string_view>

#include "core/first_contact.hpp"

namespace outbox {

using PartitionerCallback = std::int32_t (*)(const rd_kafka_topic_t* topic, const void* key, std::size_t key_size,
                                             std::int32_t partitions, void* topic_opaque, void* message_opaque);

// The one that librdkafka calls `name`, asking the PartitionChoice of its thread. Null where it has none of that name.
PartitionerCallback asking_partitioner(std::string_view name);

// While it lives, a row of this topic is produced on this thread.
class PartitionChoice {
public:
    PartitionChoice(const FirstContact& contact, TopicIndex topic);
    ~PartitionChoice();
    PartitionChoice(const PartitionChoice&) = delete;
    PartitionChoice& operator=(const PartitionChoice&) = delete;

    bool may_go(std::int32_t partition);
    // FirstContact::not_known: librdkafka does not know the topic yet.
    std::int32_t partition() const { return partition_; }
    bool has_to_wait() const { return has_to_wait_; }

private:
    const FirstContact& contact_;
    const TopicIndex topic_;
    std::int32_t partition_ = FirstContact::not_known;
    bool has_to_wait_ = false;
};

}  // namespace outbox
