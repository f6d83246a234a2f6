// What the tables say about the outbox at this moment: in numbers for the daemon's sampler, which looks all the time,
// and with names for the `status` command; at a bounded cost however large the backlog is. One thread at a time.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "postgres/blocked_keys.hpp"
#include "postgres/client.hpp"

namespace outbox {

struct Backlog {
    std::int64_t rows = 0;
    bool estimated = false;                    // more than the cap, or counting took too long
    std::optional<double> oldest_age_seconds;  // nullopt: nothing waits, or looking took too long
};

struct RelayStatus {
    std::string id;
    std::string host;
    std::int64_t pid = 0;
    std::string version;
    double started_age_seconds = 0;
    double seen_age_seconds = 0;
    std::int64_t lanes = 0;             // whose lease it holds
    std::int64_t in_flight_rows = 0;    // as of its last sign of life
    std::int64_t control_revision = 0;  // the highest one it has acted on
};

struct ControlStatus {
    std::string topic;  // *: everything
    bool paused = false;
    std::optional<std::int64_t> max_rows_per_second;
    std::string reason;
    std::string changed_by;
    double changed_age_seconds = 0;
};

struct ModuleVersion {
    std::string module;
    std::int64_t version = 0;
};

struct OutboxNumbers {
    Backlog backlog;
    std::int64_t lanes_covered = 0;
    std::int64_t lanes_uncovered = 0;  // no owner, or its lease has run out
    std::int64_t living_workers = 0;
    std::int64_t dead_letters = 0;
    bool dead_letters_capped = false;  // there are at least this many
    std::int64_t keys_blocked = 0;     // up to the cap
    bool paused = false;               // everything
    std::int64_t paused_topics = 0;
    std::int64_t control_revision = 0;  // the latest: a worker below it has not acted on all of `control` yet
    std::int64_t schema_version = 0;
};

struct OutboxStatus : OutboxNumbers {
    std::vector<RelayStatus> relays;  // the living ones
    std::vector<ControlStatus> control;
    BlockedKeys blocked_keys;
    std::vector<ModuleVersion> schema;
};

struct StatusLimits {
    std::int64_t floor = 0;     // only rows with a greater id are looked at: what is below is known to be gone
    std::int64_t cap = 50'000;  // counted exactly up to here
    std::chrono::milliseconds statement_timeout = std::chrono::seconds(2);
};

// The living workers, at most 1000: those seen within the time-to-live of their leases.
std::vector<RelayStatus> read_relays(Client& client);

// What is in outbox.control, everything first; at most 1000.
std::vector<ControlStatus> read_control(Client& client);

Backlog read_backlog(Client& client, const StatusLimits& limits = {});

OutboxNumbers read_outbox_numbers(Client& client, const StatusLimits& limits = {});

OutboxStatus read_outbox_status(Client& client, const StatusLimits& limits = {});

}  // namespace outbox
