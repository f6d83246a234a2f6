// The daemon: its workers, the sampler, the HTTP endpoints, and the way it starts and stops. It owns everything and
// decides nothing about rows. The main thread; the HTTP callbacks read atomics and published snapshots.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "app/sampler.hpp"
#include "app/service_manager.hpp"
#include "app/signals.hpp"
#include "app/wakeups.hpp"
#include "app/worker.hpp"
#include "telemetry/http.hpp"
#include "telemetry/metrics.hpp"

namespace outbox {

struct DaemonSettings {
    WorkerSettings worker;
    HttpSettings http;
    std::string version;
    std::string librdkafka;
    std::string libpq;
};

class Daemon {
public:
    // `signals` were blocked before any thread existed.
    Daemon(DaemonSettings settings, const StopSignals& signals);
    ~Daemon();
    Daemon(const Daemon&) = delete;
    Daemon& operator=(const Daemon&) = delete;

    // Runs until a stop signal or a worker's end, then drains; a second signal cuts the drain short.
    WorkerEnd run();

private:
    HealthAnswer live() const;
    HealthAnswer ready() const;
    std::string status() const;
    RowId floor() const;
    bool all_ended() const;
    void stop_workers();
    void tend(Instant now);

    const DaemonSettings settings_;
    const StopSignals& signals_;
    const double started_at_;
    Metrics metrics_;
    ServiceManager service_manager_;
    Wakeups wakeups_;
    std::vector<std::unique_ptr<Worker>> workers_;
    Sampler sampler_;

    // How far each worker had got, and when it was last seen to move: what the watchdog and /livez go by.
    struct Progress {
        std::uint64_t turns = 0;
        std::atomic<Instant::rep> moved_at = 0;
    };
    std::vector<std::unique_ptr<Progress>> progress_;
    Instant watchdog_at_{};
    Instant status_at_{};
    std::atomic<bool> stopping_ = false;
    bool said_ready_ = false;

    std::unique_ptr<HttpServer> http_;  // last: its threads read the members above
};

}  // namespace outbox
