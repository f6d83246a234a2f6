#include "telemetry/worker_metrics.hpp"

#include <algorithm>

#include "core/invariant.hpp"
#include "telemetry/metric_families.hpp"

namespace outbox {

std::string_view name_of(DatabaseOperation operation) {
    switch (operation) {
        case DatabaseOperation::read:
            return "read";
        case DatabaseOperation::remove:
            return "delete";
        case DatabaseOperation::bury:
            return "bury";
        case DatabaseOperation::probe:
            return "probe";
        case DatabaseOperation::renew:
            return "renew";
        case DatabaseOperation::acquire:
            return "acquire";
        case DatabaseOperation::release:
            return "release";
    }
    return "unknown";
}

void BucketTally::add(double seconds) {
    const double value = std::max(seconds, 0.0);  // two clocks may disagree; a histogram's sum must not fall
    const auto bucket = std::lower_bound(bounds_.begin(), bounds_.end(), value) - bounds_.begin();
    counts_[static_cast<std::size_t>(bucket)] += 1;
    sum_ += value;
}

void BucketTally::hand_to(prometheus::Histogram& histogram) {
    histogram.ObserveMultiple(counts_, sum_);
    std::fill(counts_.begin(), counts_.end(), 0.0);
    sum_ = 0;
}

WorkerMetrics::WorkerMetrics(MetricFamilies& families)
    : families_(families), delivery_latency_(latency_bounds), acknowledgement_(latency_bounds) {}

void WorkerMetrics::topic_named(TopicIndex topic, std::string_view name) {
    const auto at = static_cast<std::size_t>(topic);
    if (at >= topics_.size()) topics_.resize(at + 1);
    touched_.reserve(topics_.size());
    const auto counters = families_.topic(name);
    topics_[at].messages = &counters.messages;
    topics_[at].bytes = &counters.bytes;
}

void WorkerMetrics::rows_read(std::size_t rows, double seconds) {
    families_.rows_read.Increment(static_cast<double>(rows));
    database_operation(DatabaseOperation::read, seconds);
}

void WorkerMetrics::rows_deleted(std::size_t rows, double seconds) {
    families_.rows_deleted.Increment(static_cast<double>(rows));
    database_operation(DatabaseOperation::remove, seconds);
}

void WorkerMetrics::delivered(const DeliveredBatch& batch) {
    if (batch.rows.empty()) return;
    for (const DeliveredRow& row : batch.rows) {
        const auto at = static_cast<std::size_t>(row.topic);
        require_invariant(at < topics_.size() && topics_[at].messages != nullptr,
                          "a topic is named before it is counted");
        TopicTally& tally = topics_[at];
        if (tally.batch_rows == 0) touched_.push_back(at);
        ++tally.batch_rows;
        tally.batch_bytes += row.bytes;
        delivery_latency_.add(row.since_created_s);
        acknowledgement_.add(row.since_published_s);
    }
    for (const std::size_t at : touched_) {
        TopicTally& tally = topics_[at];
        tally.messages->Increment(static_cast<double>(tally.batch_rows));
        tally.bytes->Increment(static_cast<double>(tally.batch_bytes));
        tally.batch_rows = 0;
        tally.batch_bytes = 0;
    }
    touched_.clear();
    delivery_latency_.hand_to(families_.delivery_latency);
    acknowledgement_.hand_to(families_.acknowledgement);
    last_delivery_at_.store(batch.unix_now, std::memory_order_relaxed);
}

void WorkerMetrics::failed(FailureKind kind, std::size_t rows) {
    families_.delivery_errors.at(static_cast<std::size_t>(kind))->Increment(static_cast<double>(rows));
}

void WorkerMetrics::dead_letter(std::string_view code) {
    families_.dead_letter(code).Increment();
}

void WorkerMetrics::isolated() {
    families_.isolated_rows.Increment();
}

void WorkerMetrics::delete_retried() {
    families_.delete_retries.Increment();
}

void WorkerMetrics::circuit_moved(CircuitKind circuit, Circuit::State to) {
    families_.circuit_transitions.at(static_cast<std::size_t>(circuit)).at(static_cast<std::size_t>(to))->Increment();
}

void WorkerMetrics::database_operation(DatabaseOperation operation, double seconds) {
    families_.database_operations.at(static_cast<std::size_t>(operation))->Observe(std::max(seconds, 0.0));
}

void WorkerMetrics::session(bool connected) {
    if (connected && had_session_ && !postgres_connected()) families_.postgres_reconnects.Increment();
    had_session_ = had_session_ || connected;
    postgres_connected_.store(connected, std::memory_order_relaxed);
}

void WorkerMetrics::producer(bool connected) {
    kafka_connected_.store(connected, std::memory_order_relaxed);
}

void WorkerMetrics::producer_replaced() {
    families_.producer_replacements.Increment();
}

void WorkerMetrics::standing(const WorkerStanding& now) {
    in_flight_rows_.store(now.in_flight_rows, std::memory_order_relaxed);
    in_flight_bytes_.store(now.in_flight_bytes, std::memory_order_relaxed);
    lanes_owned_.store(now.lanes_owned, std::memory_order_relaxed);
    parked_topics_.store(now.parked_topics, std::memory_order_relaxed);
    low_mark_lag_ids_.store(now.low_mark_lag_ids, std::memory_order_relaxed);
    cluster_circuit_.store(now.cluster_circuit, std::memory_order_relaxed);
    open_topic_circuits_.store(now.open_topic_circuits, std::memory_order_relaxed);
    recovery_rows_per_second_.store(now.recovery_rows_per_second, std::memory_order_relaxed);
    in_flight_limit_rows_.store(now.in_flight_limit_rows, std::memory_order_relaxed);
}

WorkerStanding WorkerMetrics::standing() const {
    return {
        in_flight_rows_.load(std::memory_order_relaxed),      in_flight_bytes_.load(std::memory_order_relaxed),
        lanes_owned_.load(std::memory_order_relaxed),         parked_topics_.load(std::memory_order_relaxed),
        low_mark_lag_ids_.load(std::memory_order_relaxed),    cluster_circuit_.load(std::memory_order_relaxed),
        open_topic_circuits_.load(std::memory_order_relaxed), recovery_rows_per_second_.load(std::memory_order_relaxed),
        in_flight_limit_rows_.load(std::memory_order_relaxed)};
}

}  // namespace outbox
