// How many rows may be in flight, as the broker's answers suggest: additive increase, multiplicative decrease (AIMD).
// It is halved, at most once per round trip, when an acknowledgement took far longer than is usual for this broker,
// when the broker throttles, or on an error; it grows by a step per window's worth of acknowledgements. Keeping more in
// flight than that adds waiting and no throughput (Little's law), and it is what a struggling broker needs least.
// "Usual" is a slow average, so a broker that is always slow is taken as it is; latencies below half a second are
// always fine: a full pipe has some.
// Pure. Owned by Pacing; the worker's thread.
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/time.hpp"

namespace outbox {

class CongestionWindow {
public:
    CongestionWindow(std::uint32_t rows_max, std::uint32_t step)
        : rows_max_(rows_max), rows_min_(std::min(rows_max, std::max(step, 1U))), limit_(rows_max) {}

    std::uint32_t limit() const { return static_cast<std::uint32_t>(limit_); }

    // `rows` were acknowledged; the oldest of them had been in flight for `latency`.
    void acknowledged(std::uint32_t rows, Duration latency, Instant now) {
        const double seconds = std::chrono::duration<double>(latency).count();
        const bool slow = latency > always_fine && seconds > slow_factor * usual_seconds_;
        if (acknowledged_at_ != Instant{}) {
            const double elapsed = std::chrono::duration<double>(now - acknowledged_at_).count();
            usual_seconds_ += (seconds - usual_seconds_) * std::min(1.0, elapsed / usual_over_seconds);
        }
        acknowledged_at_ = now;
        if (slow) return cut(latency, now);
        limit_ = std::min<double>(rows_max_, limit_ + static_cast<double>(rows_min_) * rows / limit_);
    }

    // Throttled, or an error.
    void setback(Instant now) { cut(always_fine, now); }

    Instant cut_at() const { return cut_at_; }

private:
    static constexpr Duration always_fine = std::chrono::milliseconds(500);
    static constexpr double slow_factor = 2;
    static constexpr double usual_over_seconds = 30;

    // What was in flight at the last cut still comes home slowly, and says nothing new.
    void cut(Duration round_trip, Instant now) {
        if (now < cut_at_ + round_trip) return;
        cut_at_ = now;
        limit_ = std::max<double>(rows_min_, limit_ / 2);
    }

    std::uint32_t rows_max_;
    std::uint32_t rows_min_;
    double limit_;
    double usual_seconds_ = 0;
    Instant acknowledged_at_{};
    Instant cut_at_{};
};

}  // namespace outbox
