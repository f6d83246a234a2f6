// One worker's Kafka producer: idempotent, acks=all, its reports taken as events on the worker's own thread, woken
// through a descriptor. No callback of ours that touches anything runs on librdkafka's threads.
// A producer that turns fatal is destroyed and replaced by another one; that is its owner's business.
// Not a general client: it publishes rows and reports on them by slot. The worker's thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/failure.hpp"
#include "core/messages.hpp"
#include "core/owned.hpp"
#include "core/row.hpp"
#include "core/settings.hpp"
#include "core/time.hpp"
#include "kafka/settings.hpp"

namespace outbox {

// What a person should read in the log: librdkafka's own lines, and errors that are about no single row.
struct ProducerNotice {
    bool warning = false;
    std::string code;  // librdkafka's facility, or the error's name
    std::string text;
};

struct NamedTopic {
    TopicIndex index{};
    std::string name;
};

// What the brokers take of a topic.
struct TopicLimits {
    TopicIndex topic{};
    bool known = false;                          // false: the brokers did not say, and nothing below counts
    std::uint32_t batch_bytes_max = UINT32_MAX;  // of a batch, as it is sent; a row alone is one as well
    bool keys_required = false;                  // compacted: a record without a key is rejected
};

struct ProducerReports {
    std::vector<Slot> delivered;
    std::vector<FailedRow> failed;
    std::vector<ProducerNotice> notices;
    std::vector<TopicLimits> limits;
    bool all_brokers_down = false;
    bool epoch_bumped = false;               // what was on its way may be written twice
    std::optional<Duration> throttled;       // the longest a broker held us back, by quota, since the last look
    std::optional<Failure> cluster_failure;  // TLS or the login failed: no row is to blame, and none gets through
    void clear();
};

// message.max.bytes in force: a larger row is never handed to the producer.
std::uint32_t message_bytes_max(const KafkaSettings& settings);

// Whether the operator says how long rows wait for company: then none is flushed.
bool linger_is_chosen(const KafkaSettings& settings);

using WallTime = std::chrono::sys_time<std::chrono::milliseconds>;  // as a record's timestamp counts

class Producer {
public:
    // Throws std::runtime_error when the settings or the secret files cannot be used. Connects in the background.
    Producer(const KafkaSettings& settings, const RelaySettings& relay);
    ~Producer();
    Producer(const Producer&) = delete;
    Producer& operator=(const Producer&) = delete;

    // Readable when there is something to collect.
    int descriptor() const;

    // The row is copied, and held back here while its partition's first contact is under way (core/first_contact.hpp).
    // On failure it never left this process, and no report will come. `published_at` is the record's timestamp; 0: when
    // librdkafka gets it, which reads the clock for each.
    std::optional<Failure> publish(TopicIndex topic, const RowContent& row, Slot slot, WallTime published_at = {});

    void collect(ProducerReports& reports, Instant now);

    // Sends what waits for company (linger.ms) at once, and waits for its acknowledgements, so long at most: librdkafka
    // sets its linger aside "for the duration of the call" (rdkafka.h, rd_kafka_flush). The one thing that another
    // thread may do.
    void flush(std::chrono::milliseconds at_most) const;

    // Each is answered once by a report, within 5 s: known only when the brokers give us leave to DescribeConfigs it.
    void ask_limits(std::span<const NamedTopic> topics);

    // What was not sent yet is reported as failed; what was may still be acknowledged. What the brokers turn down now
    // joins the former, so that one call may not be enough.
    void purge_unsent();
    // Everything not acknowledged yet is reported as failed, in doubt where it was sent already.
    void purge();

    // Logs in with what the files say now, from the next connection on; those there are stay. False when the files
    // cannot be read, or the login is not by name and password: another producer may help.
    bool renew_credentials(const KafkaSettings& settings);

    bool connected() const;              // at least one broker is up, as far as is known
    const std::string& trouble() const;  // why none is, in librdkafka's words; empty: connected, or not known
    bool fatal() const;
    std::uint64_t queued() const;  // messages that are still held, here and by librdkafka

private:
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace outbox
