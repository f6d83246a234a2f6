// What an operator may choose about relaying. Plain values, filled by config/ after validation. Any thread.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "core/time.hpp"

namespace outbox {

enum class ClaimMode : std::uint8_t {
    lanes,  // a worker leases lanes, and relays the rows of those alone, in order
    rows,   // a worker locks rows, any rows, while it publishes them: no order
};

struct RelaySettings {
    ClaimMode claim = ClaimMode::lanes;
    std::uint32_t workers = 1;
    Duration lease_ttl = std::chrono::seconds(3);
    std::uint32_t batch_rows = 1000;
    std::uint32_t in_flight_rows = 20'000;
    std::uint64_t in_flight_bytes = std::uint64_t{32} << 20U;
    Duration poll_min = std::chrono::milliseconds(1);
    Duration poll_max = std::chrono::milliseconds(50);
    Duration drain_timeout = std::chrono::seconds(20);

    // The most that a read brings while there is a backlog, and that a delete takes: were it less, rows that wait for
    // their delete would fill the window, and reads would wait for them. Beside a claim nothing else is read.
    std::uint32_t rows_per_statement_max() const {
        return claim == ClaimMode::rows ? std::max(batch_rows, in_flight_rows / 8) : batch_rows;
    }
    // So many acknowledged rows are worth a delete, which takes the lowest of them: those that were acknowledged first
    // lie among others that will be in a moment, and rows that lie side by side are cheaper to delete.
    std::uint32_t rows_worth_a_delete() const { return std::min(in_flight_rows / 4, 3 * rows_per_statement_max()); }
};

struct TopicSettings {
    std::vector<std::string> allow{"*"};  // exact names, or prefixes ending in *
};

struct PacingSettings {
    // Ceilings for all relays of the database together: a worker takes its share, by the lanes it owns.
    std::uint64_t max_rows_per_second = 0;   // 0: no ceiling
    std::uint64_t max_bytes_per_second = 0;  // 0: no ceiling
    // Where the rate begins after an outage of the cluster; it doubles every second while the broker keeps up.
    std::uint64_t recovery_rows_per_second = 1000;  // 0: no ramp
};

// What becomes of a row that can never be published as it is.
enum class PoisonPolicy : std::uint8_t {
    dead_letter,  // moved to outbox.dead_letter; its key goes on
    block_key,    // stays, and its key waits for an operator; a row without a key is dead-lettered all the same
};

struct PoisonSettings {
    PoisonPolicy policy = PoisonPolicy::dead_letter;
};

}  // namespace outbox
