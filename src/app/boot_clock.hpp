// The one reader of time: CLOCK_BOOTTIME, which goes on during suspend, as the leases in the database do. Any thread.
#pragma once

#include <chrono>
#include <ctime>

#include "core/time.hpp"

namespace outbox {

inline Instant boot_now() {
    timespec now{};
    clock_gettime(CLOCK_BOOTTIME, &now);
    return Instant(std::chrono::seconds(now.tv_sec) + std::chrono::nanoseconds(now.tv_nsec));
}

// Wall time, for people, for Prometheus, for records' timestamps, and to notice that it was set back: it decides
// nothing.
inline double unix_now() {
    timespec now{};
    clock_gettime(CLOCK_REALTIME, &now);
    return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

inline std::chrono::sys_time<std::chrono::milliseconds> wall_now() {
    return std::chrono::floor<std::chrono::milliseconds>(std::chrono::system_clock::now());
}

}  // namespace outbox
