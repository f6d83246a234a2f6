#include "telemetry/metrics.hpp"

#include <prometheus/text_serializer.h>

#include <algorithm>
#include <sstream>
#include <vector>

#include "telemetry/metric_families.hpp"
#include "telemetry/process_metrics.hpp"

namespace outbox {
namespace {

using prometheus::Gauge;
using prometheus::MetricFamily;
using prometheus::MetricType;

Gauge& gauge(prometheus::Registry& registry, const char* name, const char* help) {
    return prometheus::BuildGauge().Name(name).Help(help).Register(registry).Add({});
}

// A metric that exists only while it is scraped, so that two scrapes at once do not write to one another.
void add(std::vector<MetricFamily>& families, MetricType type, const char* name, const char* help, double value) {
    prometheus::ClientMetric metric;
    (type == MetricType::Counter ? metric.counter.value : metric.gauge.value) = value;
    families.push_back({name, help, type, {metric}});
}

void add_gauge(std::vector<MetricFamily>& families, const char* name, const char* help, double value) {
    add(families, MetricType::Gauge, name, help, value);
}

struct Fleet {
    WorkerStanding sum;
    bool postgres_connected = true;
    bool kafka_connected = true;
    double last_delivery_at = 0;
};

Fleet added_up(const std::deque<WorkerMetrics>& workers) {
    Fleet all;
    for (const WorkerMetrics& worker : workers) {
        const WorkerStanding one = worker.standing();
        all.sum.in_flight_rows += one.in_flight_rows;
        all.sum.in_flight_bytes += one.in_flight_bytes;
        all.sum.lanes_owned += one.lanes_owned;
        all.sum.parked_topics += one.parked_topics;
        all.sum.low_mark_lag_ids = std::max(all.sum.low_mark_lag_ids, one.low_mark_lag_ids);
        all.sum.cluster_circuit = std::max(all.sum.cluster_circuit, one.cluster_circuit);
        all.sum.open_topic_circuits += one.open_topic_circuits;
        all.sum.recovery_rows_per_second += one.recovery_rows_per_second;
        all.sum.in_flight_limit_rows += one.in_flight_limit_rows;
        all.postgres_connected = all.postgres_connected && worker.postgres_connected();
        all.kafka_connected = all.kafka_connected && worker.kafka_connected();
        all.last_delivery_at = std::max(all.last_delivery_at, worker.last_delivery_at());
    }
    return all;
}

void add_circuits(std::vector<MetricFamily>& out, const WorkerStanding& sum) {
    add_gauge(out, "outbox_cluster_circuit",
              "The cluster's circuit breaker, of the worker where it is worst: 0 closed, 1 half-open, 2 open.",
              static_cast<double>(sum.cluster_circuit));
    add_gauge(out, "outbox_open_topic_circuits", "Topics whose circuit breaker is not closed.",
              sum.open_topic_circuits);
    add_gauge(out, "outbox_recovery_rows_per_second",
              "Rows per second that the slow start after an outage allows now; 0 when there is none.",
              static_cast<double>(sum.recovery_rows_per_second));
    add_gauge(out, "outbox_in_flight_limit_rows", "Rows that may be in flight at once, as the broker keeps up.",
              static_cast<double>(sum.in_flight_limit_rows));
}

void add_workers(std::vector<MetricFamily>& out, const std::deque<WorkerMetrics>& workers) {
    const Fleet all = added_up(workers);
    add_gauge(out, "outbox_in_flight_rows", "Rows read and not yet settled.",
              static_cast<double>(all.sum.in_flight_rows));
    add_gauge(out, "outbox_in_flight_bytes", "Bytes of the rows read and not yet settled.",
              static_cast<double>(all.sum.in_flight_bytes));
    add_gauge(out, "outbox_lanes_owned", "Lanes that this process relays.", all.sum.lanes_owned);
    add_gauge(out, "outbox_parked_topics", "Topics whose rows wait: not to be written now, or paused.",
              all.sum.parked_topics);
    add_gauge(out, "outbox_low_mark_lag_ids", "Ids between the low-water mark and the last id drawn.",
              static_cast<double>(all.sum.low_mark_lag_ids));
    add_gauge(out, "outbox_postgres_connected", "1 when every worker has its Postgres session.",
              all.postgres_connected ? 1 : 0);
    add_gauge(out, "outbox_kafka_connected", "1 when every worker has a producer with a broker connected.",
              all.kafka_connected ? 1 : 0);
    add_gauge(out, "outbox_last_delivery_timestamp_seconds", "When a record was last acknowledged; 0 before the first.",
              all.last_delivery_at);
    add_circuits(out, all.sum);
}

void add_process(std::vector<MetricFamily>& out, double started_at) {
    const ProcessUsage usage = process_usage();
    add(out, MetricType::Counter, "process_cpu_seconds_total", "Total user and system CPU time spent in seconds.",
        usage.cpu_seconds);
    add_gauge(out, "process_resident_memory_bytes", "Resident memory size in bytes.",
              static_cast<double>(usage.resident_bytes));
    add_gauge(out, "process_virtual_memory_bytes", "Virtual memory size in bytes.",
              static_cast<double>(usage.virtual_bytes));
    add_gauge(out, "process_open_fds", "Number of open file descriptors.", static_cast<double>(usage.open_fds));
    add_gauge(out, "process_max_fds", "Maximum number of open file descriptors.", static_cast<double>(usage.max_fds));
    add_gauge(out, "process_start_time_seconds", "Start time of the process since the Unix epoch in seconds.",
              started_at);
}

}  // namespace

struct Metrics::Sampled {
    explicit Sampled(prometheus::Registry& registry)
        : backlog_rows(gauge(registry, "outbox_backlog_rows", "Rows waiting in the outbox table.")),
          backlog_estimated(gauge(registry, "outbox_backlog_estimated", "1 when outbox_backlog_rows is an estimate.")),
          oldest_pending_at(gauge(registry, "outbox_oldest_pending_timestamp_seconds",
                                  "When the oldest waiting row was created; 0 when nothing waits.")),
          taken_at(gauge(registry, "outbox_backlog_sample_timestamp_seconds",
                         "When the backlog was last measured; 0 before the first time.")),
          dead_letter_rows(gauge(registry, "outbox_dead_letter_rows", "Rows in the dead-letter table.")),
          lanes_uncovered(gauge(registry, "outbox_lanes_uncovered", "Lanes that no relay owns.")),
          schema_version(gauge(registry, "outbox_schema_version", "Schema version found in the database.")),
          blocked_keys(gauge(registry, "outbox_blocked_keys", "Keys that wait because a row of theirs was refused.")),
          paused(gauge(registry, "outbox_paused", "1 when an operator has paused everything.")),
          paused_topics(gauge(registry, "outbox_paused_topics", "Topics that an operator has paused.")) {}

