// The half of `check` that talks to Postgres and Kafka; the other half, check.cpp, needs the configuration alone.
// Main thread only.
#pragma once

#include "commands/command.hpp"

namespace outbox {

ExitCode check_online(const Config& config);

}  // namespace outbox
