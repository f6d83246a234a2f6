// Everything that is counted with prometheus-cpp, by name. Inside telemetry/ only: its users see Metrics and
// WorkerMetrics. Any thread; prometheus-cpp locks where it has to.
#pragma once

#include <prometheus/counter.h>
#include <prometheus/family.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <string>
#include <string_view>

#include "telemetry/worker_metrics.hpp"

namespace outbox {

inline constexpr std::array<double, 17> latency_bounds{.001, .0025, .005, .01, .025, .05, .1,  .25, .5,
                                                       1,    2.5,   5,    10,  30,   60,  300, 1800};

inline constexpr std::size_t failure_kind_count = 6;
inline constexpr std::size_t circuit_kind_count = 2;
inline constexpr std::size_t circuit_state_count = 3;
inline constexpr std::string_view other_label = "__other__";

struct MetricFamilies {
    // Registered in this order, hence first.
    prometheus::Registry registry;

    prometheus::Counter& rows_read;
    prometheus::Counter& rows_deleted;
    prometheus::Counter& postgres_reconnects;
    prometheus::Counter& producer_replacements;
    prometheus::Counter& delete_retries;
    prometheus::Counter& isolated_rows;
    prometheus::Histogram& delivery_latency;
    prometheus::Histogram& acknowledgement;
    std::array<prometheus::Counter*, failure_kind_count> delivery_errors{};              // by FailureKind
    std::array<prometheus::Histogram*, database_operation_count> database_operations{};  // by DatabaseOperation
    // By CircuitKind, then by Circuit::State.
    std::array<std::array<prometheus::Counter*, circuit_state_count>, circuit_kind_count> circuit_transitions{};

    MetricFamilies();

    struct TopicCounters {
        prometheus::Counter& messages;
        prometheus::Counter& bytes;
    };
    TopicCounters topic(std::string_view name);
    prometheus::Counter& dead_letter(std::string_view code);

private:
    void register_circuit_transitions();

    // A label whose values come from outside, and a bound on how many of them are told apart.
    class BoundedLabel {
    public:
        BoundedLabel(std::string name, std::size_t values_max) : name_(std::move(name)), values_max_(values_max) {}
        prometheus::Labels admit(const prometheus::Family<prometheus::Counter>& family, std::string_view value);

    private:
        std::string name_;
        std::size_t values_max_;
        std::atomic<std::size_t> values_ = 0;
    };

    prometheus::Family<prometheus::Counter>& messages_;
    prometheus::Family<prometheus::Counter>& bytes_;
    prometheus::Family<prometheus::Counter>& dead_letters_;
    BoundedLabel topics_{"topic", 200};
    BoundedLabel codes_{"reason", 50};
};

}  // namespace outbox
