#include "commands/dead_letter_text.hpp"

#include <nlohmann/json.hpp>

#include "commands/terminal_text.hpp"

namespace outbox {

namespace {

std::string size_of(const DeadLetter& letter) {
    return letter.payload_bytes ? std::to_string(*letter.payload_bytes) + " B" : "tombstone";
}

std::string key_of(const DeadLetter& letter) {
    return letter.key ? "key " + terminal_text(*letter.key) : "no key";
}

bool is_utf8(const std::string& bytes) {
    try {
        static_cast<void>(nlohmann::json(bytes).dump());
        return true;
    } catch (const nlohmann::json::exception&) {
        return false;
    }
}

std::string hex_of(const std::string& bytes) {
    constexpr std::string_view digits = "0123456789abcdef";
    std::string text;
    text.reserve(2 * bytes.size());
    for (const char c : bytes) {
        const auto byte = static_cast<unsigned char>(c);
        text += digits[byte >> 4U];
        text += digits[byte & 15U];
    }
    return text;
}

nlohmann::ordered_json json_of(const DeadLetter& letter, bool whole) {
    nlohmann::ordered_json json{{"id", letter.id},
                                {"message_id", letter.message_id},
                                {"event_id", letter.event_id},
                                {"topic", letter.topic},
                                {"key", nullptr},
                                {"payload_bytes", nullptr},
                                {"error_code", letter.error_code},
                                {"error_text", letter.error_text},
                                {"attempts", letter.attempts},
                                {"created_at", letter.created_at},
                                {"first_failed_at", letter.first_failed_at},
                                {"last_failed_at", letter.last_failed_at}};
    if (letter.key) json["key"] = *letter.key;
    if (letter.payload_bytes) json["payload_bytes"] = *letter.payload_bytes;
    if (whole) json["headers"] = nlohmann::ordered_json::parse(letter.headers, nullptr, false);
    if (letter.payload) {
        const bool text = is_utf8(*letter.payload);
        json[text ? "payload" : "payload_hex"] = text ? *letter.payload : hex_of(*letter.payload);
    }
    return json;
}

}  // namespace

std::string line_of(const DeadLetter& letter) {
    return std::to_string(letter.id) + "  " + letter.last_failed_at + "  " + terminal_text(letter.topic) + "  " +
           key_of(letter) + "  " + size_of(letter) + "  " + terminal_text(letter.error_code) + "\n";
}

std::string text_of(const DeadLetter& letter) {
    std::string text = "dead letter  " + std::to_string(letter.id) + "\n  event      " + letter.event_id +
                       "\n  message    " + std::to_string(letter.message_id) + ", created " + letter.created_at +
                       "\n  topic      " + terminal_text(letter.topic) + ", " + key_of(letter) + "\n  headers    " +
                       terminal_text(letter.headers) + "\n  error      " + terminal_text(letter.error_code) + ": " +
                       terminal_text(letter.error_text) + "\n  attempts   " + std::to_string(letter.attempts) +
                       ", from " + letter.first_failed_at + " to " + letter.last_failed_at + "\n  payload    " +
                       size_of(letter) + "\n";
    if (letter.payload) text += "             " + terminal_text(*letter.payload) + "\n";
    return text;
}

std::string json_of(const std::vector<DeadLetter>& letters, bool more, bool whole) {
    nlohmann::ordered_json document{{"dead_letters", nlohmann::ordered_json::array()}, {"more", more}};
    for (const DeadLetter& letter : letters) document["dead_letters"].push_back(json_of(letter, whole));
    // ASCII only: JSON leaves alone what a terminal would obey.
    return document.dump(2, ' ', true, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace outbox
