// The privileges the two roles need, as data: `migrate up --grant-…` grants them, `check` looks for them, and an error
// about a missing one is answered with its GRANT statement. Pure; any thread.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace outbox {

enum class Role {
    app,    // writes events
    relay,  // publishes them
};

struct Grant {
    std::string_view name;        // as the server's error messages call the object
    std::string_view kind;        // TABLE, SEQUENCE, SCHEMA, FUNCTION
    std::string_view object;      // qualified
    std::string_view privileges;  // as in GRANT, separated by ", "; or one with its column, as in "UPDATE (lane)"
    bool claims_rows = false;     // needed only where rows are claimed
};

std::span<const Grant> grants_of(Role role);

std::string quote_identifier(std::string_view name);

// "GRANT SELECT, DELETE ON TABLE outbox.message TO "relay";"
std::string grant_statement(const Grant& grant, std::string_view role_name);

// An SQL expression: does the current user hold all of it?
std::string grant_held_expression(const Grant& grant);

}  // namespace outbox
