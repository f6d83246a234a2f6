// Text that came with a row or from a server, on its way to a terminal, to the log and into JSON.
// Holds: none of it is a control character there, all of it is UTF-8, and a line of the log stays one line.
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "commands/dead_letter_text.hpp"
#include "commands/terminal_text.hpp"
#include "fuzz/fuzzing.hpp"
#include "telemetry/log_line.hpp"

namespace outbox::fuzzing {
namespace {

bool is_utf8(const std::string& text) {
    return !nlohmann::json::parse(nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace))
                .get<std::string>()
                .compare(text);
}

// Neither a control character of ASCII nor one of C1, which terminals obey as well.
bool is_harmless(const std::string& text) {
    for (std::size_t i = 0; i + 1 < text.size(); ++i) {
        const auto second = static_cast<unsigned char>(text[i + 1]);
        if (static_cast<unsigned char>(text[i]) == 0xc2 && second >= 0x80 && second < 0xa0) return false;
    }
    return is_plain_line(text);
}

void check_log(const std::string& text) {
    const std::vector<LogField> fields{{"key", text}, {text, "x"}, {"number", 1}};
    const LogLine line{LogLevel::info, "fuzzed", text, fields};
    const std::string plain = text_of(line);
    require(is_harmless(plain), "a log line is one line", plain);
    const std::string members = json_members_of(line);
    const auto json = nlohmann::json::parse("{" + members, nullptr, false);
    require(json.is_object() && json["event"] == "fuzzed", "a log line is an object", members);
    require(is_harmless(members), "of one line", members);
}

void check_dead_letter(const std::string& text) {
    DeadLetter letter;
    letter.topic = letter.key.emplace(text);
    letter.error_code = letter.error_text = text;
    // As jsonb gives it: always JSON.
    letter.headers = nlohmann::json{{"h", text}}.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
    letter.payload = text;
    letter.payload_bytes = static_cast<std::int64_t>(text.size());
    std::string line = line_of(letter);
    require(line.ends_with('\n') && is_harmless(line.substr(0, line.size() - 1)), "a dead letter is one line", line);
    for (std::string rest = text_of(letter); !rest.empty();) {
        const std::size_t end = rest.find('\n');
        require(end != std::string::npos && is_harmless(rest.substr(0, end)), "and a few in full", rest);
        rest.erase(0, end + 1);
    }
    const auto json = nlohmann::json::parse(json_of({letter}, false, true), nullptr, false);
    require(json.is_object(), "and an object");
    const auto& one = json["dead_letters"][0];
    if (one.contains("payload")) require(one["payload"] == text, "a payload that is text is kept", text);
    require(one.contains("payload") != one.contains("payload_hex"), "a payload is text or hex", text);
}

}  // namespace
}  // namespace outbox::fuzzing

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace outbox;
    using namespace outbox::fuzzing;
    const std::string text(reinterpret_cast<const char*>(data), size);
    const std::string shown = terminal_text(text);
    require(is_harmless(shown) && is_utf8(shown), "a terminal obeys none of it", shown);
    require(terminal_text(shown) == shown, "what is harmless stays as it is", shown);
    check_log(text);
    check_dead_letter(text);
    return 0;
}
