// The whole world of one run: a database, a cluster, hosts with processes on them, writers and operators, in virtual
// time. It plays a scenario to its end: faults strike until the calm, then everything must come to rest in time. One
// thread.
#pragma once

#include <cstdint>
#include <iosfwd>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "sim/coverage.hpp"
#include "sim/kafka_cluster.hpp"
#include "sim/ledger.hpp"
#include "sim/postgres_model.hpp"
#include "sim/random.hpp"
#include "sim/scenario.hpp"
#include "sim/schedule.hpp"
#include "sim/worker.hpp"

namespace outbox::sim {

struct Outcome {
    std::vector<std::string> violations;
    Coverage coverage;
    bool ok() const { return violations.empty(); }
};

class World {
public:
    // `trace`: where to write what happens; none if null.
    World(const Scenario& scenario, std::ostream* trace);
    ~World();
    World(const World&) = delete;
    World& operator=(const World&) = delete;

    Outcome run();

private:
    struct Process {
        Host host;
        std::vector<std::shared_ptr<Worker>> workers;
        bool stopping = false;
        bool killed = false;
        bool running() const;
    };
    struct Writing;

    void trace(const std::string& what);
    void vacuum();

    // ---- processes (world_processes.cpp) ----
    void start_process();
    void kill(Process& process, Duration restart_after, bool restart);
    void terminate(Process& process, bool twice, bool restart);
    void start_again_in(Duration delay);
    void roll();
    Process* pick_running(std::uint64_t pick);
    std::vector<Worker*> living() const;
    Worker* pick_worker(std::uint64_t pick);
    std::size_t running() const;

    // ---- writers (world_writers.cpp) ----
    void begin(const Transaction& transaction);
    void lock_keys(const std::shared_ptr<Writing>& writing);
    void insert_next(const std::shared_ptr<Writing>& writing);
    void finish(const std::shared_ptr<Writing>& writing);
    void unlock_keys(const Writing& writing);
    void sort_writers_out();
    bool may_be_buried(const PlannedRow& row) const;

    // ---- faults (world_faults.cpp) ----
    void strike(const Fault& fault);
    void strike_database(const Fault& fault);
    void strike_kafka(const Fault& fault);
    void strike_processes(const Fault& fault);
    void operate(const Fault& fault);
    void requeue();
    void cut_everybody();
    void stop_database(Duration lasts);
    void set_reachable(Process& process, bool reachable);
    void make_peace();

    // ---- checks (world_checks.cpp) ----
    void after_statement();
    void look_at_owners();
    void look_at_owners_taken_back();
    void trace_owners(std::size_t first);
    void look_at_burials();
    bool at_rest() const;
    bool may_wait(const MessageRow& row) const;
    void run_until(Instant end);
    void expect_rest();
    bool shares_are_even() const;
    bool lanes_are_owned() const;
    void expect_quiet();
    std::string what_waits() const;
    bool claims_rows() const { return scenario_.options.relay.claim == ClaimMode::rows; }
    void let_go(std::uint64_t event);
    Coverage coverage() const;

    const Scenario scenario_;
    std::ostream* const trace_;
    Schedule schedule_;
    Random random_;
    PostgresModel postgres_;
    KafkaCluster cluster_;
    DatabaseWeather database_;
    Ledger ledger_;
    Surroundings surroundings_;
    std::vector<std::unique_ptr<Process>> processes_;
    std::map<std::pair<std::uint32_t, std::int32_t>, const Writing*> key_locks_;
    std::vector<std::shared_ptr<Writing>> writing_;
    std::vector<std::uint32_t> limits_;  // of the topics, as planned
    std::size_t owner_changes_seen_ = 0;
    std::array<std::optional<EventId>, lane_count> owners_{};
    std::array<Instant, lane_count> released_at_{};
    std::size_t burials_seen_ = 0;
    std::size_t blocked_seen_ = 0;
    std::array<std::uint64_t, fault_kinds> struck_{};
    std::uint64_t buried_ = 0;
    std::uint64_t requeued_ = 0;
    std::uint64_t blocked_ = 0;
    bool calm_ = false;
    Duration clock_behind_{};
    bool messages_locked_ = false;
};

}  // namespace outbox::sim
