// World's processes: they start, are killed, are asked to end.
#include <algorithm>

#include "sim/world.hpp"

namespace outbox::sim {

using namespace std::chrono_literals;

bool World::Process::running() const {
    return !killed && std::any_of(workers.begin(), workers.end(), [](const auto& worker) { return worker->running(); });
}

void World::start_process() {
    auto process = std::make_unique<Process>();
    Process& one = *process;
    const auto pid = static_cast<std::int32_t>(processes_.size()) + 1;
    one.host.offset = random_.between(Duration(0s), Duration(100s));
    const auto drift = static_cast<std::int64_t>(scenario_.drift_ppm);
    one.host.drift_ppm = random_.between<std::int64_t>(0, 2 * drift) - drift;
    for (std::uint32_t i = 0; i < scenario_.options.relay.workers; ++i) {
        WorkerName name;
        const std::uint64_t drawn = random_.next();
        for (std::size_t byte = 0; byte < 8; ++byte) name.id[byte] = static_cast<std::uint8_t>(drawn >> (8 * byte));
        name.host = pid % 3;
        name.pid = pid;
        name.lease_ttl = scenario_.options.relay.lease_ttl;
        const RelayLimits limits{scenario_.message_bytes_max, random_.next()};
        one.workers.push_back(std::make_shared<Worker>(surroundings_, one.host, name, scenario_.options, limits,
                                                       random_.fork(), [this, &one] {
                                                           for (const auto& worker : one.workers) worker->drain();
                                                       }));
    }
    processes_.push_back(std::move(process));
    trace("process " + std::to_string(pid) + " starts");
    for (const auto& worker : one.workers) worker->start();
}

void World::kill(Process& process, Duration restart_after, bool restart) {
    process.killed = true;
    for (const auto& worker : process.workers)
        if (worker->running()) worker->die(random_.percent(30) ? Duration(8s) : Duration::zero());
    if (restart) start_again_in(restart_after);
}

void World::terminate(Process& process, bool twice, bool restart) {
    process.stopping = true;
    for (const auto& worker : process.workers) worker->drain();
    if (twice)
        schedule_.in(random_.between(Duration(1ms), Duration(300ms)), [&process] {
            for (const auto& worker : process.workers) worker->hurry();
        });
    if (restart) start_again_in(random_.between(Duration(10ms), Duration(1s)));
}

// The fleet does not change any more once there is calm.
void World::start_again_in(Duration delay) {
    schedule_.in(delay, [this] {
        if (!calm_) start_process();
    });
}

// Every process in turn is replaced by another one.
void World::roll() {
    Duration wait{};
    for (std::size_t i = 0; i < processes_.size(); ++i) {
        if (!processes_[i]->running() || processes_[i]->stopping) continue;
        schedule_.in(wait, [this, i] {
            if (calm_ || !processes_[i]->running() || processes_[i]->stopping) return;
            trace("process " + std::to_string(i + 1) + " is replaced");
            terminate(*processes_[i], false, true);
        });
        wait += random_.between(Duration(100ms), Duration(2s));
    }
}

World::Process* World::pick_running(std::uint64_t pick) {
    std::vector<Process*> candidates;
    for (const auto& process : processes_)
        if (process->running()) candidates.push_back(process.get());
    return candidates.empty() ? nullptr : candidates[pick % candidates.size()];
}

std::vector<Worker*> World::living() const {
    std::vector<Worker*> living;
    for (const auto& process : processes_)
        for (const auto& worker : process->workers)
            if (!process->killed && worker->running()) living.push_back(worker.get());
    return living;
}

Worker* World::pick_worker(std::uint64_t pick) {
    const std::vector<Worker*> candidates = living();
    return candidates.empty() ? nullptr : candidates[pick % candidates.size()];
}

std::size_t World::running() const {
    return static_cast<std::size_t>(std::count_if(processes_.begin(), processes_.end(), [](const auto& process) {
        return process->running() && !process->stopping;
    }));
}

}  // namespace outbox::sim
