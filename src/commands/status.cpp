#include <cmath>
#include <iostream>
#include <nlohmann/json.hpp>

#include "commands/command.hpp"
#include "commands/database.hpp"
#include "commands/operator.hpp"
#include "commands/terminal_text.hpp"
#include "postgres/migrations.hpp"
#include "postgres/outbox_status.hpp"

namespace outbox {

namespace {

// "0.4 s", "2 m 11 s", "3 h 5 m", "2 d 4 h"
std::string age(double seconds) {
    if (seconds < 10)
        return std::to_string(static_cast<int>(seconds)) + "." + std::to_string(static_cast<int>(seconds * 10) % 10) +
               " s";
    const auto whole = static_cast<std::int64_t>(seconds);
    const auto pair = [](std::int64_t large, const char* large_unit, std::int64_t small, const char* small_unit) {
        return std::to_string(large) + large_unit + " " + std::to_string(small) + small_unit;
    };
    if (whole < 60) return std::to_string(whole) + " s";
    if (whole < 3600) return pair(whole / 60, " m", whole % 60, " s");
    if (whole < 86400) return pair(whole / 3600, " h", whole % 3600 / 60, " m");
    return pair(whole / 86400, " d", whole % 86400 / 3600, " h");
}

nlohmann::json json(const OutboxStatus& status, const std::string& target) {
    nlohmann::json document{
        {"database", target},
        {"backlog",
         {{"rows", status.backlog.rows}, {"estimated", status.backlog.estimated}, {"oldest_age_seconds", nullptr}}},
        {"lanes", {{"covered", status.lanes_covered}, {"uncovered", status.lanes_uncovered}}},
        {"relays", nlohmann::json::array()},
        {"control", nlohmann::json::array()},
        {"control_revision", status.control_revision},
        {"blocked_keys",
         {{"rows", status.blocked_keys.rows},
          {"capped", status.blocked_keys.capped},
          {"first", nlohmann::json::array()}}},
        {"dead_letters", {{"rows", status.dead_letters}, {"capped", status.dead_letters_capped}}},
        {"schema", nlohmann::json::object()}};
    if (status.backlog.oldest_age_seconds)
        document["backlog"]["oldest_age_seconds"] = *status.backlog.oldest_age_seconds;
    for (const RelayStatus& relay : status.relays)
        document["relays"].push_back({{"id", relay.id},
                                      {"host", relay.host},
                                      {"pid", relay.pid},
                                      {"version", relay.version},
                                      {"started_age_seconds", relay.started_age_seconds},
                                      {"seen_age_seconds", relay.seen_age_seconds},
                                      {"lanes", relay.lanes},
                                      {"in_flight_rows", relay.in_flight_rows},
                                      {"control_revision", relay.control_revision}});
    for (const BlockedKey& key : status.blocked_keys.first)
        document["blocked_keys"]["first"].push_back({{"topic", key.topic},
                                                     {"key", key.key},
                                                     {"message_id", key.message_id},
                                                     {"event_id", key.event_id},
                                                     {"error_code", key.error_code},
                                                     {"error_text", key.error_text},
                                                     {"attempts", key.attempts},
                                                     {"blocked_age_seconds", key.blocked_age_seconds}});
    for (const ControlStatus& control : status.control) {
        nlohmann::json entry{{"topic", control.topic},           {"paused", control.paused},
                             {"max_rows_per_second", nullptr},   {"reason", control.reason},
                             {"changed_by", control.changed_by}, {"changed_age_seconds", control.changed_age_seconds}};
        if (control.max_rows_per_second) entry["max_rows_per_second"] = *control.max_rows_per_second;
        document["control"].push_back(entry);
    }
    for (const ModuleVersion& module : status.schema) document["schema"][module.module] = module.version;
    return document;
}

void print_late(const OutboxStatus& status) {
    std::cout << "late?      ";
    if (status.backlog.rows == 0 && !status.backlog.estimated)
        std::cout << "no: nothing waits\n";
    else
        std::cout << (status.backlog.estimated ? "about " : "") << status.backlog.rows << " rows wait, the oldest for "
                  << (status.backlog.oldest_age_seconds ? age(*status.backlog.oldest_age_seconds)
                                                        : std::string("an unknown time (looking took too long)"))
                  << '\n';
}

void print_working(const OutboxStatus& status) {
    std::cout << "working?   " << status.relays.size() << " workers, " << status.lanes_covered << " of "
              << status.lanes_covered + status.lanes_uncovered << " lanes owned\n";
    for (const RelayStatus& relay : status.relays)
        std::cout << "           " << terminal_text(relay.host) << " pid " << relay.pid << "  "
                  << terminal_text(relay.version) << "  " << relay.lanes << " lanes  " << relay.in_flight_rows
                  << " rows in flight  seen " << age(relay.seen_age_seconds) << " ago  up "
                  << age(relay.started_age_seconds)
                  << (relay.control_revision < status.control_revision ? "  has not confirmed the last order yet" : "")
                  << '\n';
    if (status.lanes_uncovered > 0)
        std::cout << "           nobody publishes " << status.lanes_uncovered
                  << " lanes (as expected with relay.claim = \"rows\", where lanes are not used)\n";
}

void print_blocked_keys(const BlockedKeys& keys) {
    if (keys.rows == 0) return;
    std::cout << "blocked    " << (keys.capped ? "at least " : "") << keys.rows << " keys wait for unblock\n";
    for (const BlockedKey& key : keys.first)
        std::cout << "           " << terminal_text(key.topic) << " key " << terminal_text(key.key) << "  for "
                  << age(key.blocked_age_seconds) << "  message " << key.message_id << "  "
                  << terminal_text(key.error_code) << ": " << terminal_text(key.error_text) << '\n';
    if (static_cast<std::int64_t>(keys.first.size()) < keys.rows) std::cout << "           and more\n";
}

void print_blocking(const OutboxStatus& status) {
    bool blocked = false;
    for (const ControlStatus& control : status.control) {
        if (!control.paused && !control.max_rows_per_second) continue;
        std::cout << (blocked ? "           " : "blocking?  ")
                  << (control.topic == everything ? "everything" : terminal_text(control.topic));
        if (control.paused) std::cout << " is paused";
        if (control.max_rows_per_second)
            std::cout << (control.paused ? ", and" : " is") << " limited to " << *control.max_rows_per_second
                      << " rows/s";
        std::cout << " by " << terminal_text(control.changed_by) << ' ' << age(control.changed_age_seconds) << " ago";
        if (!control.reason.empty()) std::cout << ": " << terminal_text(control.reason);
        std::cout << '\n';
        blocked = true;
    }
    if (!blocked) std::cout << "blocking?  nothing is paused or limited\n";
    print_blocked_keys(status.blocked_keys);
    std::cout << "dead       " << (status.dead_letters_capped ? "at least " : "") << status.dead_letters
              << " dead letters\n";
}

void print_text(const OutboxStatus& status, const std::string& target) {
    print_late(status);
    print_working(status);
    print_blocking(status);
    std::cout << "schema    ";
    for (const ModuleVersion& module : status.schema) std::cout << ' ' << module.module << ' ' << module.version;
    std::cout << "\ndatabase   " << target << '\n';
}

}  // namespace

ExitCode status(const Invocation& invocation) {
    CommandLine line("status", "[options]",
                     "Say what the database knows: is anything late, is someone working on it, what is in the way.",
                     "outbox-relay status --output json");
    add_output(line);
    if (!line.parse(invocation)) return ExitCode::ok;
    const bool as_json = wants_json(line);

    const Config config = line.config(Needs::postgres);
    return with_database(config.postgres(), Role::relay, [&](Client& client) {
        require_schema(client);
        const OutboxStatus now = read_outbox_status(client);
        const std::string target = describe_target(config.postgres());
        if (as_json)
            // ASCII only: JSON leaves alone what a terminal would obey.
            std::cout << json(now, target).dump(2, ' ', true, nlohmann::json::error_handler_t::replace) << '\n';
        else
            print_text(now, target);
        return ExitCode::ok;
    });
}

}  // namespace outbox
