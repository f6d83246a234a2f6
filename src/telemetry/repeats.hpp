// Keeps an event that repeats itself from filling the log: the first few of a minute are printed, the others counted.
// Pure, time is handed in. One thread: whoever logs keeps one of its own.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "core/time.hpp"

namespace outbox {

class Repeats {
public:
    static constexpr Duration window = std::chrono::minutes(1);

    explicit Repeats(std::uint32_t printed_per_minute = 5) : printed_max_(printed_per_minute) {}

    struct Answer {
        bool print = true;
        std::uint64_t suppressed = 0;  // of this event, since it was last printed
    };
    Answer seen(std::string_view event, Instant now);

    struct Suppressed {
        std::string event;
        std::uint64_t count = 0;
    };
    // What was suppressed in minutes that are over, told once: for events that do not come again.
    std::vector<Suppressed> ended(Instant now);

private:
    struct Minute {
        Instant began;
        std::uint32_t printed = 0;
        std::uint64_t suppressed = 0;
    };
    std::uint32_t printed_max_;
    std::map<std::string, Minute, std::less<>> minutes_;  // as many as there are event names in the code
};

}  // namespace outbox
