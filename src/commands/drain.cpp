// `drain`: brings every relay of the database to rest, before a migration or a move, and says when it is so.
#include <algorithm>
#include <iostream>

#include "commands/command.hpp"
#include "commands/database.hpp"
#include "commands/operator.hpp"
#include "config/values.hpp"
#include "postgres/migrations.hpp"

namespace outbox {

namespace {

namespace options = boost::program_options;

constexpr std::chrono::milliseconds backlog_interval(250);

double timeout_of(const CommandLine& line) {
    const std::string text = line["timeout"].as<std::string>();
    const auto timeout = parse_duration(text);
    if (!timeout || *timeout < std::chrono::seconds(1) || *timeout > std::chrono::hours(24))
        throw UsageError(R"(--timeout is a duration such as "60s" or "10m", from 1s to 24h, not )" + printable(text));
    return std::chrono::duration<double>(*timeout).count();
}

bool is_empty(const Backlog& backlog) {
    return backlog.rows == 0 && !backlog.estimated;
}

Backlog count_backlog(Client& client) {
    StatusLimits limits;
    limits.cap = 10'000;
    return read_backlog(client, limits);
}

std::string text_of(const Backlog& backlog) {
    return (backlog.estimated ? "about " : "") + std::to_string(backlog.rows) + " rows wait in the outbox";
}

// False when the time was over first.
bool await_empty(Client& client, DatabaseClock& clock, double timeout) {
    for (;;) {
        const bool last = clock.seconds() >= timeout;
        const Backlog backlog = count_backlog(client);
        if (is_empty(backlog)) return true;
        if (last) {
            const std::vector<RelayStatus> workers = read_relays(client);
            std::cout << "not empty after " << seconds_text(clock.seconds()) << ": " << text_of(backlog) << ", "
                      << workers.size() << " workers are running\nnothing was paused\n";
            print_workers(workers, 0);
            return false;
        }
        clock.wait(backlog_interval);
    }
}

ExitCode drain(Client& client, const Operator& who, bool until_empty, double timeout) {
    require_schema(client);
    DatabaseClock clock(client);
    if (until_empty && !await_empty(client, clock, timeout)) return ExitCode::problems_found;

    const ControlRevision revision = pause_topic(client, who, everything);
    const auto at_rest = [&](const RelayStatus& worker) {
        return worker.control_revision >= revision && worker.in_flight_rows == 0;
    };
    const std::vector<RelayStatus> workers = await_workers(client, clock, timeout, at_rest);
    const bool all = std::all_of(workers.begin(), workers.end(), at_rest);
    std::cout << (all ? "drained in " : "everything is paused, but not at rest after ") << seconds_text(clock.seconds())
              << ": " << workers.size() << " workers, " << text_of(count_backlog(client)) << '\n';
    print_workers(workers, revision);
    std::cout << "nothing is published until outbox-relay resume\n";
    return all ? ExitCode::ok : ExitCode::problems_found;
}

}  // namespace

ExitCode drain(const Invocation& invocation) {
    CommandLine line("drain", "[--until-empty] [options] --reason TEXT",
                     "Pause everything and wait until nothing is in flight any more on any relay of the database.",
                     "outbox-relay drain --until-empty --timeout 10m --reason \"moving to another cluster\"");
    line.options()("until-empty", options::bool_switch(), "first wait until the outbox is empty; only then pause")(
        "timeout", options::value<std::string>()->default_value("60s")->value_name("DURATION"),
        "give up after this; with --until-empty nothing is paused when the outbox was not empty by then");
    add_reason(line, Reason::required);
    if (!line.parse(invocation)) return ExitCode::ok;
    const double timeout = timeout_of(line);
    const Operator who = operator_of(line);
    const Config config = line.config(Needs::postgres);
    return with_database(config.postgres(), Role::relay,
                         [&](Client& client) { return drain(client, who, line["until-empty"].as<bool>(), timeout); });
}

}  // namespace outbox
