// `verify`: proof on a running system that nothing is lost, invented, repeated or out of order, and how long it takes.
#include <algorithm>
#include <array>
#include <cmath>
#include <iostream>
#include <nlohmann/json.hpp>

#include "app/verifier.hpp"
#include "commands/command.hpp"
#include "commands/database.hpp"
#include "commands/operator.hpp"
#include "config/values.hpp"
#include "kafka/reachability.hpp"

namespace outbox {

namespace {

namespace options = boost::program_options;

struct Percentile {
    const char* name;
    double share;
};
constexpr std::array<Percentile, 4> percentiles{{{"p50", 0.5}, {"p90", 0.9}, {"p99", 0.99}, {"p99.9", 0.999}}};

struct Outcome {
    LoadSettings settings;
    VerifierResult result;
    bool no_duplicates = false;
    bool ordered = true;  // not where rows are claimed

    bool violated() const {
        const Verdict& verdict = result.verdict;
        return verdict.lost.events > 0 || verdict.phantom.events > 0 || (ordered && verdict.reordered.events > 0) ||
               (no_duplicates && verdict.duplicated.events > 0);
    }
};

void add_options(CommandLine& line) {
    const auto text = [](const char* standard) { return options::value<std::string>()->default_value(standard); };
    line.options()("topic", options::value<std::string>(),
                   "write to this topic and read it back; best one of its own, as consumers of it get the events too")(
        "against", options::value<std::string>()->value_name("TOPIC"), "the same as --topic")(
        "rate", text("1000"), "events per second of all writers together; 0 is as fast as it goes")(
        "size", text("200B"), "bytes of a payload")("keys", text("100"), "how many keys")(
        "concurrency", text("4"), "writers, each with a connection and keys of its own")(
        "rollback", text("10")->value_name("PERCENT"), "transactions that roll back: none of their events may be seen")(
        "duration", text("10s"), "how long to write")(
        "timeout", text("30s"), "what has not come is lost when nothing has come for so long after the last commit")(
        "no-duplicates", options::bool_switch(), "a duplicate is a violation: for times without a crash");
    add_output(line);
}

std::uint64_t count_of(const CommandLine& line, const std::string& option, std::uint64_t min, std::uint64_t max) {
    const auto count = parse_count(line[option].as<std::string>());
    if (!count || *count < min || *count > max)
        throw UsageError("--" + option + " is a number from " + std::to_string(min) + " to " + std::to_string(max));
    return *count;
}

Duration duration_of(const CommandLine& line, const std::string& option) {
    const auto duration = parse_duration(line[option].as<std::string>());
    if (!duration || *duration < std::chrono::seconds(1) || *duration > std::chrono::hours(24))
        throw UsageError("--" + option + R"( is a duration such as "10s" or "5m", from 1s to 24h)");
    return *duration;
}

LoadSettings settings_of(const CommandLine& line) {
    if (line.has("topic") == line.has("against"))
        throw UsageError("verify wants a topic to write to and to read: --topic or --against");
    LoadSettings settings;
    settings.topic = topic_name(line[line.has("topic") ? "topic" : "against"].as<std::string>());
    settings.events_per_second = count_of(line, "rate", 0, 1'000'000);
    const auto size = parse_size(line["size"].as<std::string>());
    if (!size || *size > std::uint64_t{1} << 20U)
        throw UsageError("--size is a size such as 200B or 4KiB, at most 1MiB");
    settings.payload_bytes = *size;
    settings.keys = static_cast<std::uint32_t>(count_of(line, "keys", 1, marked_keys_max));
    std::uint64_t writers = std::min<std::uint64_t>(count_of(line, "concurrency", 1, 100), settings.keys);
    if (settings.events_per_second > 0) writers = std::min(writers, settings.events_per_second);
    settings.writers = static_cast<std::uint32_t>(writers);
    settings.rollback_percent = static_cast<std::uint32_t>(count_of(line, "rollback", 0, 99));
    settings.duration = duration_of(line, "duration");
    return settings;
}

double per_second(const VerifierResult& result) {
    const Verdict& verdict = result.verdict;
    return result.written_seconds > 0 ? static_cast<double>(verdict.committed) / result.written_seconds : 0;
}

nlohmann::json json_of(const Tally& tally, const std::string& run) {
    nlohmann::json first = nlohmann::json::array();
    for (const MarkedEvent& event : tally.first)
        first.push_back({{"key", marked_key(run, event.key)}, {"sequence", event.sequence}});
    return {{"events", tally.events}, {"first", first}};
}

nlohmann::json json_of(const Outcome& outcome) {
    const Verdict& verdict = outcome.result.verdict;
    const std::string& run = outcome.settings.run;
    nlohmann::json latency{{"events", verdict.latency.count()}};
    for (const auto& [name, share] : percentiles) latency[name] = verdict.latency.percentile_ms(share);
    latency["max"] = verdict.latency.max_ms();
    return {{"topic", outcome.settings.topic},
            {"run", run},
            {"ok", !outcome.violated()},
            {"written_seconds", outcome.result.written_seconds},
            {"committed", verdict.committed},
            {"committed_per_second", per_second(outcome.result)},
            {"rolled_back", verdict.rolled_back},
            {"in_doubt", verdict.in_doubt},
            {"delivered", verdict.delivered},
            {"lost", json_of(verdict.lost, run)},
            {"phantom", json_of(verdict.phantom, run)},
            {"phantom_altered", verdict.altered},
            {"reordered", json_of(verdict.reordered, run)},
            {"duplicated", json_of(verdict.duplicated, run)},
            {"latency_ms", latency}};
}

std::string milliseconds_text(double milliseconds) {
    const auto tenths = std::llround(milliseconds * 10);
    return std::to_string(tenths / 10) + "." + std::to_string(tenths % 10) + " ms";
}

void print_tally(std::string name, const Tally& tally, const std::string& run) {
    name.resize(12, ' ');
    for (const MarkedEvent& event : tally.first)
        std::cout << name << marked_key(run, event.key) << " #" << event.sequence << '\n';
    if (tally.events > tally.first.size() && !tally.first.empty()) std::cout << name << "and more\n";
}

void print_text(const Outcome& outcome) {
    const Verdict& verdict = outcome.result.verdict;
    std::cout << "topic       " << outcome.settings.topic << ", run " << outcome.settings.run << "\nwritten     "
              << verdict.committed << " events committed in " << seconds_text(outcome.result.written_seconds) << " ("
              << std::llround(per_second(outcome.result)) << "/s), " << verdict.rolled_back << " rolled back";
    if (verdict.in_doubt > 0) std::cout << ", " << verdict.in_doubt << " in doubt: the answer to COMMIT was lost";
    std::cout << "\nseen        " << verdict.delivered << ": " << verdict.lost.events << " lost, "
              << verdict.phantom.events << " phantom, " << verdict.reordered.events << " reordered, "
              << verdict.duplicated.events << " duplicated\n";
    if (verdict.latency.count() > 0) {
        std::cout << "latency     ";
        for (const auto& [name, share] : percentiles)
            std::cout << name << ' ' << milliseconds_text(verdict.latency.percentile_ms(share)) << "  ";
        std::cout << "max " << milliseconds_text(verdict.latency.max_ms()) << "  (COMMIT to consumer)\n";
    }
    if (verdict.delivered == 0)
        std::cout << "nothing came: is a relay running, and is the topic allowed and not paused?\n";
    print_tally("lost", verdict.lost, outcome.settings.run);
    print_tally("phantom", verdict.phantom, outcome.settings.run);
    if (verdict.altered > 0)
        std::cout << "phantom     " << verdict.altered << " records are not as any of this run was written\n";
    print_tally("reordered", verdict.reordered, outcome.settings.run);
    print_tally("duplicated", verdict.duplicated, outcome.settings.run);
    std::cout << (outcome.violated() ? "violated\n" : "kept\n");
}

}  // namespace

ExitCode verify(const Invocation& invocation) {
    CommandLine line(
        "verify", "--topic TOPIC [options]",
        "Write marked events through ordinary transactions, some of them rolled back, read the topic and "
        "report what was\nlost, invented (phantom), repeated or out of order, and how long events take. It "
        "starts no relay: the one that\nserves this database has to be running.",
        "outbox-relay verify --topic outbox-verify --rate 2000 --duration 1m");
    add_options(line);
    if (!line.parse(invocation)) return ExitCode::ok;
    Outcome outcome;
    outcome.settings = settings_of(line);
    outcome.no_duplicates = line["no-duplicates"].as<bool>();
    const auto patience = std::chrono::duration_cast<std::chrono::milliseconds>(duration_of(line, "timeout"));
    const bool as_json = wants_json(line);
    const Config config = line.config(Needs::postgres_and_kafka);
    outcome.ordered = config.relay().claim == ClaimMode::lanes;
    outcome.settings.run = draw_run_id();

    const ExitCode code = with_database(config.postgres(), Role::app, [&](Client&) {
        try {
            outcome.result = verify_delivery(config.postgres(), config.kafka(), outcome.settings, patience);
        } catch (const KafkaUnreachable& error) {
            throw Unreachable(error.what());
        }
        return outcome.violated() ? ExitCode::problems_found : ExitCode::ok;
    });
    if (as_json)
        std::cout << json_of(outcome).dump(2) << '\n';
    else
        print_text(outcome);
    return code;
}

}  // namespace outbox
