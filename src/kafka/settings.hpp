// What an operator may choose about Kafka: librdkafka's own properties. Plain values, no C header. Any thread.
#pragma once

#include <string>
#include <vector>

#include "core/secret_file.hpp"

namespace outbox {

struct KafkaProperty {
    std::string name;
    std::string value;
};

struct KafkaPropertyFile {
    std::string name;  // the property whose value is the file's content, e.g. sasl.password
    SecretFile file;
};

struct KafkaSettings {
    std::vector<KafkaProperty> properties;
    std::vector<KafkaPropertyFile> files;
};

}  // namespace outbox
