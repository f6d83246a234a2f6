// The secrets in files, read at the moment of use. What is thrown here names the file and never its content. Any
// thread.
#pragma once

#include <optional>
#include <string>

#include "core/secret_file.hpp"
#include "kafka/settings.hpp"

namespace outbox {

// Without the line's end. Throws std::runtime_error when the file cannot be read or is larger than 1 MiB.
std::string read_secret(const SecretFile& file);

struct Credentials {
    std::string name;
    std::string password;
};

// For SASL PLAIN and SCRAM; nothing when name or password is not set. Throws as read_secret() does.
std::optional<Credentials> read_credentials(const KafkaSettings& settings);

}  // namespace outbox
