// What a campaign went through: proof that it was not an empty one. A value.
#pragma once

#include <array>
#include <cstdint>

#include "sim/scenario.hpp"

namespace outbox::sim {

struct Coverage {
    std::uint64_t seeds = 0;
    std::uint64_t claiming = 0;  // seeds in which rows are claimed, not leased by lanes
    std::uint64_t virtual_seconds = 0;
    std::uint64_t steps = 0;
    std::uint64_t turns = 0;  // of workers
    std::uint64_t committed = 0;
    std::uint64_t rolled_back = 0;
    std::uint64_t lost_by_failover = 0;
    std::uint64_t delivered = 0;  // first occurrences
    std::uint64_t duplicates = 0;
    std::uint64_t overtaken = 0;
    std::uint64_t buried = 0;
    std::uint64_t requeued = 0;
    std::uint64_t blocked = 0;
    std::uint64_t lane_moves = 0;
    std::uint64_t processes = 0;
    std::uint64_t producers = 0;
    std::uint64_t sessions = 0;
    std::uint64_t unexcused = 0;  // seeds in which no duplicate could have been excused
    std::array<std::uint64_t, fault_kinds> faults{};

    void add(const Coverage& other);
};

inline void Coverage::add(const Coverage& other) {
    seeds += other.seeds;
    claiming += other.claiming;
    virtual_seconds += other.virtual_seconds;
    steps += other.steps;
    turns += other.turns;
    committed += other.committed;
    rolled_back += other.rolled_back;
    lost_by_failover += other.lost_by_failover;
    delivered += other.delivered;
    duplicates += other.duplicates;
    overtaken += other.overtaken;
    buried += other.buried;
    requeued += other.requeued;
    blocked += other.blocked;
    lane_moves += other.lane_moves;
    processes += other.processes;
    producers += other.producers;
    sessions += other.sessions;
    unexcused += other.unexcused;
    for (std::size_t i = 0; i < faults.size(); ++i) faults[i] += other.faults[i];
}

}  // namespace outbox::sim
