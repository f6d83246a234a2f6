// Notices that somebody set the wall clock back. No decision of ours hangs on it, but whatever waits until a time of
// that clock then waits for as much longer: librdkafka's threads do (its issue 2145). A value; the worker's thread.
#pragma once

#include <chrono>
#include <optional>

#include "core/time.hpp"

namespace outbox {

class ClockWatch {
public:
    // By how much since the last look, if it was more than a clock that is merely slewed can lose meanwhile.
    std::optional<Duration> set_back(std::chrono::sys_time<std::chrono::milliseconds> wall, Instant boot) {
        const Duration ahead = wall.time_since_epoch() - boot.time_since_epoch();
        const Duration lost = ahead_.value_or(ahead) - ahead;
        ahead_ = ahead;
        return lost > tolerance ? std::optional(lost) : std::nullopt;
    }

private:
    static constexpr Duration tolerance = std::chrono::milliseconds(200);

    std::optional<Duration> ahead_;  // of the boot clock
};

}  // namespace outbox
