// How values are written: durations, sizes, topics, addresses, and what is shown of them.
// Holds: what is parsed is written back with the same meaning; what is shown is short and one line.
#include "config/values.hpp"
#include "core/topics.hpp"
#include "fuzz/fuzzing.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace outbox;
    using namespace outbox::fuzzing;
    const std::string_view text(reinterpret_cast<const char*>(data), size);

    if (const auto duration = parse_duration(text)) {
        require(*duration >= Duration::zero(), "no duration is negative", text);
        require(parse_duration(duration_text(*duration)) == duration, "a duration keeps its meaning", text);
    }
    if (const auto bytes = parse_size(text)) {
        require(parse_size(size_text(*bytes)) == bytes, "a size keeps its meaning", text);
    }
    if (const auto count = parse_count(text)) {
        require(parse_count(std::to_string(*count)) == count, "a count keeps its meaning", text);
        require(text.find_first_not_of("0123456789") == std::string_view::npos, "a count is digits", text);
    }
    const bool pattern = is_topic_pattern(text);
    if (pattern && !text.ends_with('*')) require(is_topic_name(text), "a pattern without * is a topic's name", text);
    if (is_topic_name(text) && !text.starts_with("__")) require(pattern, "a topic's name is a pattern", text);
    if (is_listen_address(text)) {
        require(is_plain_line(text) && text.find_first_of(" ,") == std::string_view::npos, "one address", text);
    }
    const std::string shown = printable(text);
    require(is_plain_line(shown) && shown.size() < 100, "what is shown is short and one line", shown);
    const auto near = nearest(text, {"lease_ttl", "workers", "in_flight_rows"});
    require(!near || near->size() < 20, "what is near is one of the names");
    return 0;
}
