// The parts a read is chosen from: one lane, current, and everything up to an id settled. Test threads only.
#pragma once

#include <optional>

#include "core/reading.hpp"

namespace outbox::testing {

struct ReadingDesk {
    static constexpr Instant start{std::chrono::seconds(10)};

    RelaySettings settings;
    Lanes lanes{std::chrono::seconds(3)};
    Topics topics{{"*"}, 1};
    Window window{20'000, std::uint64_t{32} << 20U};
    LowMark mark;
    Pacing pacing{settings, {}};
    CrashGuard guard{20'000};
    Control control;
    Reading reading{settings};

    explicit ReadingDesk(RowId settled) {
        lanes.acquired(start, LaneSet::only(1));
        lanes.settled(1);
        lanes.caught_up(LaneSet::only(1));
        mark.probe_answered(settled, {}, start);
        reading.restart(start);
    }
    std::optional<ReadRows> next(Instant now = start) {
        return reading.next({lanes, topics, window, mark, pacing, guard, control}, now);
    }
};

}  // namespace outbox::testing