    Gauge& backlog_rows;
    Gauge& backlog_estimated;
    Gauge& oldest_pending_at;
    Gauge& taken_at;
    Gauge& dead_letter_rows;
    Gauge& lanes_uncovered;
    Gauge& schema_version;
    Gauge& blocked_keys;
    Gauge& paused;
    Gauge& paused_topics;
};

Metrics::Metrics(const ProcessFacts& facts, std::size_t workers)
    : families_(std::make_unique<MetricFamilies>()),
      sampled_(std::make_unique<Sampled>(families_->registry)),
      started_at_(facts.started_at) {
    for (std::size_t index = 0; index < workers; ++index) workers_.emplace_back(*families_);
    auto& registry = families_->registry;
    prometheus::BuildGauge()
        .Name("outbox_build_info")
        .Help("Always 1; the labels say which versions run.")
        .Register(registry)
        .Add({{"version", facts.version}, {"librdkafka", facts.librdkafka}, {"libpq", facts.libpq}})
        .Set(1);
    gauge(registry, "outbox_schema_version_expected", "Schema version that this build works with.")
        .Set(facts.schema_version_expected);
}

Metrics::~Metrics() = default;

void Metrics::sampled(const BacklogSample& sample) {
    sampled_->backlog_rows.Set(static_cast<double>(sample.backlog_rows));
    sampled_->backlog_estimated.Set(sample.backlog_estimated ? 1 : 0);
    sampled_->oldest_pending_at.Set(sample.oldest_pending_at);
    sampled_->dead_letter_rows.Set(static_cast<double>(sample.dead_letter_rows));
    sampled_->lanes_uncovered.Set(sample.lanes_uncovered);
    sampled_->schema_version.Set(sample.schema_version);
    sampled_->blocked_keys.Set(static_cast<double>(sample.blocked_keys));
    sampled_->paused.Set(sample.paused ? 1 : 0);
    sampled_->paused_topics.Set(sample.paused_topics);
    sampled_->taken_at.Set(sample.taken_at);
}

std::string Metrics::scrape(double unix_now) const {
    std::vector<MetricFamily> families = families_->registry.Collect();
    // Computed here, so that it grows even when the sampler is stuck.
    const double oldest = sampled_->oldest_pending_at.Value();
    add_gauge(families, "outbox_oldest_pending_age_seconds",
              "Age of the oldest waiting row, at the time of the scrape; 0 when nothing waits.",
              oldest > 0 ? std::max(unix_now - oldest, 0.0) : 0.0);
    add_workers(families, workers_);
    add_process(families, started_at_);
    std::ostringstream text;
    prometheus::TextSerializer().Serialize(text, families);
    return std::move(text).str();
}

}  // namespace outbox
