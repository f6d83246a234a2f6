// What an operator may choose about logs and the HTTP endpoints. Plain values, no C header. Any thread.
#pragma once

#include <string>

namespace outbox {

enum class LogLevel { debug, info, warn, error };
enum class LogFormat { automatic, text, json };

struct LogSettings {
    LogLevel level = LogLevel::info;
    LogFormat format = LogFormat::automatic;  // automatic: text on a terminal, JSON otherwise
};

struct HttpSettings {
    std::string listen = "127.0.0.1:9464";  // HOST:PORT; empty turns the endpoints off
};

}  // namespace outbox
