// What one worker counts. Its thread calls everything but the last group, batch by batch; nothing here takes a lock or
// allocates per row (naming a topic does both, once per topic). Scrapes read the atomics from civetweb's threads.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "core/circuit.hpp"
#include "core/failure.hpp"
#include "core/row.hpp"

namespace prometheus {
class Counter;
class Histogram;
}  // namespace prometheus

namespace outbox {

struct MetricFamilies;

enum class DatabaseOperation { read, remove, bury, probe, renew, acquire, release };
inline constexpr std::size_t database_operation_count = 7;
std::string_view name_of(DatabaseOperation operation);  // `remove` is called "delete" outside

enum class CircuitKind { cluster, topic };

struct DeliveredRow {
    TopicIndex topic{};
    std::uint32_t bytes = 0;
    double since_created_s = 0;    // row creation to acknowledgement
    double since_published_s = 0;  // handed to the producer to acknowledgement
};

struct DeliveredBatch {
    std::span<const DeliveredRow> rows;
    double unix_now = 0;  // wall clock, seconds
};

// How a worker stands: the gauges, which a scrape adds up over the workers.
struct WorkerStanding {
    std::uint64_t in_flight_rows = 0;
    std::uint64_t in_flight_bytes = 0;
    std::uint32_t lanes_owned = 0;
    std::uint32_t parked_topics = 0;
    std::uint64_t low_mark_lag_ids = 0;                       // the scrape shows the largest
    Circuit::State cluster_circuit = Circuit::State::closed;  // the scrape shows the worst
    std::uint32_t open_topic_circuits = 0;
    std::uint64_t recovery_rows_per_second = 0;  // 0: not recovering
    std::uint64_t in_flight_limit_rows = 0;      // the congestion window
};

// Sorts values into a histogram's buckets, to hand them over once per batch: a prometheus::Histogram locks.
class BucketTally {
public:
    explicit BucketTally(std::span<const double> bounds) : bounds_(bounds), counts_(bounds.size() + 1) {}
    void add(double seconds);
    void hand_to(prometheus::Histogram& histogram);

private:
    std::span<const double> bounds_;
    std::vector<double> counts_;
    double sum_ = 0;
};

class WorkerMetrics {
public:
    explicit WorkerMetrics(MetricFamilies& families);

    void topic_named(TopicIndex topic, std::string_view name);  // before the topic's first delivery
    void rows_read(std::size_t rows, double seconds);
    void delivered(const DeliveredBatch& batch);
    void failed(FailureKind kind, std::size_t rows);
    void rows_deleted(std::size_t rows, double seconds);
    void dead_letter(std::string_view code);
    void isolated();        // a row set aside without another attempt: it was alone when a process crashed
    void delete_retried();  // a delete that Postgres refused for now, as in a deadlock
    void circuit_moved(CircuitKind circuit, Circuit::State to);
    void database_operation(DatabaseOperation operation, double seconds);  // the others: read and delete count above
    void session(bool connected);
    void producer(bool connected);
    void producer_replaced();
    void standing(const WorkerStanding& now);

    // Any thread.
    WorkerStanding standing() const;
    bool postgres_connected() const { return postgres_connected_.load(std::memory_order_relaxed); }
    bool kafka_connected() const { return kafka_connected_.load(std::memory_order_relaxed); }
    double last_delivery_at() const { return last_delivery_at_.load(std::memory_order_relaxed); }

private:
    struct TopicTally {
        prometheus::Counter* messages = nullptr;
        prometheus::Counter* bytes = nullptr;
        std::uint64_t batch_rows = 0;
        std::uint64_t batch_bytes = 0;
    };

    MetricFamilies& families_;

    // The worker's thread only.
    std::vector<TopicTally> topics_;
    std::vector<std::size_t> touched_;  // topics of the batch at hand
    BucketTally delivery_latency_;
    BucketTally acknowledgement_;
    bool had_session_ = false;

    // Written by the worker's thread, read by scrapes.
    std::atomic<std::uint64_t> in_flight_rows_ = 0;
    std::atomic<std::uint64_t> in_flight_bytes_ = 0;
    std::atomic<std::uint32_t> lanes_owned_ = 0;
    std::atomic<std::uint32_t> parked_topics_ = 0;
    std::atomic<std::uint64_t> low_mark_lag_ids_ = 0;
    std::atomic<Circuit::State> cluster_circuit_ = Circuit::State::closed;
    std::atomic<std::uint32_t> open_topic_circuits_ = 0;
    std::atomic<std::uint64_t> recovery_rows_per_second_ = 0;
    std::atomic<std::uint64_t> in_flight_limit_rows_ = 0;
    std::atomic<bool> postgres_connected_ = false;
    std::atomic<bool> kafka_connected_ = false;
    std::atomic<double> last_delivery_at_ = 0;
};

}  // namespace outbox
