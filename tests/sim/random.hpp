// The simulator's only source of chance: splitmix64, the same numbers from the same seed on every machine (which the
// distributions of <random> do not promise). A value; one thread.
#pragma once

#include <cstdint>

#include "core/time.hpp"

namespace outbox::sim {

class Random {
public:
    explicit Random(std::uint64_t seed) : state_(seed) {}

    std::uint64_t next() {
        state_ += 0x9E3779B97F4A7C15U;
        std::uint64_t z = state_;
        z = (z ^ (z >> 30U)) * 0xBF58476D1CE4E5B9U;
        z = (z ^ (z >> 27U)) * 0x94D049BB133111EBU;
        return z ^ (z >> 31U);
    }

    std::uint64_t below(std::uint64_t bound) { return bound == 0 ? 0 : next() % bound; }
    bool percent(std::uint64_t chance) { return below(100) < chance; }
    template <class Number>
    Number between(Number low, Number high) {
        return low + static_cast<Number>(below(static_cast<std::uint64_t>(high - low) + 1));
    }
    Duration between(Duration low, Duration high) { return Duration(between(low.count(), high.count())); }
    // Mostly near `low`, now and then much later: as networks and disks are.
    Duration latency(Duration low, Duration high) {
        const Duration drawn = between(low, high);
        return percent(90) ? low + (drawn - low) / 10 : drawn;
    }
    Random fork() { return Random(next()); }

private:
    std::uint64_t state_;
};

}  // namespace outbox::sim
