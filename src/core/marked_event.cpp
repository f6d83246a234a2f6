#include "core/marked_event.hpp"

#include <charconv>

namespace outbox {

namespace {

constexpr std::string_view key_field = R"(,"key":)";
constexpr std::string_view sequence_field = R"(,"sequence":)";
constexpr std::string_view fate_field = R"(,"fate":")";

// The number behind `field`, which `text` then no longer holds.
template <class Number>
std::optional<Number> number_after(std::string_view field, std::string_view& text) {
    const std::size_t at = text.find(field);
    if (at == std::string_view::npos) return std::nullopt;
    text.remove_prefix(at + field.size());
    Number number{};
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (error != std::errc()) return std::nullopt;
    return number;
}

}  // namespace

std::string marked_key(std::string_view run, std::uint32_t key) {
    return "verify-" + std::string(run) + "-" + std::to_string(key);
}

std::string marked_payload(std::string_view run, const MarkedEvent& event, std::size_t bytes) {
    std::string payload = R"({"verify":")";
    payload.append(run).append(1, '"');
    payload.append(key_field).append(std::to_string(event.key));
    payload.append(sequence_field).append(std::to_string(event.sequence));
    payload.append(fate_field).append(event.doomed ? "rollback" : "commit");
    payload.append(R"(","padding":")");
    constexpr std::string_view tail = R"("})";
    if (payload.size() + tail.size() < bytes) payload.append(bytes - payload.size() - tail.size(), 'x');
    return payload.append(tail);
}

std::optional<MarkedEvent> read_mark(std::string_view run, std::string_view key, std::string_view payload,
                                     std::size_t bytes) {
    std::string_view rest = payload.substr(0, 256);  // padding comes after the marks
    const auto key_number = number_after<std::uint32_t>(key_field, rest);
    const auto sequence = number_after<std::uint64_t>(sequence_field, rest);
    if (!key_number || !sequence) return std::nullopt;
    const std::size_t fate = rest.find(fate_field);
    if (fate == std::string_view::npos) return std::nullopt;
    const MarkedEvent event{*key_number, *sequence, rest.substr(fate + fate_field.size()).starts_with("rollback")};
    if (key != marked_key(run, event.key) || payload != marked_payload(run, event, bytes)) return std::nullopt;
    return event;
}

}  // namespace outbox
