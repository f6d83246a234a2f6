// `rate`: the ceiling for all relays of the database, changed now and kept over restarts.
#include <iostream>

#include "commands/command.hpp"
#include "commands/database.hpp"
#include "commands/operator.hpp"
#include "config/values.hpp"
#include "postgres/migrations.hpp"

namespace outbox {

namespace {

namespace options = boost::program_options;

constexpr std::uint64_t rows_per_second_max = 1'000'000'000;  // as pacing.max_rows_per_second

std::optional<std::int64_t> rows_per_second_of(const CommandLine& line) {
    const std::string text = line.has("rows") ? line["rows"].as<std::string>() : std::string();
    if (text == "default") return std::nullopt;
    const auto rows = parse_count(text);
    if (rows == 0) throw UsageError("a rate of 0 is a pause: see outbox-relay pause --help");
    if (!rows || *rows > rows_per_second_max)
        throw UsageError("rate of how much? rows per second from 1 to 1000000000, or \"default\"");
    return static_cast<std::int64_t>(*rows);
}

}  // namespace

ExitCode rate(const Invocation& invocation) {
    CommandLine line(
        "rate", "ROWS_PER_SECOND|default --reason TEXT",
        "Set the ceiling for all relays of the database together, over pacing.max_rows_per_second, now and\n"
        "until it is changed again.",
        "outbox-relay rate 500 --reason \"the consumers lag\"");
    line.positional("rows", "rows per second, or \"default\": each relay as it is configured");
    line.options()("no-wait", options::bool_switch(), "do not wait until every worker has confirmed");
    add_reason(line, Reason::required);
    if (!line.parse(invocation)) return ExitCode::ok;
    const auto rows = rows_per_second_of(line);
    const Operator who = operator_of(line);
    const Config config = line.config(Needs::postgres);
    return with_database(config.postgres(), Role::relay, [&](Client& client) {
        require_schema(client);
        const auto revision = set_rate(client, who, rows);
        if (rows)
            std::cout << "limited to " << *rows << " rows/s\n" << std::flush;
        else
            std::cout << (revision ? "limited as configured\n" : "was limited as configured\n") << std::flush;
        if (!revision || line["no-wait"].as<bool>()) return ExitCode::ok;
        return await_confirmation(client, *revision);
    });
}

}  // namespace outbox
