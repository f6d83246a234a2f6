// All metrics of the process, and their text for Prometheus. Workers count through their WorkerMetrics, the backlog
// sampler hands in what it measured, a scrape adds it all up. Every metric is described in docs/metrics.md, by test.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>

#include "telemetry/worker_metrics.hpp"

namespace outbox {

struct ProcessFacts {
    std::string version;
    std::string librdkafka;
    std::string libpq;
    std::uint32_t schema_version_expected = 0;
    double started_at = 0;  // unix seconds
};

// What the sampler saw in the database. All times are unix seconds on this host's clock: the oldest row's is the time
// of the sample less the age that the database computed, so that the two clocks may differ.
struct BacklogSample {
    double taken_at = 0;
    std::uint64_t backlog_rows = 0;
    bool backlog_estimated = false;
    double oldest_pending_at = 0;  // 0: nothing waits
    std::uint64_t dead_letter_rows = 0;
    std::uint32_t lanes_uncovered = 0;
    std::uint32_t schema_version = 0;
    std::uint64_t blocked_keys = 0;
    bool paused = false;  // everything, not only a topic
    std::uint32_t paused_topics = 0;
};

class Metrics {
public:
    Metrics(const ProcessFacts& facts, std::size_t workers);
    ~Metrics();
    Metrics(const Metrics&) = delete;
    Metrics& operator=(const Metrics&) = delete;

    WorkerMetrics& worker(std::size_t index) { return workers_.at(index); }
    const WorkerMetrics& worker(std::size_t index) const { return workers_.at(index); }

    // Any thread.
    void sampled(const BacklogSample& sample);
    std::string scrape(double unix_now) const;

private:
    struct Sampled;

    // Constant after construction.
    std::unique_ptr<MetricFamilies> families_;
    std::unique_ptr<Sampled> sampled_;  // its gauges are atomic
    std::deque<WorkerMetrics> workers_;
    double started_at_;
};

}  // namespace outbox
