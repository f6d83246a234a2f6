// What we want of librdkafka's statistics document, without parsing it: with a thousand topics it is megabytes long,
// and it comes twice a second. Pure; any thread.
#pragma once

#include <cstdint>
#include <string_view>

#include "core/time.hpp"

namespace outbox {

struct ProducerStatistics {
    bool any_up = false;                    // connected to at least one broker
    Duration throttled = Duration::zero();  // the longest a broker held a request back since the last document
    std::int64_t producer_id = -1;          // -1: brokers have given none yet
    std::int64_t epoch = -1;                // of the producer id
};

ProducerStatistics producer_statistics(std::string_view document);

}  // namespace outbox
