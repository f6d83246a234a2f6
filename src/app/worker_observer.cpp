#include "app/worker_observer.hpp"

#include <algorithm>
#include <utility>
#include <variant>

#include "app/boot_clock.hpp"
#include "core/overloaded.hpp"
#include "telemetry/log.hpp"

namespace outbox {

namespace {

double seconds(Duration duration) {
    return std::chrono::duration<double>(duration).count();
}

std::int64_t microseconds(Instant at) {
    return std::chrono::duration_cast<std::chrono::microseconds>(at.time_since_epoch()).count();
}

}  // namespace

void WorkerObserver::answered(const Answer& answer, const Relay& relay, Instant now) {
    const double took = seconds(answer.took);
    const auto lanes_line = [&](LogLevel level, const char* event, const char* text, LaneSet lanes) {
        if (!lanes.empty()) log(level, event, text, {{"worker", worker_}, {"lanes", lanes.size()}});
    };
    std::visit(
        Overloaded{[&](const SessionOpened&) {
                       metrics_.session(true);
                       log(LogLevel::info, "postgres_connected", "Postgres session is open", {{"worker", worker_}});
                   },
                   [&](const LeasesRenewed& event) {
                       metrics_.database_operation(DatabaseOperation::renew, took);
                       database_clock_offset_us_ = answer.database_now_us - microseconds(now - answer.took / 2);
                       if (!relay.claims_rows())
                           lanes_line(LogLevel::warn, "lanes_lost",
                                      "another worker took lanes over, their rows are its own now",
                                      relay.lanes().owned() - event.lanes);
                   },
                   [&](const LanesAcquired& event) {
                       metrics_.database_operation(DatabaseOperation::acquire, took);
                       lanes_line(LogLevel::info, "lanes_acquired", "took over free lanes", event.lanes);
                   },
                   [&](const LanesReleased& event) {
                       metrics_.database_operation(DatabaseOperation::release, took);
                       lanes_line(LogLevel::info, "lanes_released", "handed lanes over", event.lanes);
                   },
                   [&](const FleetLeft&) {},
                   [&](const RowsRead&) {
                       metrics_.rows_read(answer.rows, took);
                       name_topics(relay.topics());
                   },
                   [&](const ProbeAnswered&) { metrics_.database_operation(DatabaseOperation::probe, took); },
                   [&](const RowsDeleted&) {
                       refusing_ = false;
                       metrics_.rows_deleted(answer.rows, took);
                   },
                   [&](const RowsMissed&) { metrics_.rows_deleted(answer.rows, took); },
                   [&](const RowsBuried&) { buried(took); }, [&](const DeleteRefused&) { refused(answer); },
                   [&](const BurialRefused&) {
                       burials_.pop_front();
                       refused(answer);
                   },
                   [&](const ControlRead&) {}, [&](const BlockedKeysRead&) {}, [&](const CrashesRead&) {},
                   [&](const NoteTaken&) {}, [&](const ClaimEnded&) {}},
        answer.event);
}

void WorkerObserver::name_topics(const Topics& topics) {
    for (; topics_named_ < topics.size(); ++topics_named_) {
        const TopicIndex topic{static_cast<std::uint32_t>(topics_named_)};
        metrics_.topic_named(topic, topics[topic].name);
    }
}

void WorkerObserver::burying(const BuryRow& burial) {
    burials_.push_back({burial.id, std::string(burial.code), std::string(burial.text), burial.block_key,
                        burial.event_id == EventId{}});
}

void WorkerObserver::buried(double took) {
    metrics_.database_operation(DatabaseOperation::bury, took);
    const Burial& burial = burials_.front();
    if (burial.isolated) {
        metrics_.isolated();
        log(LogLevel::error, "row_isolated",
            "a row was set aside without another attempt: it was alone when processes ended",
            {{"message_id", burial.id.value}});
    }
    if (burial.block_key) {
        log(LogLevel::warn, "key_blocked",
            "a row can never be published as it is: its key waits for an operator, others go on (a row without a key "
            "went to outbox.dead_letter)",
            {{"message_id", burial.id.value}, {"error_code", burial.code}, {"reason", burial.reason}});
    } else {
        metrics_.dead_letter(burial.code);
        log(LogLevel::warn, "dead_letter", "a row can never be published and was moved to outbox.dead_letter",
            {{"message_id", burial.id.value}, {"error_code", burial.code}, {"reason", burial.reason}});
    }
    burials_.pop_front();
}

void WorkerObserver::refused(const Answer& answer) {
    metrics_.delete_retried();
    if (std::exchange(refusing_, true)) return;
    log(LogLevel::warn, "delete_retried", "a delete was refused and is tried again: " + answer.refusal,
        {{"worker", worker_}});
}

void WorkerObserver::delivered(std::span<const Slot> slots, const Relay& relay, Instant now) {
    const std::int64_t database_now_us = microseconds(now) + database_clock_offset_us_;
    delivered_rows_.clear();
    for (const Slot slot : slots) {
        const Window::Entry& row = relay.window().entry(slot);
        const auto age_us = std::max<std::int64_t>(database_now_us - row.created_at_us, 0);
        delivered_rows_.push_back(
            {row.topic, row.bytes, static_cast<double>(age_us) * 1e-6, seconds(now - row.admitted_at)});
    }
    metrics_.delivered({delivered_rows_, unix_now()});
}

void WorkerObserver::failed(std::span<const FailedRow> rows) {
    for (const FailedRow& row : rows) metrics_.failed(row.failure.kind, 1);
}

void WorkerObserver::session_lost() {
    burials_.clear();
    refusing_ = false;
    metrics_.session(false);
}

void WorkerObserver::noticed(const std::vector<ProducerNotice>& notices) const {
    for (const ProducerNotice& notice : notices)
        log(notice.warning ? LogLevel::warn : LogLevel::debug, "librdkafka", notice.text, {{"code", notice.code}});
}

void WorkerObserver::stands(const Relay& relay, Instant now) {
    transitions_.look(relay, now);
    const Window& window = relay.window();
    const LowMark& mark = relay.low_mark();
    metrics_.standing({window.rows_in_flight(), window.bytes_in_flight(),
                       relay.claims_rows() ? 0 : relay.lanes().owned().size(),
                       static_cast<std::uint32_t>(relay.topics().parked().size()),
                       static_cast<std::uint64_t>(mark.head().value - std::min(mark.low(), mark.head()).value),
                       relay.cluster().circuit().state(), transitions_.open_topic_circuits(),
                       relay.pacing().recovery_rate(), relay.pacing().in_flight_limit()});
}

}  // namespace outbox
