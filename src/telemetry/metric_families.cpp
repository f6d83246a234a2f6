#include "telemetry/metric_families.hpp"

#include <utility>

namespace outbox {
namespace {

using prometheus::Counter;
using prometheus::Family;
using prometheus::Histogram;
using Bounds = Histogram::BucketBoundaries;

Family<Counter>& counters(prometheus::Registry& registry, const char* name, const char* help) {
    return prometheus::BuildCounter().Name(name).Help(help).Register(registry);
}

Counter& counter(prometheus::Registry& registry, const char* name, const char* help) {
    return counters(registry, name, help).Add({});
}

Family<Histogram>& histograms(prometheus::Registry& registry, const char* name, const char* help) {
    return prometheus::BuildHistogram().Name(name).Help(help).Register(registry);
}

Histogram& latencies(prometheus::Registry& registry, const char* name, const char* help) {
    return histograms(registry, name, help).Add({}, Bounds(latency_bounds.begin(), latency_bounds.end()));
}

}  // namespace

MetricFamilies::MetricFamilies()
    : rows_read(counter(registry, "outbox_rows_read_total", "Rows read from the outbox table.")),
      rows_deleted(
          counter(registry, "outbox_rows_deleted_total", "Rows deleted after the broker had acknowledged them.")),
      postgres_reconnects(
          counter(registry, "outbox_postgres_reconnects_total", "Postgres sessions opened after one was lost.")),
      producer_replacements(
          counter(registry, "outbox_producer_replacements_total", "Kafka producers given up and built anew.")),
      delete_retries(counter(registry, "outbox_delete_retries_total",
                             "Deletes that Postgres refused for now, and that were sent again.")),
      isolated_rows(counter(registry, "outbox_isolated_rows_total",
                            "Rows set aside because a process crashed while it handled nothing else.")),
      delivery_latency(latencies(registry, "outbox_delivery_latency_seconds",
                                 "From the creation of a row to its acknowledgement by the broker.")),
      acknowledgement(latencies(registry, "outbox_acknowledgement_seconds",
                                "From handing a record to the producer to its acknowledgement by the broker.")),
      messages_(counters(registry, "outbox_messages_delivered_total", "Records acknowledged by the broker.")),
      bytes_(counters(registry, "outbox_delivered_bytes_total",
                      "Bytes of key, payload and headers of the records acknowledged by the broker.")),
      dead_letters_(counters(registry, "outbox_dead_letters_total", "Rows moved to the dead-letter table.")) {
    auto& errors = counters(registry, "outbox_delivery_errors_total", "Rows that came back undelivered.");
    for (std::size_t kind = 0; kind < failure_kind_count; ++kind) {
        delivery_errors.at(kind) = &errors.Add({{"reason", std::string(name_of(static_cast<FailureKind>(kind)))}});
    }
    auto& durations = histograms(registry, "outbox_db_operation_duration_seconds",
                                 "From sending a statement to Postgres to its complete result.");
    const Bounds bounds{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30};
    for (std::size_t operation = 0; operation < database_operation_count; ++operation) {
        const auto name = std::string(name_of(static_cast<DatabaseOperation>(operation)));
        database_operations.at(operation) = &durations.Add({{"op", name}}, bounds);
    }
    register_circuit_transitions();
}

void MetricFamilies::register_circuit_transitions() {
    auto& transitions =
        counters(registry, "outbox_circuit_transitions_total", "Times that a circuit breaker went into a state.");
    constexpr std::array<const char*, circuit_kind_count> kinds{"cluster", "topic"};
    constexpr std::array<const char*, circuit_state_count> states{"closed", "half_open", "open"};
    for (std::size_t kind = 0; kind < circuit_kind_count; ++kind)
        for (std::size_t state = 0; state < circuit_state_count; ++state)
            circuit_transitions.at(kind).at(state) =
                &transitions.Add({{"circuit", kinds.at(kind)}, {"to", states.at(state)}});
}

// Two workers that meet the same new value at once may count it twice; the bound is then reached a little early.
prometheus::Labels MetricFamilies::BoundedLabel::admit(const Family<Counter>& family, std::string_view value) {
    prometheus::Labels labels{{name_, std::string(value)}};
    if (!family.Has(labels) && values_.fetch_add(1, std::memory_order_relaxed) >= values_max_) {
        labels[name_] = other_label;
    }
    return labels;
}

MetricFamilies::TopicCounters MetricFamilies::topic(std::string_view name) {
    const auto labels = topics_.admit(messages_, name);
    return {messages_.Add(labels), bytes_.Add(labels)};
}

Counter& MetricFamilies::dead_letter(std::string_view code) {
    return dead_letters_.Add(codes_.admit(dead_letters_, code));
}

}  // namespace outbox
