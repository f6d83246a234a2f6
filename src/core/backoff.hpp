// How long to wait before trying again: doubling, capped, with the upper half jittered so that replicas spread out.
// Pure: `jitter`, in [0, 1), is the caller's. Any thread.
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/time.hpp"

namespace outbox {

struct Backoff {
    Duration initial;
    Duration ceiling;

    Duration delay(std::uint32_t failures, double jitter) const {
        const std::uint32_t doublings = failures == 0 ? 0 : std::min(failures - 1, 20U);
        const Duration full = std::min(ceiling, initial * (std::int64_t{1} << doublings));
        return Duration(static_cast<Duration::rep>(static_cast<double>(full.count()) * (0.5 + jitter / 2)));
    }
};

// Deterministic jitter for the core, which draws no random numbers: a sequence that follows from its seed (splitmix64).
class Jitter {
public:
    explicit Jitter(std::uint64_t seed) : state_(seed) {}

    double next() {
        state_ += 0x9E3779B97F4A7C15U;
        std::uint64_t z = state_;
        z = (z ^ (z >> 30U)) * 0xBF58476D1CE4E5B9U;
        z = (z ^ (z >> 27U)) * 0x94D049BB133111EBU;
        return static_cast<double>((z ^ (z >> 31U)) >> 11U) * 0x1.0p-53;
    }

private:
    std::uint64_t state_;
};

}  // namespace outbox
