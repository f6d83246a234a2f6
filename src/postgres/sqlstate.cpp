#include "postgres/sqlstate.hpp"

#include <algorithm>
#include <array>

namespace outbox {

namespace {

constexpr std::array objects{"message", "message_id_seq", "lane",    "relay", "dead_letter", "control",
                             "publish", "blocked_key",    "requeue", "audit", "migration"};

// The last of our objects the message names. Whole words only: "lanes" is not "lane".
std::string_view object_in(std::string_view message) {
    constexpr std::string_view letters = "abcdefghijklmnopqrstuvwxyz_";
    std::string_view found;
    for (auto begin = message.find_first_of(letters); begin != std::string_view::npos;) {
        const auto end = std::min(message.find_first_not_of(letters, begin), message.size());
        const std::string_view word = message.substr(begin, end - begin);
        if (std::find(objects.begin(), objects.end(), word) != objects.end()) found = word;
        begin = message.find_first_of(letters, end);
    }
    return found;
}

std::string missing_object(std::string_view message) {
    const std::string_view object = object_in(message);
    if (object.empty()) return "the outbox schema is missing or older than this program: run outbox-relay migrate up";
    return "outbox." + std::string(object) + " is missing: run outbox-relay migrate up";
}

std::string missing_privilege(std::string_view message, std::string_view user, Role role) {
    // "permission denied for schema outbox" names no table.
    const std::string_view object = object_in(message);
    const std::string_view name = object.empty() && message.ends_with("outbox") ? "outbox" : object;
    std::string statements;
    for (const Grant& grant : grants_of(role))
        if (grant.name == name) statements += (statements.empty() ? "" : " ") + grant_statement(grant, user);
    if (statements.empty())
        return "the role " + quote_identifier(user) + " may not do this; its owner or a superuser may";
    return "as the owner of the schema: " + statements;
}

struct Advice {
    std::string_view sqlstate;
    std::string_view text;
};

constexpr std::array known{
    Advice{"25006",
           "this server is read-only: a standby, or default_transaction_read_only is on; point postgres.dsn at the "
           "primary "
           "or list every host"},
    Advice{"26000", "a connection pooler in transaction mode is in between: use session mode, or connect directly"},
    Advice{"42P05", "a connection pooler in transaction mode is in between: use session mode, or connect directly"},
    Advice{"28000", "pg_hba.conf has no entry that lets this role in from here, or asks for another way to log in"},
    Advice{"28P01", "the password is wrong: check postgres.password_file, which is read again at every connect"},
    Advice{"3D000", "check dbname in postgres.dsn"},
    Advice{"53100", "the database server's disk is full: nothing can be published or deleted until there is room"},
    Advice{"53200", "the database server is out of memory"},
    Advice{"53300", "all connections are taken: raise max_connections or the role's connection limit, or free some"},
    Advice{"55P03", "another transaction holds the lock: look for it in pg_stat_activity, then try again"},
    Advice{"57014", "the statement was cancelled: statement_timeout, or somebody's pg_cancel_backend"},
    Advice{"57P01", "the server is shutting down, or an administrator ended the connection"},
    Advice{"57P03", "the server is starting up or shutting down"},
};

}  // namespace

std::string advice(std::string_view sqlstate, std::string_view message, std::string_view user, Role role) {
    if (sqlstate == "42P01" || sqlstate == "42883" || sqlstate == "42703" || sqlstate == "3F000")
        return missing_object(message);
    if (sqlstate == "42501") return missing_privilege(message, user, role);
    const auto* const found =
        std::find_if(known.begin(), known.end(), [&](const Advice& entry) { return entry.sqlstate == sqlstate; });
    return found == known.end() ? std::string() : std::string(found->text);
}

}  // namespace outbox
