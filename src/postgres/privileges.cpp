#include "postgres/privileges.hpp"

#include <algorithm>
#include <array>
#include <cctype>

namespace outbox {

namespace {

constexpr std::array app_grants{
    Grant{"outbox", "SCHEMA", "outbox", "USAGE"},
    Grant{"message", "TABLE", "outbox.message", "INSERT"},
    Grant{"publish", "FUNCTION", "outbox.publish(text, text, bytea, jsonb)", "EXECUTE"},
    Grant{"publish", "FUNCTION", "outbox.publish(text, text, text, jsonb)", "EXECUTE"},
    Grant{"publish", "FUNCTION", "outbox.publish(text, text, jsonb, jsonb)", "EXECUTE"},
};

constexpr std::array relay_grants{
    Grant{"outbox", "SCHEMA", "outbox", "USAGE"},
    Grant{"message", "TABLE", "outbox.message", "SELECT, DELETE"},
    // SELECT … FOR UPDATE wants UPDATE on a column: this one is generated, and can be set to nothing else.
    Grant{"message", "TABLE", "outbox.message", "UPDATE (lane)", true},
    Grant{"message_id_seq", "SEQUENCE", "outbox.message_id_seq", "SELECT"},
    Grant{"lane", "TABLE", "outbox.lane", "SELECT, UPDATE"},
    Grant{"relay", "TABLE", "outbox.relay", "SELECT, INSERT, UPDATE, DELETE"},
    Grant{"dead_letter", "TABLE", "outbox.dead_letter", "SELECT, INSERT, UPDATE, DELETE"},
    Grant{"control", "TABLE", "outbox.control", "SELECT, INSERT, UPDATE, DELETE"},
    Grant{"blocked_key", "TABLE", "outbox.blocked_key", "SELECT, INSERT, UPDATE, DELETE"},
    Grant{"audit", "TABLE", "outbox.audit", "SELECT, INSERT"},
    Grant{"requeue", "FUNCTION", "outbox.requeue(bigint)", "EXECUTE"},
    Grant{"migration", "TABLE", "outbox.migration", "SELECT"},
};

std::string literal(std::string_view text) {
    return "'" + std::string(text) + "'";  // only for the constants above
}

}  // namespace

std::span<const Grant> grants_of(Role role) {
    switch (role) {
        case Role::app:
            return app_grants;
        case Role::relay:
            return relay_grants;
    }
    return {};
}

std::string quote_identifier(std::string_view name) {
    std::string quoted = "\"";
    for (const char c : name) {
        if (c == '"') quoted += '"';
        quoted += c;
    }
    return quoted + '"';
}

std::string grant_statement(const Grant& grant, std::string_view role_name) {
    return "GRANT " + std::string(grant.privileges) + " ON " + std::string(grant.kind) + " " +
           std::string(grant.object) + " TO " + quote_identifier(role_name) + ";";
}

std::string grant_held_expression(const Grant& grant) {
    std::string kind;
    for (const char c : grant.kind) kind += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    if (const auto column = grant.privileges.find(" ("); column != std::string_view::npos) {
        const std::string_view name = grant.privileges.substr(column + 2, grant.privileges.size() - column - 3);
        return "pg_catalog.has_column_privilege(" + literal(grant.object) + ", " + literal(name) + ", " +
               literal(grant.privileges.substr(0, column)) + ")";
    }
    const std::string call = "pg_catalog.has_" + kind + "_privilege(" + literal(grant.object) + ", ";

    // One call per privilege: a list in one call asks for any of them.
    std::string expression;
    for (std::string_view rest = grant.privileges; !rest.empty();) {
        const std::string_view privilege = rest.substr(0, rest.find(", "));
        rest.remove_prefix(std::min(rest.size(), privilege.size() + 2));
        if (!expression.empty()) expression += " AND ";
        expression += call;
        expression += literal(privilege) + ")";
    }
    return expression;
}

}  // namespace outbox
