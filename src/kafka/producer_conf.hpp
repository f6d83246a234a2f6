// librdkafka's configuration for our producers: what the guarantees need, then what the operator set. Any thread.
#pragma once

#include <librdkafka/rdkafka.h>

#include <memory>
#include <string>

#include "core/owned.hpp"
#include "core/settings.hpp"
#include "kafka/settings.hpp"

namespace outbox {

using KafkaConf = std::unique_ptr<rd_kafka_conf_t, FreeWith<rd_kafka_conf_destroy>>;

// Reads the secret files. Throws std::runtime_error, naming the property or the file and never a value.
KafkaConf producer_conf(const KafkaSettings& settings, const RelaySettings& relay);

// Empty where it has none.
std::string conf_value(const rd_kafka_conf_t* conf, const char* name);

}  // namespace outbox
