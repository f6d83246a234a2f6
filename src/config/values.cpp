#include "config/values.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <limits>
#include <numeric>

namespace outbox {

namespace {

struct Unit {
    std::string_view name;
    std::uint64_t factor;
};

// Largest first.
constexpr std::array<Unit, 5> duration_units{{
    {"h", 3'600'000'000'000},
    {"m", 60'000'000'000},
    {"s", 1'000'000'000},
    {"ms", 1'000'000},
    {"us", 1'000},
}};
constexpr std::array<Unit, 4> size_units{{
    {"GiB", std::uint64_t{1} << 30U},
    {"MiB", std::uint64_t{1} << 20U},
    {"KiB", std::uint64_t{1} << 10U},
    {"B", 1},
}};

template <class Units>
std::optional<std::uint64_t> parse_with_unit(std::string_view text, const Units& units) {
    const std::size_t digits = std::min(text.find_first_not_of("0123456789"), text.size());
    const auto count = parse_count(text.substr(0, digits));
    if (!count) return std::nullopt;
    for (const Unit& unit : units) {
        if (text.substr(digits) != unit.name) continue;
        // Durations are signed 64 bit; sizes stay far below as well.
        const auto most = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()) / unit.factor;
        return *count <= most ? std::optional(*count * unit.factor) : std::nullopt;
    }
    return std::nullopt;
}

template <class Units>
std::string text_with_unit(std::uint64_t value, const Units& units) {
    for (const Unit& unit : units) {
        if (value >= unit.factor && value % unit.factor == 0) {
            return std::to_string(value / unit.factor) + std::string(unit.name);
        }
    }
    return "0" + std::string(units.back().name);
}

bool is_topic_letter(unsigned char letter) {
    return (letter >= 'a' && letter <= 'z') || (letter >= 'A' && letter <= 'Z') || (letter >= '0' && letter <= '9') ||
           letter == '.' || letter == '_' || letter == '-';
}

std::size_t edit_distance(std::string_view left, std::string_view right) {
    std::vector<std::size_t> row(right.size() + 1);
    std::iota(row.begin(), row.end(), std::size_t{0});
    for (std::size_t i = 0; i < left.size(); ++i) {
        std::size_t diagonal = row[0];
        row[0] = i + 1;
        for (std::size_t j = 0; j < right.size(); ++j) {
            const std::size_t replaced = diagonal + (left[i] == right[j] ? 0 : 1);
            diagonal = row[j + 1];
            row[j + 1] = std::min({replaced, row[j] + 1, row[j + 1] + 1});
        }
    }
    return row.back();
}

}  // namespace

std::optional<std::uint64_t> parse_count(std::string_view text) {
    std::uint64_t value = 0;
    const char* const end = text.data() + text.size();
    const auto [stop, error] = std::from_chars(text.data(), end, value);
    if (text.empty() || error != std::errc() || stop != end) return std::nullopt;
    return value;
}

std::optional<Duration> parse_duration(std::string_view text) {
    const auto nanoseconds = parse_with_unit(text, duration_units);
    if (!nanoseconds) return std::nullopt;
    return Duration(static_cast<Duration::rep>(*nanoseconds));
}

std::optional<std::uint64_t> parse_size(std::string_view text) {
    return parse_with_unit(text, size_units);
}

std::string duration_text(Duration duration) {
    return text_with_unit(static_cast<std::uint64_t>(duration.count()), duration_units);
}

std::string size_text(std::uint64_t bytes) {
    return text_with_unit(bytes, size_units);
}

bool is_topic_pattern(std::string_view text) {
    const bool prefix = text.ends_with('*');
    const std::string_view name = prefix ? text.substr(0, text.size() - 1) : text;
    if (name.starts_with("__") || name.size() > 249) return false;
    if (!std::all_of(name.begin(), name.end(), is_topic_letter)) return false;
    return prefix || (!name.empty() && name != "." && name != "..");
}

bool is_listen_address(std::string_view text) {
    const std::size_t colon = text.rfind(':');
    if (colon == std::string_view::npos || colon == 0) return false;
    const auto port = parse_count(text.substr(colon + 1));
    if (!port || *port > 65535) return false;
    std::string_view host = text.substr(0, colon);
    if (host.starts_with('[') && host.ends_with(']') && host.size() > 2) {
        host = host.substr(1, host.size() - 2);
        return host.find_first_not_of("0123456789abcdefABCDEF:.") == std::string_view::npos;
    }
    return host.size() <= 253 && std::all_of(host.begin(), host.end(), is_topic_letter);
}

std::optional<std::string> nearest(std::string_view given, const std::vector<std::string>& names) {
    if (given.size() > 100) return std::nullopt;
    std::size_t least = given.size() / 4 + 2;  // farther is another word
    std::optional<std::string> found;
    for (const std::string& name : names) {
        const std::size_t distance = edit_distance(given, name);
        if (distance >= least || distance >= name.size()) continue;
        least = distance;
        found = name;
    }
    return found;
}

std::string one_line(std::string_view text) {
    std::string result(text);
    for (char& letter : result) {
        const auto code = static_cast<unsigned char>(letter);
        if (code < 0x20 || code == 0x7f) letter = '?';
    }
    return result;
}

std::string printable(std::string_view text) {
    constexpr std::size_t shown_max = 80;
    return "\"" + one_line(text.substr(0, shown_max)) + (text.size() > shown_max ? "…\"" : "\"");
}

std::string printable_name(std::string_view text) {
    const std::string shown = printable(text);
    return shown.substr(1, shown.size() - 2);
}

}  // namespace outbox
