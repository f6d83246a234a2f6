// Which partitions have acknowledged a record of this producer, each by an offset.
//
// Until then, an acknowledgement without an offset proves nothing. librdkafka gives one to records it had to send again
// when a later request was acknowledged first, trusting that brokers refuse a request that does not follow the last one
// (rd_kafka_dr_implicit_ack). Brokers do, but not on first contact: where they have nothing of a producer id, any
// sequence number is taken for the first (ProducerAppendInfo.checkSequence). A first request turned down for the
// moment, NOT_ENOUGH_REPLICAS say, and a second one taken would make the first one's records vanish.
//
// Pure. Owned by Producer; the worker's thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/row.hpp"

namespace outbox {

class FirstContact {
public:
    // A record was acknowledged, below zero without an offset. False: it may be lost all the same.
    bool proven(TopicIndex topic, std::int32_t partition, std::int64_t offset) {
        if (partition < 0) return offset >= 0;
        const auto row = static_cast<std::size_t>(topic);
        const auto column = static_cast<std::size_t>(partition);
        if (row >= known_.size()) known_.resize(row + 1);
        if (column >= known_[row].size()) known_[row].resize(column + 1, false);
        if (offset >= 0) known_[row][column] = true;
        return known_[row][column];
    }

private:
    std::vector<std::vector<bool>> known_;  // by topic, by partition
};

}  // namespace outbox
