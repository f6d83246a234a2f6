// Reads one topic from its end, for `verify`: all partitions, no consumer group, nothing committed. What the brokers
// refuse for good is thrown; what passes (a broker that is away) is waited out.
// Not a general client: it knows no offsets but its own, and takes from [kafka] only what is about the connection.
// One thread.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kafka/settings.hpp"

namespace outbox {

struct ConsumedRecord {
    std::string key;      // empty: none
    std::string payload;  // empty: a tombstone, or nothing in it
    std::vector<std::pair<std::string, std::string>> headers;

    std::optional<std::string_view> header(std::string_view name) const;
};

// Whether a property of [kafka] is about how to reach and to trust the brokers, and so a consumer's as well.
bool concerns_connection(std::string_view property);

class Consumer {
public:
    // Finds the topic's ends: what is published afterwards is read. Throws KafkaUnreachable when no broker answers in
    // time, the topic is not there, or the settings cannot be used.
    Consumer(const KafkaSettings& settings, const std::string& topic, std::chrono::milliseconds timeout);
    ~Consumer();
    Consumer(const Consumer&) = delete;
    Consumer& operator=(const Consumer&) = delete;

    // False when nothing came within `timeout`. Throws KafkaUnreachable when the topic may not be read, or what was to
    // be read next is gone.
    bool next(ConsumedRecord& record, std::chrono::milliseconds timeout);

private:
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace outbox
