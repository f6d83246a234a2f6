// Time as the core sees it: a value that is handed in, never read here. Pure; any thread.
// The one reader of time is app/boot_clock.hpp. The clock is a type of its own, so that neither wall time nor
// std::chrono::steady_clock (which stands still during suspend, and lease trust must not) fits by accident.
#pragma once

#include <chrono>

namespace outbox {

struct BootTime {
    using duration = std::chrono::nanoseconds;
    using rep = duration::rep;
    using period = duration::period;
    using time_point = std::chrono::time_point<BootTime>;
    static constexpr bool is_steady = true;
};

using Instant = BootTime::time_point;
using Duration = BootTime::duration;

inline constexpr Instant never = Instant::max();

}  // namespace outbox
