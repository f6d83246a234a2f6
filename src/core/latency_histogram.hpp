// Latencies counted in buckets that are each less than 1 % wide, so that any number of them takes the same memory.
// Pure; one thread.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/time.hpp"

namespace outbox {

class LatencyHistogram {
public:
    void add(Duration latency) {
        const auto us = static_cast<std::uint64_t>(
            std::max<Duration::rep>(std::chrono::duration_cast<std::chrono::microseconds>(latency).count(), 0));
        ++counts_[bucket_of(us)];
        ++count_;
        max_us_ = std::max(max_us_, us);
    }

    std::uint64_t count() const { return count_; }
    double max_ms() const { return static_cast<double>(max_us_) / 1000; }

    // The smallest latency that `share` of all (0.99, say) do not exceed; 0 when there is none.
    double percentile_ms(double share) const {
        const auto rank = static_cast<std::uint64_t>(std::ceil(share * static_cast<double>(count_)));
        std::uint64_t below = 0;
        for (std::size_t bucket = 0; bucket < counts_.size(); ++bucket) {
            below += counts_[bucket];
            if (below >= rank && below > 0) return static_cast<double>(std::min(upper_end(bucket), max_us_)) / 1000;
        }
        return max_ms();
    }

private:
    // Up to 255 µs each has a bucket of its own; from there on every doubling has 128.
    static constexpr unsigned exact_bits = 8;
    static constexpr std::size_t per_doubling = std::size_t{1} << (exact_bits - 1U);
    static constexpr std::size_t buckets = (64 - exact_bits + 2) * per_doubling;

    static std::size_t bucket_of(std::uint64_t us) {
        const auto width = static_cast<unsigned>(std::bit_width(us));
        if (width <= exact_bits) return us;
        const unsigned shift = width - exact_bits;
        return shift * per_doubling + (us >> shift);
    }
    static std::uint64_t upper_end(std::size_t bucket) {
        if (bucket < 2 * per_doubling) return bucket;
        const std::size_t shift = bucket / per_doubling - 1;
        return ((static_cast<std::uint64_t>(bucket - shift * per_doubling) + 1) << shift) - 1;
    }

    std::vector<std::uint64_t> counts_ = std::vector<std::uint64_t>(buckets);
    std::uint64_t count_ = 0;
    std::uint64_t max_us_ = 0;
};

}  // namespace outbox
