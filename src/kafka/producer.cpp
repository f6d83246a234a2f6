#include "kafka/producer.hpp"

#include <librdkafka/rdkafka.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <stdexcept>
#include <unordered_map>
#include <utility>

#include "core/first_contact.hpp"
#include "core/invariant.hpp"
#include "kafka/delivery_error.hpp"
#include "kafka/partitioner.hpp"
#include "kafka/producer_conf.hpp"
#include "kafka/record_headers.hpp"
#include "kafka/secrets.hpp"
#include "kafka/statistics.hpp"
#include "kafka/topic_limits.hpp"

namespace outbox {

namespace {

using KafkaQueue = std::unique_ptr<rd_kafka_queue_t, FreeWith<rd_kafka_queue_destroy>>;
using KafkaTopic = std::unique_ptr<rd_kafka_topic_t, FreeWith<rd_kafka_topic_destroy>>;
using KafkaEvent = std::unique_ptr<rd_kafka_event_t, FreeWith<rd_kafka_event_destroy>>;
using KafkaError = std::unique_ptr<rd_kafka_error_t, FreeWith<rd_kafka_error_destroy>>;

constexpr std::string_view unproven = "acknowledged without an offset, by a partition that gave none before";
constexpr Failure purged{FailureKind::in_doubt, "_PURGE_QUEUE", "purged before it was sent"};
constexpr Failure held_back{FailureKind::in_doubt, "HELD_BACK", "a row before it, for the same partition, was refused"};

struct Record {
    TopicIndex topic{};
    std::optional<std::string_view> key;
    std::optional<std::string_view> payload;
    KafkaHeaders headers;
    WallTime published_at{};
};

// One that waits for first contact: it has a key. What it was read from may be gone before it goes.
struct HeldRecord {
    TopicIndex topic{};
    std::string key;
    std::optional<std::string> payload;
    KafkaHeaders headers;
};

// A number as librdkafka carries one to its reports.
void* carried(std::size_t number) {
    // NOLINTNEXTLINE(performance-no-int-to-ptr): never followed
    return reinterpret_cast<void*>(static_cast<std::uintptr_t>(number));
}
std::uint32_t number_in(const void* opaque) {
    return static_cast<std::uint32_t>(reinterpret_cast<std::uintptr_t>(opaque));
}

}  // namespace

bool linger_is_chosen(const KafkaSettings& settings) {
    return std::ranges::any_of(settings.properties, [](const KafkaProperty& property) {
        return property.name == "linger.ms" || property.name == "queue.buffering.max.ms";
    });
}

void ProducerReports::clear() {
    delivered.clear();
    failed.clear();
    notices.clear();
    limits.clear();
    all_brokers_down = false;
    epoch_bumped = false;
    throttled.reset();
    cluster_failure.reset();
}

struct Producer::State {
    State() = default;
    ~State() {
        topics.clear();
        queue.reset();
        if (producer != nullptr) {
            rd_kafka_purge(producer, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
            rd_kafka_destroy(producer);
        }
        if (wake_fd >= 0) ::close(wake_fd);
    }
    State(const State&) = delete;
    State& operator=(const State&) = delete;

    KafkaTopic& topic(TopicIndex index, std::string_view name);
    std::optional<Failure> send_or_hold(Record record, Slot slot);
    void hold(Record record, std::int32_t partition, Slot slot);
    void send_held(const std::vector<Slot>& waiting, ProducerReports& reports);
    void fail_held(const std::vector<Slot>& waiting, const Failure& failure, ProducerReports& reports);
    void take_back_held();
    void wake() const;
    void on_deliveries(rd_kafka_event_t* event, ProducerReports& reports);
    void on_error(rd_kafka_event_t* event, ProducerReports& reports);
    void on_statistics(rd_kafka_event_t* event, ProducerReports& reports);
    void on_connected();

    rd_kafka_t* producer = nullptr;
    PartitionerCallback partitioner = nullptr;
    KafkaQueue queue;
    std::vector<KafkaTopic> topics;  // by TopicIndex
    RecordHeaders headers;
    FirstContact first_contact;
    std::unordered_map<std::uint32_t, HeldRecord> held;  // by slot: what first_contact has waiting
    std::vector<Slot> taken_back;                        // of those: purged, to be reported
    TopicLimitsQuestions limits_questions;
    int wake_fd = -1;
    bool connected = false;
    bool fatal = false;
    std::optional<std::pair<std::int64_t, std::int64_t>> identity_told;  // producer id and epoch
    std::string trouble;
};

Producer::Producer(const KafkaSettings& settings, const RelaySettings& relay) : state_(std::make_unique<State>()) {
    KafkaConf conf = producer_conf(settings, relay);
    state_->partitioner = asking_partitioner(conf_value(conf.get(), "partitioner"));
    if (state_->partitioner == nullptr) throw std::runtime_error("the relay does not know this partitioner");
    std::array<char, 512> reason{};
    state_->producer = rd_kafka_new(RD_KAFKA_PRODUCER, conf.get(), reason.data(), reason.size());
    if (state_->producer == nullptr)
        throw std::runtime_error(std::string("cannot create the Kafka producer: ") + reason.data());
    static_cast<void>(conf.release());  // rd_kafka_new owns the conf, but only once it has succeeded

    rd_kafka_set_log_queue(state_->producer, nullptr);
    state_->queue.reset(rd_kafka_queue_get_main(state_->producer));
    state_->wake_fd = ::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (state_->wake_fd < 0) throw std::runtime_error("cannot create an eventfd");
    const std::uint64_t one = 1;
    rd_kafka_queue_io_event_enable(state_->queue.get(), state_->wake_fd, &one, sizeof one);
    state_->wake();  // it tells when the queue stops being empty: what came before this line would never be told
}

Producer::~Producer() = default;

int Producer::descriptor() const {
    return state_->wake_fd;
}
bool Producer::connected() const {
    return state_->connected;
}
const std::string& Producer::trouble() const {
    return state_->trouble;
}
bool Producer::fatal() const {
    return state_->fatal;
}
std::uint64_t Producer::queued() const {
    return static_cast<std::uint64_t>(rd_kafka_outq_len(state_->producer)) + state_->held.size();
}
void Producer::flush(std::chrono::milliseconds at_most) const {
    rd_kafka_flush(state_->producer, static_cast<int>(at_most.count()));
}
void Producer::purge_unsent() {
    state_->take_back_held();
    rd_kafka_purge(state_->producer, RD_KAFKA_PURGE_F_QUEUE);
}
void Producer::purge() {
    state_->take_back_held();
    rd_kafka_purge(state_->producer, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
}

bool Producer::renew_credentials(const KafkaSettings& settings) {
    try {
        const std::optional<Credentials> login = read_credentials(settings);
        if (!login) return false;
        const KafkaError error(
            rd_kafka_sasl_set_credentials(state_->producer, login->name.c_str(), login->password.c_str()));
        return error == nullptr;
    } catch (const std::runtime_error&) {
        return false;
    }
}

void Producer::ask_limits(std::span<const NamedTopic> topics) {
    state_->limits_questions.ask(state_->producer, state_->queue.get(), topics);
}

// Null where librdkafka refuses the name. Reports find the index again in the topic's opaque.
KafkaTopic& Producer::State::topic(TopicIndex index, std::string_view name) {
    const auto place = static_cast<std::size_t>(index);
    if (place >= topics.size()) topics.resize(place + 1);
    KafkaTopic& handle = topics[place];
    if (!handle) {
        rd_kafka_topic_conf_t* const conf = rd_kafka_default_topic_conf_dup(producer);
        rd_kafka_topic_conf_set_opaque(conf, carried(place));
        rd_kafka_topic_conf_set_partitioner_cb(conf, partitioner);
        handle.reset(rd_kafka_topic_new(producer, std::string(name).c_str(), conf));  // owns conf, also when it fails
    }
    return handle;
}

std::optional<Failure> Producer::publish(TopicIndex topic, const RowContent& row, Slot slot, WallTime published_at) {
    if (!state_->topic(topic, row.topic)) return failure_from(rd_kafka_last_error());
    KafkaHeaders headers = state_->headers.of(row);
    if (!headers) return Failure{FailureKind::row, "INVALID_HEADERS", "headers are not a JSON object of strings"};
    return state_->send_or_hold({topic, row.key, row.payload, std::move(headers), published_at}, slot);
}

std::optional<Failure> Producer::State::send_or_hold(Record record, Slot slot) {
    if (record.key && !first_contact.may_send(record.topic, FirstContact::not_known)) {
        hold(std::move(record), FirstContact::not_known, slot);
        return std::nullopt;
    }
    const std::string_view key = record.key.value_or(std::string_view{});
    const std::string_view payload = record.payload.value_or(std::string_view{});
    const void* const key_bytes = record.key ? key.data() : nullptr;
    const void* const payload_bytes = record.payload ? payload.data() : nullptr;
    void* const opaque = carried(static_cast<std::size_t>(slot));
    PartitionChoice choice(first_contact, record.topic);
    // The tags are written out: the RD_KAFKA_V_… macros are made of C casts.
    const rd_kafka_resp_err_t error = rd_kafka_producev(
        producer, RD_KAFKA_VTYPE_RKT, topics[static_cast<std::size_t>(record.topic)].get(), RD_KAFKA_VTYPE_MSGFLAGS,
        int{RD_KAFKA_MSG_F_COPY}, RD_KAFKA_VTYPE_KEY, key_bytes, key.size(), RD_KAFKA_VTYPE_VALUE, payload_bytes,
        payload.size(), RD_KAFKA_VTYPE_HEADERS, record.headers.get(), RD_KAFKA_VTYPE_TIMESTAMP,
        std::int64_t{record.published_at.time_since_epoch().count()}, RD_KAFKA_VTYPE_OPAQUE, opaque,
        RD_KAFKA_VTYPE_END);
    if (error != RD_KAFKA_RESP_ERR_NO_ERROR && choice.has_to_wait()) {
        hold(std::move(record), choice.partition(), slot);
        return std::nullopt;
    }
    if (error != RD_KAFKA_RESP_ERR_NO_ERROR) {
        fatal = fatal || failure_kind(error) == FailureKind::fatal;
        return failure_from(error);
    }
    static_cast<void>(record.headers.release());  // librdkafka owns them, but only once it has taken the message
    if (record.key)
        first_contact.sent(record.topic, choice.partition(), slot);
    else
        first_contact.sent_without_key(slot);
    return std::nullopt;
}

void Producer::State::hold(Record record, std::int32_t partition, Slot slot) {
    HeldRecord copy{record.topic, std::string(*record.key), std::nullopt, std::move(record.headers)};
    if (record.payload) copy.payload.emplace(*record.payload);
    require_invariant(held.emplace(static_cast<std::uint32_t>(slot), std::move(copy)).second, "two rows in one slot");
    first_contact.hold(record.topic, partition, slot);
}

// What comes after a row that is refused must not overtake it.
void Producer::State::send_held(const std::vector<Slot>& waiting, ProducerReports& reports) {
    std::optional<Failure> refused;
    for (const Slot slot : waiting) {
        const auto node = held.extract(static_cast<std::uint32_t>(slot));
        HeldRecord& record = node.mapped();
        if (refused) {
            reports.failed.push_back({slot, *refused, true});
        } else if (const auto failure =
                       send_or_hold({record.topic, record.key, record.payload, std::move(record.headers)}, slot)) {
            reports.failed.push_back({slot, *failure, true});
            refused = failure->kind == FailureKind::row ? held_back : *failure;
        }
    }
}

void Producer::State::fail_held(const std::vector<Slot>& waiting, const Failure& failure, ProducerReports& reports) {
    for (const Slot slot : waiting) {
        held.erase(static_cast<std::uint32_t>(slot));
        reports.failed.push_back({slot, failure, false});
    }
}

void Producer::State::take_back_held() {
    for (const Slot slot : first_contact.take_all_waiting()) {
        held.erase(static_cast<std::uint32_t>(slot));
        taken_back.push_back(slot);
    }
    if (!taken_back.empty()) wake();
}

void Producer::State::on_deliveries(rd_kafka_event_t* event, ProducerReports& reports) {
    while (const rd_kafka_message_t* message = rd_kafka_event_message_next(event)) {
        const Slot slot{number_in(message->_private)};
        const TopicIndex topic{number_in(rd_kafka_topic_opaque(message->rkt))};
        // Persisted is what counts: an error beside it concerns the acknowledgement, not the record. And no error
        // without it is not enough to delete a row.
        const bool persisted = rd_kafka_message_status(message) == RD_KAFKA_MSG_STATUS_PERSISTED;
        const bool delivered = persisted && first_contact.proven(topic, message->partition, slot, message->offset);
        if (delivered) {
            reports.delivered.push_back(slot);
            on_connected();
        } else if (persisted) {
            reports.failed.push_back({slot, {FailureKind::in_doubt, "FIRST_CONTACT", unproven}, false});
        } else {
            reports.failed.push_back({slot, failure_from(message->err), false});
        }
        const std::vector<Slot> waiting = first_contact.take_waiting(topic, message->partition, slot);
        if (waiting.empty()) continue;
        if (delivered)
            send_held(waiting, reports);
        else
            fail_held(waiting, Failure(reports.failed.back().failure), reports);
    }
}

void Producer::State::on_error(rd_kafka_event_t* event, ProducerReports& reports) {
    rd_kafka_resp_err_t error = rd_kafka_event_error(event);
    std::string text = rd_kafka_event_error_string(event);
    // The code may be _FATAL, or the reason itself (2.0.2: OUT_OF_ORDER_SEQUENCE_NUMBER) with the mark beside it.
    if (error == RD_KAFKA_RESP_ERR__FATAL || rd_kafka_event_error_is_fatal(event) != 0) {
        std::array<char, 512> reason{};
        error = rd_kafka_fatal_error(producer, reason.data(), reason.size());
        text = reason.data();
        fatal = true;
    }
    // librdkafka speaks of the authority alone, but a certificate for another host fails with the same words.
    if (error == RD_KAFKA_RESP_ERR__SSL && text.find("certificate verify failed") != std::string::npos)
        text += "; nor may it be for another host name than bootstrap.servers says";
    if (error == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN) {
        connected = false;
        reports.all_brokers_down = true;
    } else {
        trouble = text;  // the error that comes with it says more
    }
    if (!fatal && failure_kind(error) == FailureKind::cluster && !reports.all_brokers_down)
        reports.cluster_failure = failure_from(error);
    reports.notices.push_back({true, rd_kafka_err2name(error), std::move(text)});
}

void Producer::State::on_statistics(rd_kafka_event_t* event, ProducerReports& reports) {
    const ProducerStatistics told = producer_statistics(rd_kafka_event_stats(event));
    connected = false;
    if (told.any_up) on_connected();
    if (told.throttled > Duration::zero())
        reports.throttled = std::max(reports.throttled.value_or(Duration::zero()), told.throttled);
    if (told.producer_id < 0) return;
    // Nothing else says so. librdkafka begins a new epoch by itself after a request that was turned down for good, or
    // as out of sequence, and numbers everything anew, whatever partition it is for (its issue 4953).
    const std::pair identity{told.producer_id, told.epoch};
    if (identity_told && *identity_told != identity) reports.epoch_bumped = true;
    identity_told = identity;
}

void Producer::State::on_connected() {
    connected = true;
    trouble.clear();
}

void Producer::State::wake() const {
    const std::uint64_t one = 1;
    [[maybe_unused]] const auto woken = ::write(wake_fd, &one, sizeof one);
}

void Producer::collect(ProducerReports& reports, Instant now) {
    state_->first_contact.turn(now);
    for (const Slot slot : std::exchange(state_->taken_back, {})) reports.failed.push_back({slot, purged, false});
    std::uint64_t wakes = 0;
    [[maybe_unused]] const auto cleared = ::read(state_->wake_fd, &wakes, sizeof wakes);
    // Bounded by what one read of the database brings: the loop comes back for the rest.
    for (int events = 0; events < 1000; ++events) {
        const KafkaEvent event(rd_kafka_queue_poll(state_->queue.get(), 0));
        if (!event) return;
        switch (rd_kafka_event_type(event.get())) {
            case RD_KAFKA_EVENT_DR:
                state_->on_deliveries(event.get(), reports);
                break;
            case RD_KAFKA_EVENT_ERROR:
                state_->on_error(event.get(), reports);
                break;
            case RD_KAFKA_EVENT_STATS:
                state_->on_statistics(event.get(), reports);
                break;
            case RD_KAFKA_EVENT_DESCRIBECONFIGS_RESULT:
                state_->limits_questions.answered(event.get(), reports.limits);
                break;
            case RD_KAFKA_EVENT_LOG: {
                const char* facility = nullptr;
                const char* text = nullptr;
                int level = 0;
                if (rd_kafka_event_log(event.get(), &facility, &text, &level) == 0)
                    reports.notices.push_back({level <= 4, facility, text});
                break;
            }
            default:
                break;
        }
    }
    const std::uint64_t again = 1;
    [[maybe_unused]] const auto woken = ::write(state_->wake_fd, &again, sizeof again);
}

}  // namespace outbox
