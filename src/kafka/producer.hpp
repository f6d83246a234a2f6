// One worker's Kafka producer: idempotent, acks=all, its reports taken as events on the worker's own thread, woken
// through a descriptor. No callback of ours runs on librdkafka's threads.
// A producer that turns fatal is destroyed and replaced by another one; that is its owner's business.
// Not a general client: it publishes rows and reports on them by slot. The worker's thread.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/failure.hpp"
#include "core/messages.hpp"
#include "core/owned.hpp"
#include "core/row.hpp"
#include "core/settings.hpp"
#include "kafka/settings.hpp"

namespace outbox {

// What a person should read in the log: librdkafka's own lines, and errors that are about no single row.
struct ProducerNotice {
    bool warning = false;
    std::string code;  // librdkafka's facility, or the error's name
    std::string text;
};

struct ProducerReports {
    std::vector<Slot> delivered;
    std::vector<FailedRow> failed;
    std::vector<ProducerNotice> notices;
    void clear();
    bool empty() const { return delivered.empty() && failed.empty() && notices.empty(); }
};

// message.max.bytes in force: a larger row is never handed to the producer.
std::uint32_t message_bytes_max(const KafkaSettings& settings);

class Producer {
public:
    // Throws std::runtime_error when the settings or the secret files cannot be used. Connects in the background.
    Producer(const KafkaSettings& settings, const RelaySettings& relay);
    ~Producer();
    Producer(const Producer&) = delete;
    Producer& operator=(const Producer&) = delete;

    // Readable when there is something to collect.
    int descriptor() const;

    // The row is copied. On failure it never left this process, and no report will come.
    std::optional<Failure> publish(TopicIndex topic, const RowContent& row, Slot slot);

    void collect(ProducerReports& reports);

    // Everything not acknowledged yet is reported as failed, in doubt where it was sent already.
    void purge();

    bool connected() const;  // at least one broker is up, as far as is known
    bool fatal() const;
    std::uint64_t queued() const;  // messages librdkafka still holds

private:
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace outbox
