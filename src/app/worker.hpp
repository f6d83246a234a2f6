// One worker: a thread with its own Postgres session, its own producer and its own Relay, sharing nothing. It carries
// out what the relay asks for, tells it what happened, and rebuilds whatever breaks, with jittered backoff.
// start() and the destructor: the owner's thread. drain(), hurry() and the const functions: any thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "app/clock_watch.hpp"
#include "app/flusher.hpp"
#include "app/published.hpp"
#include "app/wakeups.hpp"
#include "app/worker_observer.hpp"
#include "core/backoff.hpp"
#include "core/relay.hpp"
#include "core/settings.hpp"
#include "kafka/producer.hpp"
#include "kafka/secret_watch.hpp"
#include "postgres/sessions.hpp"
#include "telemetry/metrics.hpp"

namespace outbox {

struct WorkerSettings {
    PostgresSettings postgres;
    KafkaSettings kafka;
    RelayOptions relay;
    int schema_version = 0;
};

// Why a side is not up, for people.
struct WorkerTroubles {
    std::string postgres;  // empty: connected
    std::string kafka;     // empty: connected
};

enum class WorkerEnd { running, drained, schema_newer, broken };

class Worker {
public:
    Worker(std::size_t index, WorkerSettings settings, WorkerIdentity identity, WorkerMetrics& metrics,
           std::function<void()> ended);
    ~Worker();
    Worker(const Worker&) = delete;
    Worker& operator=(const Worker&) = delete;

    void start();
    void drain();  // stop reading, finish what is in flight, hand the lanes over, end; at most for drain_timeout
    void hurry();  // cut the drain short

    WorkerEnd end() const { return end_.load(); }
    std::uint64_t turns() const { return turns_.load(std::memory_order_relaxed); }
    // No row of this worker's lanes with an id up to here is waiting.
    RowId floor() const { return RowId{floor_.load(std::memory_order_relaxed)}; }
    LaneSet lanes() const { return LaneSet(lanes_.load(std::memory_order_relaxed)); }
    WorkerTroubles troubles() const;

private:
    void run();
    void turn(Wakeups::Woken woken, Instant now);
    Wakeups::Woken sleep(Instant now);
    Duration nap(Instant now) const;

    void open_session(Instant now);
    void serve_session(bool readable, Instant now);
    void lose_session(const PostgresError& error, Instant now);
    void judge_session(Instant now);
    void take(Answer& answer, Instant now);

    void open_producer(Instant now);
    void serve_producer(bool readable, Instant now);
    void look_at_secrets(Instant now);
    void look_at_clock(Instant now);
    void lose_producer(Instant now);
    void retire_producer(Instant patience_until, Instant now);
    void finish_retiring(Instant now);
    void ask_limits(Instant now);
    void tell_of_cluster(Instant now);
    void judge_kafka();

    void act(Instant now);
    void carry_out(const Publish& publish, Instant now);
    void carry_out(const BuryRow& burial, Instant now);
    void carry_out(const ReadRows& action, Instant now);
    template <class SessionAction>
    void carry_out(const SessionAction& action, Instant now);

    void step_drain(Instant now);
    void trouble(std::string WorkerTroubles::*side, std::string text);
    double jitter() { return std::uniform_real_distribution<double>(0.0, 1.0)(random_); }

    // Constant after construction.
    const std::size_t index_;
    const WorkerSettings settings_;
    const WorkerIdentity identity_;
    const std::function<void()> ended_;

    // The worker's thread only.
    WorkerMetrics& metrics_;
    WorkerObserver observer_;
    std::mt19937_64 random_;
    Relay relay_;
    std::unique_ptr<Sessions> session_;
    bool session_ready_ = false;
    Instant session_opened_at_{};
    std::uint32_t deletes_refused_ = 0;  // in a row
    bool session_refused_ = false;       // the last one ended because the server refused a statement
    std::uint32_t session_failures_ = 0;
    Instant session_retry_at_{};
    std::unique_ptr<Producer> producer_;
    std::optional<Flusher> flusher_;  // of it, unless the operator says how long rows wait
    bool producer_announced_ = false;
    bool producer_dying_ = false;
    Instant producer_patience_until_{};  // dying: what was sent may still be acknowledged until then
    std::optional<SecretWatch> secrets_;
    Instant secrets_at_{};
    ClockWatch clock_watch_;
    Instant rouse_at_{};
    Instant rouse_until_{};   // the wall clock was set back a moment ago
    bool connected_ = false;  // as the relay was told
    std::uint32_t producer_failures_ = 0;
    Instant producer_retry_at_{};
    std::size_t limits_asked_ = 0;  // of so many topics
    Instant limits_again_at_{};
    ProducerReports reports_;
    std::vector<FailedRow> refused_;  // of the batch being published
    std::vector<std::pair<TopicIndex, Failure>> refusing_;
    Instant drain_deadline_ = never;
    bool purged_ = false;
    bool left_ = false;
    Instant floor_at_{};

    // Shared with other threads.
    std::atomic<bool> drain_requested_ = false;
    std::atomic<bool> hurry_requested_ = false;
    std::atomic<WorkerEnd> end_ = WorkerEnd::running;
    std::atomic<std::uint64_t> turns_ = 0;
    std::atomic<std::int64_t> floor_ = 0;
    std::atomic<std::uint64_t> lanes_ = 0;
    Published<WorkerTroubles> troubles_;

    Wakeups wakeups_;
    std::jthread thread_;  // last: joined before the members it uses are destroyed
};

}  // namespace outbox
