#include <iostream>
#include <nlohmann/json.hpp>

#include "commands/command.hpp"
#include "commands/database.hpp"
#include "postgres/migrations.hpp"

namespace outbox {

namespace {

namespace options = boost::program_options;

std::string file_name(const Migration& migration) {
    std::string number = std::to_string(migration.version);
    number.insert(0, number.size() < 4 ? 4 - number.size() : 0, '0');
    return "sql/" + std::string(migration.module) + "/" + number + "_" + std::string(migration.name) + ".sql";
}

// The roles to grant to, as the command line names them.
std::vector<std::pair<Role, std::string>> roles(const CommandLine& line) {
    std::vector<std::pair<Role, std::string>> named;
    if (line.has("grant-app")) named.emplace_back(Role::app, line["grant-app"].as<std::string>());
    if (line.has("grant-relay")) named.emplace_back(Role::relay, line["grant-relay"].as<std::string>());
    for (const auto& [role, name] : named)
        if (name.empty() || name.find('\0') != std::string::npos) throw UsageError("a role's name is not empty");
    return named;
}

ExitCode up(Client& client, const CommandLine& line) {
    const std::vector<Migration> done = migrate_up(client);
    for (const Migration& migration : done) std::cout << "applied " << file_name(migration) << '\n';
    if (done.empty()) std::cout << "nothing to apply: the schema is up to date\n";
    for (const auto& [role, name] : roles(line)) {
        grant_privileges(client, role, name);
        std::cout << "granted to " << quote_identifier(name)
                  << (role == Role::app ? ": INSERT and outbox.publish()\n" : ": what the relay needs\n");
    }
    return ExitCode::ok;
}

ExitCode print_status(Client& client, bool json) {
    const std::vector<AppliedMigration> applied = applied_migrations(client);
    const std::vector<Migration> pending = pending_migrations(embedded_migrations(), applied);
    if (json) {
        nlohmann::json document{{"applied", nlohmann::json::array()}, {"pending", nlohmann::json::array()}};
        for (const AppliedMigration& entry : applied)
            document["applied"].push_back({{"module", entry.module},
                                           {"version", entry.version},
                                           {"checksum", entry.checksum},
                                           {"applied_at", entry.applied_at}});
        for (const Migration& entry : pending)
            document["pending"].push_back({{"module", entry.module},
                                           {"version", entry.version},
                                           {"name", entry.name},
                                           {"checksum", entry.checksum}});
        std::cout << document.dump(2) << '\n';
    } else {
        for (const AppliedMigration& entry : applied)
            std::cout << entry.module << ' ' << entry.version << "  applied " << entry.applied_at << '\n';
        for (const Migration& entry : pending)
            std::cout << entry.module << ' ' << entry.version << "  pending (" << entry.name << ")\n";
    }
    return ExitCode::ok;
}

// Needs no database: for people who apply SQL with a tool of their own.
ExitCode print_sql(const CommandLine& line) {
    std::cout
        << "-- outbox-relay: the whole schema, for psql -v ON_ERROR_STOP=1 -f. It fills outbox.migration, so that\n"
           "-- `outbox-relay migrate up` finds it applied.\n";
    for (const Migration& migration : embedded_migrations())
        std::cout << "\n-- " << file_name(migration) << '\n' << migration_script(migration);
    for (const auto& [role, name] : roles(line)) {
        std::cout << '\n';
        for (const Grant& grant : grants_of(role)) std::cout << grant_statement(grant, name) << '\n';
    }
    return ExitCode::ok;
}

}  // namespace

ExitCode migrate(const Invocation& invocation) {
    CommandLine line(
        "migrate", "up|status|sql [options]",
        "Bring the database's schema up to date (safe to run from many places at once, and again), say what "
        "is applied, or print the SQL.",
        "outbox-relay migrate up --grant-app shop --grant-relay outbox_relay");
    line.positional("action", "up, status or sql");
    line.options()("grant-app", options::value<std::string>(), "role that may insert events (up, sql)")(
        "grant-relay", options::value<std::string>(), "role the relay runs as (up, sql)")(
        "output", options::value<std::string>()->default_value("text"), "text or json (status)");
    if (!line.parse(invocation)) return ExitCode::ok;

    const std::string action = line.has("action") ? line["action"].as<std::string>() : std::string();
    if (action != "up" && action != "status" && action != "sql")
        throw UsageError("migrate what? up, status or sql" + (action.empty() ? "" : ", not \"" + action + "\""));
    const std::string output = line["output"].as<std::string>();
    if (output != "text" && output != "json") throw UsageError("--output is text or json, not \"" + output + "\"");
    if (action == "status" && !roles(line).empty()) throw UsageError("migrate status grants nothing");
    if (action != "status" && output == "json") throw UsageError("--output json is for migrate status");

    if (action == "sql") return print_sql(line);
    const Config config = line.config(Needs::postgres);
    return with_database(config.postgres(), Role::relay, [&](Client& client) {
        return action == "up" ? up(client, line) : print_status(client, output == "json");
    });
}

}  // namespace outbox
