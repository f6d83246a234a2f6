// Asks the brokers for their metadata once, for `check`. Blocking; any thread.
#pragma once

#include <chrono>
#include <stdexcept>

#include "core/settings.hpp"
#include "kafka/settings.hpp"

namespace outbox {

class KafkaUnreachable : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

struct BrokerSurvey {
    int brokers = 0;
    int topics = 0;
};

// Throws KafkaUnreachable with what librdkafka had to say.
BrokerSurvey survey_brokers(const KafkaSettings& settings, const RelaySettings& relay,
                            std::chrono::milliseconds timeout);

}  // namespace outbox
