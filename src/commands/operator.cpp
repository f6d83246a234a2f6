#include "commands/operator.hpp"

#include <pwd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <iostream>

#include "commands/terminal_text.hpp"
#include "config/values.hpp"

namespace outbox {

namespace {

namespace options = boost::program_options;

constexpr std::chrono::milliseconds poll_interval(100);
constexpr double confirmation_seconds = 10;
constexpr std::size_t reason_bytes_max = 1000;

}  // namespace

std::string actor() {
    const uid_t id = geteuid();
    const passwd* const user = getpwuid(id);
    std::array<char, 256> host{};
    if (gethostname(host.data(), host.size() - 1) != 0) host[0] = '?';
    // In a container the user may have no name.
    return (user != nullptr ? std::string(user->pw_name) : "uid " + std::to_string(id)) + "@" + host.data();
}

void add_reason(CommandLine& line, Reason reason) {
    auto* value = options::value<std::string>()->value_name("TEXT");
    line.options()("reason", reason == Reason::required ? value->required() : value,
                   "why, for the audit and for whoever looks at status");
}

Operator operator_of(const CommandLine& line) {
    Operator who{actor(), std::nullopt};
    if (!line.has("reason")) return who;
    who.reason = line["reason"].as<std::string>();
    if (who.reason->find_first_not_of(" \t\n") == std::string::npos) throw UsageError("--reason is empty");
    if (who.reason->size() > reason_bytes_max) throw UsageError("--reason is longer than 1000 bytes");
    return who;
}

void add_output(CommandLine& line) {
    line.options()("output", options::value<std::string>()->default_value("text"), "text or json");
}

bool wants_json(const CommandLine& line) {
    const std::string output = line["output"].as<std::string>();
    if (output != "text" && output != "json") throw UsageError("--output is text or json, not \"" + output + "\"");
    return output == "json";
}

std::string topic_name(const std::string& text) {
    if (!is_topic_pattern(text) || text.ends_with('*'))
        throw UsageError(printable(text) + " is no topic: letters, digits, '.', '_' and '-', at most 249 of them");
    return text;
}

void confirm(const std::string& question, bool yes) {
    if (yes) return;
    if (isatty(STDIN_FILENO) == 0) throw Refused("nobody is there to ask: repeat it with --yes");
    std::cerr << question << " [y/N] " << std::flush;
    std::string answer;
    std::getline(std::cin, answer);
    if (answer != "y" && answer != "Y" && answer != "yes") throw Refused("not confirmed, nothing was changed");
}

DatabaseClock::DatabaseClock(Client& client) : client_(client) {
    start_ = seconds();
}

double DatabaseClock::seconds() {
    return client_.execute("SELECT extract(epoch FROM pg_catalog.clock_timestamp())::float8").real(0, 0) - start_;
}

void DatabaseClock::wait(std::chrono::milliseconds time) {
    client_.execute("SELECT pg_catalog.pg_sleep($1::float8 / 1000)", {std::to_string(time.count())});
}

std::vector<RelayStatus> await_workers(Client& client, DatabaseClock& clock, double until_seconds,
                                       const WorkerDone& done) {
    for (;;) {
        const bool last = clock.seconds() >= until_seconds;
        std::vector<RelayStatus> workers = read_relays(client);
        if (last || std::all_of(workers.begin(), workers.end(), done)) return workers;
        clock.wait(poll_interval);
    }
}

ExitCode await_confirmation(Client& client, ControlRevision revision) {
    DatabaseClock clock(client);
    const auto confirmed = [&](const RelayStatus& worker) { return worker.control_revision >= revision; };
    const std::vector<RelayStatus> workers = await_workers(client, clock, confirmation_seconds, confirmed);
    if (workers.empty()) {
        std::cout << "no worker is running: it holds for those that start\n";
        return ExitCode::ok;
    }
    const auto count = static_cast<std::size_t>(std::count_if(workers.begin(), workers.end(), confirmed));
    std::cout << count << " of " << workers.size() << " workers confirmed in " << seconds_text(clock.seconds()) << '\n';
    if (count == workers.size()) return ExitCode::ok;
    print_workers(workers, revision);
    return ExitCode::problems_found;
}

void print_workers(const std::vector<RelayStatus>& workers, ControlRevision revision) {
    for (const RelayStatus& worker : workers)
        std::cout << "  " << terminal_text(worker.host) << " pid " << worker.pid << "  " << worker.in_flight_rows
                  << " rows in flight" << (worker.control_revision < revision ? "  has not confirmed yet" : "") << '\n';
}

std::string seconds_text(double seconds) {
    const auto tenths = static_cast<std::int64_t>(std::llround(std::max(seconds, 0.0) * 10));
    return std::to_string(tenths / 10) + "." + std::to_string(tenths % 10) + " s";
}

}  // namespace outbox
