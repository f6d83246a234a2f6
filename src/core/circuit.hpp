// A circuit breaker: after a failure nothing is tried (open) until a jittered backoff is over, then a little is
// (half-open); a success closes it, another failure opens it for longer.
// A value; pure. Owned by Topics (one per topic) and Cluster; the worker's thread.
#pragma once

#include <cstdint>
#include <string_view>

#include "core/backoff.hpp"
#include "core/time.hpp"

namespace outbox {

class Circuit {
public:
    enum class State : std::uint8_t { closed, half_open, open };

    State state() const { return state_; }
    bool closed() const { return state_ == State::closed; }
    Instant retry_at() const { return retry_at_; }
    std::uint32_t failures() const { return failures_; }  // in a row
    std::string_view reason() const { return reason_; }   // of the last failure; static storage

    // Whatever fails while it is open belongs to the failure that opened it, and does not count again.
    void trip(std::string_view reason, Instant now, const Backoff& backoff, double jitter) {
        if (state_ != State::open) ++failures_;
        state_ = State::open;
        reason_ = reason;
        retry_at_ = now + backoff.delay(failures_, jitter);
    }

    void try_again() { state_ = State::half_open; }

    void close() {
        state_ = State::closed;
        failures_ = 0;
    }

private:
    State state_ = State::closed;
    std::uint32_t failures_ = 0;
    Instant retry_at_{};
    std::string_view reason_;
};

}  // namespace outbox
