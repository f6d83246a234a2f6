// The schema's history: what sql/ holds (embedded in this program), what a database has, and how the one becomes the
// other. Each migration runs in a transaction of its own, under one advisory lock, so any number of processes may do it
// at once. One thread at a time; the deciding part, pending_migrations(), is pure.
#pragma once

#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "postgres/client.hpp"

namespace outbox {

struct Migration {
    std::string_view module;    // folder of sql/
    int version = 0;            // from 1, without gaps
    std::string_view name;      // "init"
    std::string_view checksum;  // SHA-256 of the text, in hex
    std::string_view text;
};

// Generated from sql/<module>/NNNN_name.sql by cmake/EmbedSql.cmake; by module, then by version.
std::span<const Migration> embedded_migrations();

struct AppliedMigration {
    std::string module;
    int version = 0;
    std::string checksum;
    std::string applied_at;  // UTC, ISO 8601
};

// The database's schema is not one this program can work with; the text says what to do.
class SchemaError : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

// For a session of its own: module, version, checksum of every applied migration. Fails with 42P01 on an empty
// database.
extern const char* const select_applied_migrations;

// What is still to be applied. Throws SchemaError when the database is newer than this program, or was given another
// text under the same version. Modules this program does not know are none of its business.
std::vector<Migration> pending_migrations(std::span<const Migration> known, std::span<const AppliedMigration> applied);

// Nothing when the database was never migrated.
std::vector<AppliedMigration> applied_migrations(Client& client);

// Throws SchemaError unless the database is exactly at this program's version.
void require_schema(Client& client, std::span<const Migration> known = embedded_migrations());

// Applies what is pending, and returns it. Throws SchemaError and PostgresError.
std::vector<Migration> migrate_up(Client& client, std::span<const Migration> known = embedded_migrations());

// The same for psql: the migration with its transaction, its lock and its row in outbox.migration.
std::string migration_script(const Migration& migration);

// Gives the role exactly what grants_of(role) lists. Throws PostgresError, also when there is no such role.
void grant_privileges(Client& client, Role role, const std::string& role_name);

// The GRANT statements the connected user is missing for `role`; empty when all is well.
std::vector<std::string> missing_grants(Client& client, Role role, bool claims_rows = false);

}  // namespace outbox
