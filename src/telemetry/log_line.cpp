#include "telemetry/log_line.hpp"

#include <cstddef>
#include <nlohmann/json.hpp>
#include <type_traits>

namespace outbox {
namespace {

std::string_view name_of(LogLevel level) {
    switch (level) {
        case LogLevel::debug:
            return "debug";
        case LogLevel::info:
            return "info";
        case LogLevel::warn:
            return "warn";
        case LogLevel::error:
            return "error";
    }
    return "error";
}

template <class Json>
std::string dumped(const Json& json) {
    return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

// JSON leaves DEL and the C1 controls (C2 80 to C2 9F in UTF-8) alone; terminals obey them.
void escape_what_json_leaves(std::string& text) {
    constexpr std::string_view digits = "0123456789abcdef";
    for (std::size_t at = 0; at < text.size(); ++at) {
        const auto byte = static_cast<unsigned char>(text[at]);
        const auto following = static_cast<unsigned char>(at + 1 < text.size() ? text[at + 1] : '\0');
        if (byte == 0x7f) {
            text.replace(at, 1, "\\u007f");
        } else if (byte == 0xc2 && following >= 0x80 && following < 0xa0) {
            text.replace(at, 2, std::string("\\u00") + digits[following >> 4U] + digits[following & 15U]);
        }
    }
}

std::string quoted(std::string_view text) {
    std::string result = dumped(nlohmann::json(text));
    escape_what_json_leaves(result);
    return result;
}

// The text of a line needs no quotes around it, hence none escaped in it.
std::string unquoted(std::string_view text) {
    const std::string source = quoted(text);
    std::string result;
    result.reserve(source.size());
    for (std::size_t at = 1; at + 1 < source.size(); ++at) {
        const bool escapes = source[at] == '\\' && (source[at + 1] == '"' || source[at + 1] == '\\');
        if (escapes) ++at;
        result += source[at];
    }
    return result;
}

bool reads_as_one_word(std::string_view escaped) {
    return escaped.size() > 2 && escaped.find_first_of(" =\\") == std::string_view::npos;
}

std::string value_text(const LogField& field) {
    return std::visit(
        [](const auto& value) -> std::string {
            if constexpr (std::is_same_v<std::decay_t<decltype(value)>, std::string_view>) {
                const std::string escaped = quoted(value);
                return reads_as_one_word(escaped) ? escaped.substr(1, escaped.size() - 2) : escaped;
            } else {
                return dumped(nlohmann::json(value));
            }
        },
        field.value);
}

}  // namespace

std::string text_of(const LogLine& line) {
    std::string result(name_of(line.level));
    result.resize(5, ' ');
    result.append(" ").append(unquoted(line.event)).append("  ").append(unquoted(line.text));
    std::string_view gap = "  ";
    for (const LogField& field : line.fields) {
        result.append(gap).append(unquoted(field.name)).append("=").append(value_text(field));
        gap = " ";
    }
    return result;
}

std::string json_members_of(const LogLine& line) {
    nlohmann::ordered_json json;
    json["level"] = name_of(line.level);
    json["event"] = line.event;
    json["msg"] = line.text;
    for (const LogField& field : line.fields) {
        if (field.name == "ts") continue;
        std::visit([&](const auto& value) { json.emplace(std::string(field.name), value); }, field.value);
    }
    std::string text = dumped(json);
    escape_what_json_leaves(text);  // people read these lines as well
    return text.substr(1);
}

}  // namespace outbox
