// The operator's ceiling on a rate: tokens accrue with monotonic time, up to a burst. A rate of 0 means no ceiling.
// A debt is allowed: bytes are known only after rows were read, so the next read waits until the debt is paid.
// Pure. Owned by Relay; the worker's thread.
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/time.hpp"

namespace outbox {

class TokenBucket {
public:
    TokenBucket(std::uint64_t per_second, std::uint64_t burst)
        : rate_(static_cast<double>(per_second)), burst_(static_cast<double>(burst)), tokens_(burst_) {}

    // What was saved up stays, up to the new burst; so does a debt.
    void set_rate(std::uint64_t per_second, std::uint64_t burst, Instant now) {
        refill(now);
        rate_ = static_cast<double>(per_second);
        burst_ = static_cast<double>(burst);
        tokens_ = std::min(tokens_, burst_);
    }

    std::uint64_t burst() const { return static_cast<std::uint64_t>(burst_); }
    bool unlimited() const { return rate_ == 0; }

    // Whole tokens at hand.
    std::uint64_t available(Instant now) {
        if (unlimited()) return UINT64_MAX;
        refill(now);
        return tokens_ < 1 ? 0 : static_cast<std::uint64_t>(tokens_);
    }

    void take(std::uint64_t amount) {
        if (!unlimited()) tokens_ -= static_cast<double>(amount);
    }

    // When `amount` tokens (at most a burst) will be at hand.
    Instant when(std::uint64_t amount, Instant now) {
        if (unlimited()) return now;
        refill(now);
        const double missing = std::min(static_cast<double>(amount), burst_) - tokens_;
        if (missing <= 0) return now;
        return now + Duration(static_cast<Duration::rep>(missing / rate_ * 1e9) + 1);
    }

private:
    void refill(Instant now) {
        if (now > refilled_at_) {
            const double seconds = std::chrono::duration<double>(now - refilled_at_).count();
            tokens_ = std::min(burst_, tokens_ + seconds * rate_);
        }
        refilled_at_ = now;
    }

    double rate_;
    double burst_;
    double tokens_;
    Instant refilled_at_{};
};

}  // namespace outbox
