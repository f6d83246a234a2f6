// A command's connection to Postgres: opened for the length of the action, failures turned into exit codes.
// Main thread only.
#pragma once

#include <functional>

#include "commands/command.hpp"
#include "postgres/client.hpp"

namespace outbox {

// Throws Unreachable when there is no server or it does not let us in, SchemaMismatch when its schema is not this
// program's; everything else goes through as it came.
ExitCode with_database(const PostgresSettings& settings, Role role, const std::function<ExitCode(Client&)>& action);

}  // namespace outbox
