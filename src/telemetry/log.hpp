// The process's log, on standard error, through spdlog. One line per change of state, never one per message; ids,
// topics, sizes and error codes, never keys, payloads, header values or secrets. Any thread, after start_log. SIGPIPE
// must be ignored by the process, as it must for its sockets.
#pragma once

#include <initializer_list>
#include <string_view>

#include "telemetry/log_line.hpp"
#include "telemetry/settings.hpp"

namespace outbox {

// Before any other thread logs. Without it the defaults hold.
void start_log(const LogSettings& settings);

void log(LogLevel level, std::string_view event, std::string_view text, std::initializer_list<LogField> fields = {});

}  // namespace outbox
