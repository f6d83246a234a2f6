// simulate: runs seeds through the simulator. A violation ends it with the seed, the command that replays it, and a
// trace of the smallest scenario that still breaks the same promise. Exit codes: 0 none was found, 1 one was, 2 usage.
#include <boost/program_options.hpp>
#include <chrono>
#include <cstdlib>
#include <exception>
#include <iomanip>
#include <iostream>
#include <string>

#include "sim/campaign.hpp"
#include "sim/shrink.hpp"
#include "sim/world.hpp"

namespace {

using namespace outbox::sim;
namespace po = boost::program_options;

int replay(std::uint64_t seed, bool traced) {
    const Outcome outcome = World(scenario_of(seed), traced ? &std::cout : nullptr).run();
    for (const std::string& violation : outcome.violations) std::cout << "violation: " << violation << "\n";
    std::cout << "seed " << seed << (outcome.ok() ? ": no violation\n" : ": FAILED\n");
    return outcome.ok() ? EXIT_SUCCESS : EXIT_FAILURE;
}

void describe(const Scenario& scenario) {
    std::size_t rows = 0;
    for (const Transaction& one : scenario.transactions) rows += one.rows.size();
    std::cout << scenario.replicas << " processes of " << scenario.options.relay.workers << " workers, "
              << scenario.topics.size() << " topics, " << scenario.brokers << " brokers, "
              << scenario.transactions.size() << " transactions with " << rows << " rows, faults:";
    for (const Fault& fault : scenario.faults) std::cout << " " << name_of(fault.kind);
    std::cout << (scenario.faults.empty() ? " none\n" : "\n");
}

int show_shrunk(std::uint64_t seed) {
    const Scenario whole = scenario_of(seed);
    if (World(whole, nullptr).run().ok()) {
        std::cout << "seed " << seed << ": no violation, nothing to shrink\n";
        return EXIT_SUCCESS;
    }
    const Shrunk shrunk = shrink(whole);
    std::cout << "seed " << seed << ", shrunk in " << shrunk.runs << " runs: ";
    describe(shrunk.scenario);
    const Outcome outcome = World(shrunk.scenario, &std::cout).run();
    for (const std::string& violation : outcome.violations) std::cout << "violation: " << violation << "\n";
    return EXIT_FAILURE;
}

void report(const Coverage& all, double seconds) {
    const auto line = [](const char* what, std::uint64_t count) {
        std::cout << "  " << std::left << std::setw(22) << what << std::right << std::setw(12) << count << "\n";
    };
    std::cout << std::fixed << std::setprecision(0) << static_cast<double>(all.seeds) / seconds << " seeds/s, "
              << static_cast<double>(all.virtual_seconds) / seconds << " simulated seconds per second\n";
    line("seeds", all.seeds);
    line("seeds that claim", all.claiming);
    line("simulated seconds", all.virtual_seconds);
    line("events committed", all.committed);
    line("rolled back", all.rolled_back);
    line("lost by failovers", all.lost_by_failover);
    line("delivered", all.delivered);
    line("duplicates, excused", all.duplicates);
    line("overtaken, excused", all.overtaken);
    line("dead letters", all.buried);
    line("requeued", all.requeued);
    line("keys blocked", all.blocked);
    line("lanes moved", all.lane_moves);
    line("processes", all.processes);
    line("sessions", all.sessions);
    line("producers", all.producers);
    line("turns of workers", all.turns);
    line("seeds without excuse", all.unexcused);
    std::cout << "faults:\n";
    for (std::size_t kind = 0; kind < fault_kinds; ++kind)
        line(std::string(name_of(static_cast<FaultKind>(kind))).c_str(), all.faults[kind]);
}

int campaign(const Campaign& wanted, bool shrinks) {
    std::cout << "seeds from " << wanted.first << std::endl;
    const auto began = std::chrono::steady_clock::now();
    const CampaignResult result = run(wanted);
    report(result.coverage, std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count());
    if (!result.failing_seed) return EXIT_SUCCESS;
    std::cout << "seed " << *result.failing_seed << " FAILED after " << result.coverage.seeds
              << " seeds: " << result.violation << "\nreplay it: simulate --seed " << *result.failing_seed
              << " --trace\n";
    if (shrinks) show_shrunk(*result.failing_seed);
    return EXIT_FAILURE;
}

int run_command(int argc, char** argv) {
    Campaign wanted;
    double hours = 0;
    std::uint64_t seed = 0;
    po::options_description options("simulate: the relay's core in a simulated world, seed by seed");
    options.add_options()("help", "this text")("from", po::value(&wanted.first)->default_value(1), "the first seed")(
        "count", po::value(&wanted.count)->default_value(1000), "how many seeds")(
        "threads", po::value(&wanted.threads)->default_value(1), "how many at a time")(
        "hours", po::value(&hours), "as many seeds as fit into so many hours")(
        "no-shrink", "do not make a failing scenario small")("seed", po::value(&seed), "replay this one seed")(
        "trace", "with --seed: tell what happens")("shrink", "with --seed: make it small, and tell what happens");
    po::variables_map given;
    po::store(po::parse_command_line(argc, argv, options), given);
    po::notify(given);
    if (given.contains("help")) {
        std::cout << options;
        return EXIT_SUCCESS;
    }
    if (given.contains("seed"))
        return given.contains("shrink") ? show_shrunk(seed) : replay(seed, given.contains("trace"));
    if (given.contains("hours")) {
        wanted.count = UINT64_MAX;
        wanted.for_at_most =
            std::chrono::duration_cast<std::chrono::seconds>(std::chrono::duration<double, std::ratio<3600>>(hours));
    }
    return campaign(wanted, !given.contains("no-shrink"));
}

}  // namespace

int main(int argc, char** argv) {
    try {
        return run_command(argc, argv);
    } catch (const std::exception& error) {
        std::cerr << "simulate: " << error.what() << "\n";
        return 2;
    }
}
