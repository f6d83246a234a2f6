// What the fuzzers share: the bytes they are given, taken apart, and the word for what must hold.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace outbox::fuzzing {

// libFuzzer takes an abort for a finding, and keeps the input.
inline void require(bool holds, std::string_view sentence, std::string_view seen = {}) {
    if (holds) return;
    std::fprintf(stderr, "does not hold: %.*s\nseen: ", static_cast<int>(sentence.size()), sentence.data());
    for (const char letter : seen)
        std::fprintf(stderr, letter >= ' ' || letter == '\n' ? "%c" : "\\x%02x", static_cast<unsigned char>(letter));
    std::fputc('\n', stderr);
    std::abort();
}

class Input {
public:
    Input(const std::uint8_t* data, std::size_t size) : rest_(reinterpret_cast<const char*>(data), size) {}

    bool empty() const { return rest_.empty(); }
    std::string_view rest() const { return rest_; }
    std::uint8_t byte() { return empty() ? std::uint8_t{0} : static_cast<std::uint8_t>(take(1).front()); }
    std::string_view take(std::size_t bytes) {
        const std::string_view taken = rest_.substr(0, bytes);
        rest_.remove_prefix(taken.size());
        return taken;
    }
    // Up to the separator, which is dropped; the rest where there is none.
    std::string_view until(std::string_view separator) {
        const std::size_t end = std::min(rest_.find(separator), rest_.size());
        const std::string_view part = take(end);
        take(separator.size());
        return part;
    }

private:
    std::string_view rest_;
};

// As a terminal and a log take it: no control character, and UTF-8.
inline bool is_plain_line(std::string_view text) {
    return std::none_of(text.begin(), text.end(), [](char letter) {
        const auto code = static_cast<unsigned char>(letter);
        return code < 0x20 || code == 0x7f;
    });
}

}  // namespace outbox::fuzzing
