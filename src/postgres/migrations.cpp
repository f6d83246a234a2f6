#include "postgres/migrations.hpp"

#include <algorithm>

namespace outbox {

namespace {

constexpr std::chrono::seconds migration_timeout(600);

// "outbox" in ASCII. Held by the transaction, so that it works through a pooler and cannot be left behind.
constexpr const char* take_lock = "SELECT pg_catalog.pg_advisory_xact_lock(122550254464888)";

std::string label(std::string_view module, int version) {
    return std::string(module) + " " + std::to_string(version);
}

// Every value is of our own making (a folder's name, a number, a checksum).
std::string insert_applied(const Migration& migration) {
    return "INSERT INTO outbox.migration (module, version, checksum) VALUES ('" + std::string(migration.module) +
           "', " + std::to_string(migration.version) + ", '" + std::string(migration.checksum) + "');";
}

const Migration* find(std::span<const Migration> known, const AppliedMigration& applied) {
    const auto same = [&](const Migration& entry) {
        return entry.module == applied.module && entry.version == applied.version;
    };
    const auto found = std::find_if(known.begin(), known.end(), same);
    return found == known.end() ? nullptr : &*found;
}

}  // namespace

const char* const select_applied_migrations =
    "SELECT module, version, checksum,"
    " pg_catalog.to_char(applied_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')"
    " FROM outbox.migration ORDER BY module, version";

std::vector<Migration> pending_migrations(std::span<const Migration> known, std::span<const AppliedMigration> applied) {
    for (const AppliedMigration& entry : applied) {
        const bool our_module = std::any_of(
            known.begin(), known.end(), [&](const Migration& candidate) { return candidate.module == entry.module; });
        if (!our_module) continue;
        const Migration* migration = find(known, entry);
        if (migration == nullptr)
            throw SchemaError("the database's schema is newer than this program: it has " +
                              label(entry.module, entry.version) +
                              ", which this program does not know; upgrade outbox-relay");
        if (migration->checksum != entry.checksum)
            throw SchemaError("migration " + label(entry.module, entry.version) +
                              " was applied with another text than this program holds (checksum " +
                              entry.checksum.substr(0, 12) + "… in outbox.migration, " +
                              std::string(migration->checksum.substr(0, 12)) +
                              "… here): an applied migration is never edited; use the outbox-relay it came from");
    }
    std::vector<Migration> pending;
    for (const Migration& migration : known) {
        const bool done = std::any_of(applied.begin(), applied.end(), [&](const AppliedMigration& entry) {
            return entry.module == migration.module && entry.version == migration.version;
        });
        if (!done) pending.push_back(migration);
    }
    return pending;
}

std::vector<AppliedMigration> applied_migrations(Client& client) {
    // pg_class rather than to_regclass(): that one fails without USAGE on the schema, and a missing privilege must not
    // look like a missing table.
    const Rows present = client.execute(
        "SELECT 1 FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
        " WHERE n.nspname = 'outbox' AND c.relname = 'migration'");
    if (present.size() == 0) return {};

    const Rows rows = client.execute(select_applied_migrations);
    std::vector<AppliedMigration> applied;
    for (std::size_t i = 0; i < rows.size(); ++i)
        applied.push_back({rows.text(i, 0), static_cast<int>(rows.integer(i, 1)), rows.text(i, 2), rows.text(i, 3)});
    return applied;
}

void require_schema(Client& client, std::span<const Migration> known) {
    const std::vector<Migration> pending = pending_migrations(known, applied_migrations(client));
    if (pending.empty()) return;
    throw SchemaError("the database's schema lacks " + label(pending.front().module, pending.front().version) + " (" +
                      std::string(pending.front().name) + "): run outbox-relay migrate up");
}

std::vector<Migration> migrate_up(Client& client, std::span<const Migration> known) {
    std::vector<Migration> done;
    for (bool more = true; more;) {
        client.transaction([&] {
            client.execute(take_lock, {}, migration_timeout);
            // Looked up again under the lock: another process may have been faster.
            const std::vector<Migration> pending = pending_migrations(known, applied_migrations(client));
            more = !pending.empty();
            if (!more) return;
            client.execute_script(std::string(pending.front().text), migration_timeout);
            client.execute_script(insert_applied(pending.front()));
            done.push_back(pending.front());
        });
    }
    return done;
}

std::string migration_script(const Migration& migration) {
    std::string script = "BEGIN;\n" + std::string(take_lock) + ";\n\n" + std::string(migration.text);
    if (!script.ends_with('\n')) script += '\n';
    return script + "\n" + insert_applied(migration) + "\nCOMMIT;\n";
}

void grant_privileges(Client& client, Role role, const std::string& role_name) {
    const Rows found = client.execute("SELECT 1 FROM pg_catalog.pg_roles WHERE rolname = $1", {role_name});
    if (found.size() == 0)
        throw PostgresError("there is no role " + quote_identifier(role_name) + " to grant to: CREATE ROLE " +
                                quote_identifier(role_name) + " LOGIN; first",
                            "42704");
    client.transaction([&] {
        // Two GRANTs on one object at once would fail with "tuple concurrently updated".
        client.execute(take_lock, {}, migration_timeout);
        for (const Grant& grant : grants_of(role)) client.execute(grant_statement(grant, role_name));
    });
}

std::vector<std::string> missing_grants(Client& client, Role role, bool claims_rows) {
    std::vector<std::string> missing;
    for (const Grant& grant : grants_of(role)) {
        if (grant.claims_rows && !claims_rows) continue;
        const bool held = client.execute("SELECT " + grant_held_expression(grant)).boolean(0, 0);
        if (!held) missing.push_back(grant_statement(grant, client.user()));
        // Without USAGE the names inside cannot even be looked up.
        if (!held && grant.kind == "SCHEMA") break;
    }
    return missing;
}

}  // namespace outbox
