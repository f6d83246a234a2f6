// What we want of librdkafka's statistics document, without parsing it: with a thousand topics it is megabytes long,
// and it comes twice a second. Pure; any thread.
#pragma once

#include <string_view>

#include "core/time.hpp"

namespace outbox {

struct BrokerStatistics {
    bool any_up = false;                    // connected to at least one
    Duration throttled = Duration::zero();  // the longest a broker held a request back since the last document
};

BrokerStatistics broker_statistics(std::string_view document);

}  // namespace outbox
