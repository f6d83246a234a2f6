#include "sim/campaign.hpp"

#include <atomic>
#include <mutex>
#include <thread>
#include <vector>

#include "sim/world.hpp"

namespace outbox::sim {

CampaignResult run(const Campaign& campaign) {
    CampaignResult result;
    std::mutex mutex;  // of result
    std::atomic<std::uint64_t> next = 0;
    std::atomic<bool> stop = false;
    const auto until = campaign.for_at_most ? std::chrono::steady_clock::now() + *campaign.for_at_most
                                            : std::chrono::steady_clock::time_point::max();
    const auto work = [&] {
        Coverage coverage;
        while (!stop && std::chrono::steady_clock::now() < until) {
            const std::uint64_t place = next++;
            if (place >= campaign.count) break;
            const std::uint64_t seed = campaign.first + place;
            const Outcome outcome = World(scenario_of(seed), nullptr).run();
            coverage.add(outcome.coverage);
            if (outcome.ok()) continue;
            stop = true;
            const std::lock_guard lock(mutex);
            if (result.failing_seed && *result.failing_seed < seed) continue;
            result.failing_seed = seed;
            result.violation = outcome.violations.front();
        }
        const std::lock_guard lock(mutex);
        result.coverage.add(coverage);
    };
    std::vector<std::jthread> others;
    for (unsigned i = 1; i < campaign.threads; ++i) others.emplace_back(work);
    work();
    others.clear();  // joins them
    return result;
}

}  // namespace outbox::sim
