#include "app/daemon.hpp"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <random>
#include <utility>

#include "app/boot_clock.hpp"
#include "telemetry/log.hpp"

namespace outbox {

namespace {

using namespace std::chrono_literals;
using nlohmann::json;

constexpr Duration stuck_after = 60s;  // a worker's loop turns once a second even when idle
constexpr Duration tend_every = 500ms;
constexpr Duration status_every = 5s;

std::string host_name() {
    std::array<char, 256> name{};
    return ::gethostname(name.data(), name.size() - 1) == 0 ? name.data() : "unknown";
}

// A version 4 UUID: drawn anew at every start, so that a restarted worker is never taken for its predecessor.
EventId draw_worker_id() {
    std::random_device random;
    EventId id{};
    for (std::uint8_t& byte : id) byte = static_cast<std::uint8_t>(random());
    id[6] = static_cast<std::uint8_t>((id[6] & 0x0FU) | 0x40U);
    id[8] = static_cast<std::uint8_t>((id[8] & 0x3FU) | 0x80U);
    return id;
}

}  // namespace

Daemon::Daemon(DaemonSettings settings, const StopSignals& signals)
    : settings_(std::move(settings)),
      signals_(signals),
      started_at_(unix_now()),
      metrics_({settings_.version, settings_.librdkafka, settings_.libpq,
                static_cast<std::uint32_t>(settings_.worker.schema_version), started_at_},
               settings_.worker.relay.relay.workers),
      service_manager_(ServiceManager::environment()),
      sampler_(settings_.worker.postgres, metrics_, settings_.worker.relay.relay.claim == ClaimMode::lanes,
               [this] { return floor(); }) {
    const WorkerIdentity identity{{}, host_name(), static_cast<std::int32_t>(::getpid()), settings_.version};
    for (std::size_t i = 0; i < settings_.worker.relay.relay.workers; ++i) {
        WorkerIdentity own = identity;
        own.id = draw_worker_id();
        workers_.push_back(std::make_unique<Worker>(i, settings_.worker, std::move(own), metrics_.worker(i),
                                                    [this] { wakeups_.interrupt(); }));
        progress_.push_back(std::make_unique<Progress>());
        progress_.back()->moved_at = boot_now().time_since_epoch().count();
    }
    if (!settings_.http.listen.empty())
        http_ = std::make_unique<HttpServer>(
            settings_.http, HttpContent{[this] { return metrics_.scrape(unix_now()); }, [this] { return live(); },
                                        [this] { return ready(); }, [this] { return status(); }});
}

Daemon::~Daemon() = default;

WorkerEnd Daemon::run() {
    log(LogLevel::info, "started", "outbox-relay is running",
        {{"version", settings_.version},
         {"workers", static_cast<std::int64_t>(workers_.size())},
         {"http_port", http_ ? static_cast<std::int64_t>(http_->port()) : 0}});
    for (const auto& worker : workers_) worker->start();
    sampler_.start();

    while (!all_ended()) {
        const Wakeups::Woken woken = wakeups_.sleep({signals_.descriptor(), POLLIN}, {}, tend_every);
        if (woken.session && signals_.take() != 0) {
            if (stopping_)
                for (const auto& worker : workers_) worker->hurry();
            stop_workers();
        }
        // A worker that ends by itself takes the daemon with it: the supervisor starts it anew.
        if (std::any_of(workers_.begin(), workers_.end(),
                        [](const auto& worker) { return worker->end() != WorkerEnd::running; }))
            stop_workers();
        tend(boot_now());
    }
    sampler_.stop();
    WorkerEnd end = WorkerEnd::drained;
    for (const auto& worker : workers_)
        if (worker->end() != WorkerEnd::drained) end = worker->end();
    log(LogLevel::info, "stopped", "outbox-relay has stopped");
    return end;
}

void Daemon::stop_workers() {
    if (stopping_) return;
    stopping_ = true;
    service_manager_.stopping();
    for (const auto& worker : workers_) worker->drain();
}

bool Daemon::all_ended() const {
    return std::all_of(workers_.begin(), workers_.end(),
                       [](const auto& worker) { return worker->end() != WorkerEnd::running; });
}

// systemd is told READY once the loops turn, not once the dependencies answer: boot order must not block, and waiting
// for a database is what this daemon is for. /readyz is stricter.
void Daemon::tend(Instant now) {
    bool all_moved = true;
    for (std::size_t i = 0; i < workers_.size(); ++i) {
        Progress& progress = *progress_[i];
        const std::uint64_t turns = workers_[i]->turns();
        if (turns != progress.turns) progress.moved_at = now.time_since_epoch().count();
        progress.turns = turns;
        all_moved = all_moved && turns > 0 && now - Instant(Duration(progress.moved_at.load())) < 5s;
    }
    if (all_moved && !said_ready_) {
        said_ready_ = true;
        service_manager_.ready();
    }
    if (const auto interval = service_manager_.watchdog_interval(); interval && all_moved && now >= watchdog_at_) {
        service_manager_.watchdog();
        watchdog_at_ = now + *interval / 3;
    }
    if (now >= status_at_) {
        status_at_ = now + status_every;
        const auto sample = sampler_.sample();
        const HealthAnswer health = ready();
        service_manager_.status(
            (health.ok ? "relaying" : "waiting: " + health.checks_json) +
            (sample ? ", " + std::to_string(sample->outbox.backlog.rows) + " rows pending" : std::string{}));
    }
}

HealthAnswer Daemon::live() const {
    HealthAnswer answer{true, {}};
    json stuck = json::array();
    const Instant now = boot_now();
    for (std::size_t i = 0; i < workers_.size(); ++i)
        if (now - Instant(Duration(progress_[i]->moved_at.load())) > stuck_after) stuck.push_back(i);
    answer.ok = stuck.empty();
    answer.checks_json = json{{"stuck_workers", stuck}}.dump();
    return answer;
}

HealthAnswer Daemon::ready() const {
    json waiting = json::object();
    for (const auto& worker : workers_) {
        const WorkerTroubles troubles = worker->troubles();
        if (!troubles.postgres.empty()) waiting["postgres"] = troubles.postgres;
        if (!troubles.kafka.empty()) waiting["kafka"] = troubles.kafka;
    }
    return {waiting.empty(), json{{"waiting_for", waiting}}.dump(-1, ' ', false, json::error_handler_t::replace)};
}

// Rows of lanes that other processes own are their business; only where this one owns all can it look past the front.
RowId Daemon::floor() const {
    LaneSet owned;
    RowId lowest = no_row;
    for (const auto& worker : workers_) {
        owned = owned | worker->lanes();
        lowest = std::min(lowest, worker->floor());
    }
    return owned == LaneSet::all() ? lowest : RowId{};
}

std::string Daemon::status() const {
    json document{{"version", settings_.version},
                  {"uptime_seconds", unix_now() - started_at_},
                  {"state", stopping_ ? "stopping" : "running"},
                  {"ready", ready().ok}};
    document["waiting_for"] = json::parse(ready().checks_json)["waiting_for"];
    for (std::size_t i = 0; i < workers_.size(); ++i) {
        const WorkerStanding standing = metrics_.worker(i).standing();
        document["workers"].push_back({{"lanes_owned", standing.lanes_owned},
                                       {"in_flight_rows", standing.in_flight_rows},
                                       {"in_flight_bytes", standing.in_flight_bytes},
                                       {"parked_topics", standing.parked_topics},
                                       {"low_mark_lag_ids", standing.low_mark_lag_ids}});
    }
    if (const auto sample = sampler_.sample()) {
        const OutboxNumbers& outbox = sample->outbox;
        document["outbox"] = {{"sampled_at_unix", sample->taken_at},
                              {"backlog_rows", outbox.backlog.rows},
                              {"backlog_estimated", outbox.backlog.estimated},
                              {"oldest_pending_age_seconds", outbox.backlog.oldest_age_seconds.value_or(0)},
                              {"dead_letter_rows", outbox.dead_letters},
                              {"lanes_uncovered", outbox.lanes_uncovered},
                              {"living_workers", outbox.living_workers}};
    }
    return document.dump(2, ' ', false, json::error_handler_t::replace);
}

}  // namespace outbox
