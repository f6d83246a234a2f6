#include <iostream>
#include <string>

#include "sim/world.hpp"

int main(int argc, char** argv) {
    using namespace outbox::sim;
    std::uint64_t from = argc > 1 ? std::stoull(argv[1]) : 1;
    std::uint64_t count = argc > 2 ? std::stoull(argv[2]) : 1;
    const bool trace = argc > 3;
    int bad = 0;
    Coverage all;
    for (std::uint64_t seed = from; seed < from + count; ++seed) {
        World world(scenario_of(seed), trace ? &std::cout : nullptr);
        const Outcome outcome = world.run();
        all.add(outcome.coverage);
        if (!outcome.ok()) {
            ++bad;
            std::cout << seed << ": " << outcome.violations.front() << "\n";
        }
    }
    std::cout << "bad " << bad << " steps " << all.steps << " turns " << all.turns << " vsec " << all.virtual_seconds
              << " committed " << all.committed << " delivered " << all.delivered << " dup " << all.duplicates
              << " buried " << all.buried << " blocked " << all.blocked << "\n";
}
