#include "sim/shrink.hpp"

#include <algorithm>
#include <string>
#include <utility>

#include "sim/world.hpp"

namespace outbox::sim {

namespace {

using namespace std::chrono_literals;

constexpr std::size_t runs_max = 4000;

class Shrinker {
public:
    explicit Shrinker(Scenario failing) : best_(std::move(failing)), promise_(promise_broken_by(best_)) {}

    Shrunk run() {
        for (std::size_t before = 0; before != size() && runs_ < runs_max;) {
            before = size();
            remove_kinds();
            remove_parts(&Scenario::faults);
            remove_parts(&Scenario::transactions);
            remove_parts(&Scenario::readers);
            for (std::size_t i = 0; i < best_.transactions.size(); ++i) remove_rows(i);
            simplify();
        }
        return {best_, runs_};
    }

private:
    // The violation's text up to where it speaks of a certain row.
    static std::string promise_broken_by(const Scenario& scenario) {
        const Outcome outcome = World(scenario, nullptr).run();
        if (outcome.ok()) return {};
        const std::string& first = outcome.violations.front();
        return first.substr(0, first.find(':'));
    }

    std::size_t size() const {
        std::size_t size = best_.faults.size() + best_.transactions.size() + best_.readers.size() + best_.replicas;
        for (const Transaction& one : best_.transactions) size += one.rows.size();
        return size;
    }

    bool keep_if_failing(Scenario candidate) {
        if (runs_ >= runs_max) return false;
        ++runs_;
        if (promise_broken_by(candidate) != promise_) return false;
        best_ = std::move(candidate);
        return true;
    }

    void remove_kinds() {
        for (std::size_t kind = 0; kind < fault_kinds; ++kind) {
            Scenario candidate = best_;
            if (std::erase_if(candidate.faults,
                              [&](const Fault& fault) { return fault.kind == static_cast<FaultKind>(kind); }) > 0)
                keep_if_failing(std::move(candidate));
        }
    }

    // Halves first, then ever smaller pieces.
    template <class Part>
    void remove_parts(std::vector<Part> Scenario::*parts) {
        for (std::size_t length = std::max<std::size_t>((best_.*parts).size() / 2, 1); length > 0; length /= 2)
            for (std::size_t from = 0; from < (best_.*parts).size();) {
                Scenario candidate = best_;
                auto& left = candidate.*parts;
                const auto first = left.begin() + static_cast<std::ptrdiff_t>(from);
                left.erase(first, first + static_cast<std::ptrdiff_t>(std::min(length, left.size() - from)));
                if (!keep_if_failing(std::move(candidate))) from += length;
            }
    }

    void remove_rows(std::size_t transaction) {
        for (std::size_t row = 0; row < best_.transactions[transaction].rows.size();) {
            Scenario candidate = best_;
            auto& rows = candidate.transactions[transaction].rows;
            if (rows.size() == 1) return;
            rows.erase(rows.begin() + static_cast<std::ptrdiff_t>(row));
            if (!keep_if_failing(std::move(candidate))) ++row;
        }
    }

    void simplify() {
        const auto attempt = [this](auto change) {
            Scenario candidate = best_;
            change(candidate);
            keep_if_failing(std::move(candidate));
        };
        if (best_.replicas > 1) attempt([](Scenario& one) { --one.replicas; });
        if (best_.options.relay.workers > 1) attempt([](Scenario& one) { one.options.relay.workers = 1; });
        if (best_.brokers > 1) attempt([](Scenario& one) { one.brokers = 1; });
        if (best_.drift_ppm > 0) attempt([](Scenario& one) { one.drift_ppm = 0; });
        Duration last{};
        for (const Fault& fault : best_.faults) last = std::max(last, fault.at + fault.lasts);
        for (const Transaction& one : best_.transactions) last = std::max(last, one.at + one.lasts);
        if (last + 200ms < best_.calm_at) attempt([&](Scenario& one) { one.calm_at = last + 100ms; });
    }

    Scenario best_;
    const std::string promise_;
    std::size_t runs_ = 0;
};

}  // namespace

Shrunk shrink(const Scenario& failing) {
    return Shrinker(failing).run();
}

}  // namespace outbox::sim
