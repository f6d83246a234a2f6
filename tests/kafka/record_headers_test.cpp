#include "kafka/record_headers.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

namespace outbox {

namespace {

using Pairs = std::vector<std::pair<std::string, std::string>>;

constexpr EventId some_event{0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef,
                             0x00, 0x10, 0x20, 0x30, 0x40, 0x50, 0x60, 0xff};
constexpr std::int64_t us_per_second = 1'000'000;

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

RowContent row_with(std::string_view json) {
    RowContent row;
    row.headers = json;
    row.event_id = some_event;
    return row;
}

// The row's own headers alone.
Pairs own_headers(RecordHeaders& headers, std::string_view json) {
    const KafkaHeaders made = headers.of(row_with(json));
    REQUIRE(made);
    Pairs pairs = pairs_in(made.get());
    REQUIRE(pairs.size() >= 2);
    pairs.resize(pairs.size() - 2);
    return pairs;
}

}  // namespace

TEST_CASE("the row's headers come first and in their order, then id and created_at") {
    RecordHeaders headers;
    const KafkaHeaders made = headers.of(row_with(R"({"z": "1", "a": "2", "m": ""})"));
    REQUIRE(made);
    CHECK(pairs_in(made.get()) == Pairs{{"z", "1"},
                                        {"a", "2"},
                                        {"m", ""},
                                        {"id", "01234567-89ab-cdef-0010-2030405060ff"},
                                        {"created_at", "2000-01-01T00:00:00.000000Z"}});
}

TEST_CASE("a row without headers carries id and created_at") {
    RecordHeaders headers;
    CHECK(own_headers(headers, "{}").empty());
    CHECK(own_headers(headers, " { } ").empty());
}

TEST_CASE("escapes in headers become the characters they stand for") {
    RecordHeaders headers;
    CHECK(own_headers(headers, R"({"\u00fc": "\"\\\/\b\f\n\r\t"})") == Pairs{{"ü", "\"\\/\b\f\n\r\t"}});
    CHECK(own_headers(headers, R"({"k": "\ud83d\ude00 \u20ac"})") == Pairs{{"k", "😀 €"}});
    CHECK(own_headers(headers, "{\"grüße\": \"日本\"}") == Pairs{{"grüße", "日本"}});
    CHECK(own_headers(headers, R"({"": ""})") == Pairs{{"", ""}});
}

TEST_CASE("headers that are not an object of strings are refused") {
    RecordHeaders headers;
    for (const char* json : {"",
                             "null",
                             "1",
                             "\"a\"",
                             "[]",
                             R"(["a"])",
                             R"({"a": 1})",
                             R"({"a": -1})",
                             R"({"a": 1.5})",
                             R"({"a": null})",
                             R"({"a": true})",
                             R"({"a": []})",
                             R"({"a": {}})",
                             R"({"a": {"b": "c"}})",
                             R"({"a": "b")",
                             R"({"a": "b"} x)",
                             R"({"a": "b"}{})",
                             R"({"a": "\ud83d"})",
                             R"({a: "b"})",
                             "{\"a\": \"\xff\"}",
                             "{\"a\": \"\n\"}"}) {
        CAPTURE(json);
        CHECK_FALSE(headers.of(row_with(json)));
    }
}

TEST_CASE("headers that repeat do not leak into rows that have others") {
    RecordHeaders headers;
    const std::string first = R"({"a": "1", "b": "2"})";
    for (int i = 0; i < 3; ++i) CHECK(own_headers(headers, first) == Pairs{{"a", "1"}, {"b", "2"}});
    CHECK(own_headers(headers, R"({"a": "1"})") == Pairs{{"a", "1"}});
    CHECK(own_headers(headers, "{}").empty());
    CHECK(own_headers(headers, first) == Pairs{{"a", "1"}, {"b", "2"}});
}

TEST_CASE("refused headers leave nothing behind for the next row") {
    RecordHeaders headers;
    const std::string good = R"({"a": "1"})";
    const std::string bad = R"({"a": "1", "b": 2})";
    CHECK(own_headers(headers, good) == Pairs{{"a", "1"}});
    CHECK_FALSE(headers.of(row_with(bad)));
    CHECK_FALSE(headers.of(row_with(bad)));
    CHECK(own_headers(headers, "{}").empty());
    CHECK(own_headers(headers, good) == Pairs{{"a", "1"}});
}

TEST_CASE("the memo does not keep the batch the text came from") {
    RecordHeaders headers;
    std::string text = R"({"a": "1"})";
    CHECK(own_headers(headers, text) == Pairs{{"a", "1"}});
    text = R"({"a": "2"})";  // the same place in memory, as a libpq buffer may be
    CHECK(own_headers(headers, text) == Pairs{{"a", "2"}});
}

TEST_CASE("id and created_at are the row's own also when its headers repeat") {
    RecordHeaders headers;
    RowContent row = row_with(R"({"a": "1"})");
    static_cast<void>(headers.of(row));
    row.event_id = {};
    row.created_at_us = 1;
    const KafkaHeaders made = headers.of(row);
    REQUIRE(made);
    CHECK(pairs_in(made.get()) == Pairs{{"a", "1"},
                                        {"id", "00000000-0000-0000-0000-000000000000"},
                                        {"created_at", "2000-01-01T00:00:00.000001Z"}});
}

TEST_CASE("created_at is written in UTC with microseconds") {
    CHECK(format_timestamp(0) == "2000-01-01T00:00:00.000000Z");
    CHECK(format_timestamp(-1) == "1999-12-31T23:59:59.999999Z");
    CHECK(format_timestamp(59 * 86400 * us_per_second) == "2000-02-29T00:00:00.000000Z");
    // SELECT extract(epoch FROM timestamptz '2026-11-21 09:00:00.123456+00' - '2000-01-01 00:00+00')
    CHECK(format_timestamp(848566800 * us_per_second + 123456) == "2026-11-21T09:00:00.123456Z");
    CHECK(format_timestamp(-946684800 * us_per_second) == "1970-01-01T00:00:00.000000Z");
}

TEST_CASE("a created_at beyond the years 1 to 9999 becomes the nearest one that can be written") {
    CHECK(format_timestamp(std::numeric_limits<std::int64_t>::max()) == "9999-12-31T23:59:59.999999Z");
    CHECK(format_timestamp(std::numeric_limits<std::int64_t>::min()) == "0001-01-01T00:00:00.000000Z");
    CHECK(format_timestamp(252455616000 * us_per_second) == "9999-12-31T23:59:59.999999Z");
}

TEST_CASE("times that follow each other are written whole, whether their second is the same or not") {
    TimestampFormat format;
    constexpr std::int64_t nine = 848566800 * us_per_second;
    CHECK(format(nine + 123456) == "2026-11-21T09:00:00.123456Z");
    CHECK(format(nine + 7) == "2026-11-21T09:00:00.000007Z");
    CHECK(format(nine - 1) == "2026-11-21T08:59:59.999999Z");
    CHECK(format(nine + us_per_second) == "2026-11-21T09:00:01.000000Z");
    CHECK(format(nine + 2 * us_per_second) == "2026-11-21T09:00:02.000000Z");
    CHECK(format(std::numeric_limits<std::int64_t>::min()) == "0001-01-01T00:00:00.000000Z");
    CHECK(format(nine + 86400 * us_per_second) == "2026-11-22T09:00:00.000000Z");
    CHECK(TimestampFormat()(-946684800 * us_per_second + 1) ==
          "1970-01-01T00:00:00.000001Z");  // the epoch's own second
}

}  // namespace outbox
