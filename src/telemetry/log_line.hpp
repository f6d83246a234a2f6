// What one log line says, as text for people and as JSON for machines; the time stamp comes from spdlog. Pure; any
// thread. Nothing that came from outside can start a line of its own or steer a terminal.
#pragma once

#include <concepts>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <variant>

#include "telemetry/settings.hpp"

namespace outbox {

// The constructors are narrow on purpose: a char pointer must become text, and would rather become a bool.
struct LogField {
    LogField(std::string_view field, std::string_view text) : name(field), value(text) {}
    LogField(std::string_view field, double number) : name(field), value(number) {}
    template <std::same_as<bool> Flag>
    LogField(std::string_view field, Flag flag) : name(field), value(flag) {}
    template <std::integral Number>
    requires(!std::same_as<Number, bool>) LogField(std::string_view field, Number number)
        : name(field), value(static_cast<std::int64_t>(number)) {}

    std::string_view name;
    std::variant<std::string_view, std::int64_t, double, bool> value;
};

struct LogLine {
    LogLevel level = LogLevel::info;
    std::string_view event;  // a fixed identifier in snake_case: what to search for
    std::string_view text;
    std::span<const LogField> fields;
};

std::string text_of(const LogLine& line);

// An object without its opening brace, so that a time stamp can be put before it. A field cannot replace a fixed key.
std::string json_members_of(const LogLine& line);

}  // namespace outbox
