// How a value is written: durations, sizes, whole numbers, topics, addresses. Pure; any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/time.hpp"

namespace outbox {

std::optional<std::uint64_t> parse_count(std::string_view text);  // 0, 42
std::optional<Duration> parse_duration(std::string_view text);    // 500us, 20ms, 3s, 1m, 1h
std::optional<std::uint64_t> parse_size(std::string_view text);   // 512B, 64KiB, 32MiB, 8GiB

std::string duration_text(Duration duration);  // in the largest unit that is exact
std::string size_text(std::uint64_t bytes);

// Whether it is a topic's name, or a prefix of one ending in *, and none of Kafka's own (__…).
bool is_topic_pattern(std::string_view text);
// Whether it is HOST:PORT, with an IPv6 address in brackets.
bool is_listen_address(std::string_view text);

// What the operator may have meant; nothing when no name is near.
std::optional<std::string> nearest(std::string_view given, const std::vector<std::string>& names);

std::string one_line(std::string_view text);  // control characters replaced

// Safe to show on one line: quoted, control characters replaced, cut where it is long.
std::string printable(std::string_view text);
std::string printable_name(std::string_view text);  // without the quotes

}  // namespace outbox
