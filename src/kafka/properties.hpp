// Which of librdkafka's properties the operator may set, and to what. Needs no broker. Any thread.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace outbox {

// Why the property may not be set so; nothing when it may. A text that comes from librdkafka may repeat the value.
std::optional<std::string> check_kafka_property(const std::string& name, const std::string& value);

// Every property this librdkafka knows for producers.
std::vector<std::string> kafka_property_names();

// Of the library that is loaded, which need not be the one compiled against.
std::string kafka_library_version();

}  // namespace outbox
