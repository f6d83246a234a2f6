// The headers column of a row: eight bytes of created_at, then JSON texts, one after the other on one RecordHeaders,
// separated by a zero byte (it remembers the last one).
//
// Holds: there are headers exactly where a JSON parser of its own sees an object of strings; they are valid UTF-8, all
// of them there and in their order; `id` and `created_at` come last and are well formed.
#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "fuzz/fuzzing.hpp"
#include "kafka/record_headers.hpp"

namespace outbox::fuzzing {
namespace {

using Pairs = std::vector<std::pair<std::string, std::string>>;

Pairs pairs_in(const rd_kafka_headers_t* headers) {
    Pairs pairs;
    const char* name = nullptr;
    const void* value = nullptr;
    std::size_t size = 0;
    for (std::size_t i = 0; rd_kafka_header_get_all(headers, i, &name, &value, &size) == RD_KAFKA_RESP_ERR_NO_ERROR;
         ++i)
        pairs.emplace_back(name, std::string(static_cast<const char*>(value), size));
    return pairs;
}

// The names and values of an object of strings, sorted by name; a name given twice has its last value.
std::optional<nlohmann::json> flat_object(std::string_view text) {
    auto json = nlohmann::json::parse(text, nullptr, false);
    if (!json.is_object()) return std::nullopt;
    for (const auto& value : json)
        if (!value.is_string()) return std::nullopt;
    return json;
}

bool is_utf8(const std::string& text) {
    try {
        static_cast<void>(nlohmann::json(text).dump());
        return true;
    } catch (const nlohmann::json::exception&) {
        return false;
    }
}

void check_own(const Pairs& own, const nlohmann::json& expected) {
    nlohmann::json seen = nlohmann::json::object();
    bool zero_in_name = false;  // a C string to librdkafka, and refused by jsonb
    for (const auto& [name, value] : expected.items()) zero_in_name |= name.find('\0') != std::string::npos;
    for (const auto& [name, value] : own) {
        require(is_utf8(name) && is_utf8(value), "names and values are UTF-8", name);
        seen[name] = value;
    }
    if (!zero_in_name) require(seen == expected, "every header of the row is there", seen.dump());
}

void check_last(const std::pair<std::string, std::string>& id, const std::pair<std::string, std::string>& created) {
    require(id.first == "id" && id.second == "01010101-0101-0101-0101-010101010101", "the event's id", id.second);
    const std::string& at = created.second;
    require(created.first == "created_at" && at.size() == 27 && at[4] == '-' && at[10] == 'T' && at[26] == 'Z' &&
                at.substr(0, 4) >= "0001" && at.substr(5, 2) >= "01" && at.substr(5, 2) <= "12" &&
                at.substr(11, 2) <= "23" && at.substr(14, 2) <= "59" && at.substr(17, 2) <= "59",
            "a time stamp", at);
}

}  // namespace
}  // namespace outbox::fuzzing

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace outbox;
    using namespace outbox::fuzzing;
    Input input(data, size);
    RecordHeaders headers;
    RowContent row;
    row.event_id.fill(1);
    const std::string_view created = input.take(sizeof row.created_at_us);
    std::memcpy(&row.created_at_us, created.data(), created.size());
    do {
        row.headers = input.until(std::string_view("\0", 1));
        const auto expected = flat_object(row.headers);
        const KafkaHeaders made = headers.of(row);
        require((made != nullptr) == expected.has_value(), "headers where there is an object of strings", row.headers);
        if (!made) continue;
        Pairs pairs = pairs_in(made.get());
        require(pairs.size() >= expected->size() + 2, "all headers and two more", row.headers);
        check_last(pairs[pairs.size() - 2], pairs.back());
        pairs.resize(pairs.size() - 2);
        check_own(pairs, *expected);
    } while (!input.empty());
    return 0;
}
