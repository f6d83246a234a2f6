// Notices that the files the producer was made of have changed: those of [kafka_files], and the certificates and keys
// that librdkafka reads by path. By content: an orchestrator swaps links, and a date says nothing of what is inside.
// A file that cannot be read, or is empty, is being written: its last content counts on. Owned by the worker; its
// thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "core/secret_file.hpp"
#include "kafka/settings.hpp"

namespace outbox {

class SecretWatch {
public:
    enum class Change : std::uint8_t {
        nothing,
        login,  // sasl.username or sasl.password alone: Producer::renew_credentials()
        other,  // only another producer reads the rest again
    };

    // Takes the first look, so make it before the producer: a change in between must not go unnoticed.
    explicit SecretWatch(const KafkaSettings& settings);

    // What has changed since the last look. Reads small files: once a second is often enough.
    Change look();

private:
    struct Watched {
        SecretFile file;
        bool login = false;
        std::optional<std::size_t> digest;
    };
    std::vector<Watched> files_;
};

}  // namespace outbox
