// An event that `verify` writes and knows again: its payload names the run, the key, the place within the key and
// whether its transaction was meant to roll back. Pure; any thread.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace outbox {

struct MarkedEvent {
    std::uint32_t key = 0;       // from 0
    std::uint64_t sequence = 0;  // from 1, within the key, in the order of writing
    bool doomed = false;         // its transaction rolls back: nobody may ever see it

    auto operator<=>(const MarkedEvent&) const = default;
};

// A record's header of this name holds the run's id.
inline constexpr std::string_view run_header = "outbox-verify";

std::string marked_key(std::string_view run, std::uint32_t key);

// JSON, padded to `bytes` where the mark alone is shorter.
std::string marked_payload(std::string_view run, const MarkedEvent& event, std::size_t bytes);

// Nothing unless key and payload are, to the byte, what was written for some event of this run.
std::optional<MarkedEvent> read_mark(std::string_view run, std::string_view key, std::string_view payload,
                                     std::size_t bytes);

}  // namespace outbox
