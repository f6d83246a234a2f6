// One simulated run, written down before it begins: the configuration, what writers will write, and which faults strike
// when. It follows from its seed alone; shrinking takes parts of it away. Plain values.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/relay.hpp"
#include "core/time.hpp"

namespace outbox::sim {

enum class FaultKind : std::uint8_t {
    // Postgres
    cut_session,
    cut_unnoticed,  // the worker learns of it seconds later
    restart_database,
    database_down,
    failover,
    slow_database,
    step_clock,
    refuse_deletes,
    lock_messages,
    lock_lanes,
    // Kafka
    broker_down,
    broker_stands_still,
    cut_broker,
    slow_brokers,
    throttle,
    too_few_replicas,
    kafka_unreachable,
    topic_denied,
    topic_missing,
    change_limits,
    producer_fails,
    queue_full,
    odd_error,  // one that nobody knows: whether the batch was written stays open
    // processes
    kill,
    terminate,
    terminate_twice,
    rolling_restart,
    join,
    flap,
    pause_host,
    // operators
    pause_topic,
    pause_all,
    change_rate,
    unblock,
    requeue,
};
inline constexpr std::size_t fault_kinds = static_cast<std::size_t>(FaultKind::requeue) + 1;
std::string_view name_of(FaultKind kind);

struct Fault {
    FaultKind kind{};
    Duration at{};           // after the start
    Duration lasts{};        // where it is something that lasts
    std::uint64_t pick = 0;  // whom it strikes, and how
};

struct PlannedRow {
    std::uint32_t topic = 0;
    std::int32_t key = 0;  // below 0: none
    std::uint32_t payload_bytes = 100;
    bool poison = false;
    bool long_key = false;
};

// Writers of one key serialise: a transaction holds the locks of its keys from before its first insert to its end.
struct Transaction {
    enum class End : std::uint8_t { commit, roll_back, prepare_and_commit, prepare_and_roll_back };
    Duration at{};
    Duration lasts{};
    Duration prepared_for{};
    End end = End::commit;
    std::vector<PlannedRow> rows;
};

struct PlannedTopic {
    std::string name;
    std::uint32_t partitions = 1;
    std::uint32_t batch_bytes_max = 1'000'000;
    bool compacted = false;
};

struct PlannedReader {  // holds a snapshot, so that no dead row can be removed
    Duration at{};
    Duration lasts{};
};

struct Scenario {
    std::uint64_t seed = 0;
    RelayOptions options;
    std::uint32_t message_bytes_max = 1'000'000;
    std::uint32_t replicas = 1;
    std::uint32_t brokers = 1;
    bool producers_fail_on_gaps = false;
    std::uint32_t producer_batch_rows = 50;
    std::uint32_t drift_ppm = 0;
    bool limits_told = false;       // the brokers always say what they take, and say it quickly
    bool prepared_renamed = false;  // a prepared transaction goes by another name at once, as on old servers
    Duration statement_fastest{};
    Duration statement_slowest{};
    std::vector<PlannedTopic> topics;
    std::vector<Transaction> transactions;
    std::vector<PlannedReader> readers;
    std::vector<Fault> faults;
    Duration calm_at{};  // no fault lasts longer than this
};

Scenario scenario_of(std::uint64_t seed);

}  // namespace outbox::sim
