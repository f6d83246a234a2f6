// Many seeds, one after the other and on several threads, each in a world of its own. Any thread.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "core/time.hpp"
#include "sim/coverage.hpp"

namespace outbox::sim {

struct Campaign {
    std::uint64_t first = 1;
    std::uint64_t count = 1000;
    unsigned threads = 1;
    std::optional<std::chrono::seconds> for_at_most{};
};

struct CampaignResult {
    Coverage coverage;
    std::optional<std::uint64_t> failing_seed;  // the lowest that was found
    std::string violation;
};

// Ends at the first violation.
CampaignResult run(const Campaign& campaign);

}  // namespace outbox::sim
