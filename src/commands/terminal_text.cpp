#include "commands/terminal_text.hpp"

#include <cstddef>
#include <cstdint>

namespace outbox {

namespace {

struct Character {
    std::uint32_t code = 0;
    std::size_t bytes = 0;  // 0: no UTF-8
};

Character first_character(std::string_view text) {
    const auto byte = [&](std::size_t at) { return static_cast<unsigned char>(text[at]); };
    const std::uint32_t lead = byte(0);
    if (lead < 0x80) return {lead, 1};
    const std::size_t bytes = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
    if (lead < 0xc2 || lead > 0xf4 || text.size() < bytes) return {};
    std::uint32_t code = lead & (0x7fU >> bytes);
    for (std::size_t i = 1; i < bytes; ++i) {
        if ((byte(i) & 0xc0U) != 0x80) return {};
        code = (code << 6U) | (byte(i) & 0x3fU);
    }
    const bool overlong = (bytes == 3 && code < 0x800) || (bytes == 4 && code < 0x10000);
    const bool beyond = code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff);
    if (overlong || beyond) return {};
    return {code, bytes};
}

bool is_control(std::uint32_t code) {
    const bool c0_or_c1 = code < 0x20 || (code >= 0x7f && code < 0xa0);
    const bool line_end = code == 0x2028 || code == 0x2029;
    const bool direction =
        code == 0x200e || code == 0x200f || (code >= 0x202a && code <= 0x202e) || (code >= 0x2066 && code <= 0x2069);
    return c0_or_c1 || line_end || direction;
}

void append_hex(std::string& out, std::uint32_t value, unsigned digits) {
    for (unsigned left = digits; left > 0; --left) out += "0123456789abcdef"[(value >> ((left - 1) * 4)) & 15U];
}

void append_escaped(std::string& out, std::uint32_t code) {
    if (code == '\n') {
        out += "\\n";
    } else if (code < 0x100) {
        out += "\\x";
        append_hex(out, code, 2);
    } else {
        out += "\\u";
        append_hex(out, code, 4);
    }
}

}  // namespace

std::string terminal_text(std::string_view text) {
    std::string result;
    result.reserve(text.size());
    while (!text.empty()) {
        const Character character = first_character(text);
        if (character.bytes == 0)
            append_escaped(result, static_cast<unsigned char>(text.front()));
        else if (is_control(character.code))
            append_escaped(result, character.code);
        else
            result += text.substr(0, character.bytes);
        text.remove_prefix(character.bytes == 0 ? 1 : character.bytes);
    }
    return result;
}

}  // namespace outbox
