#include "config/values.hpp"

#include <doctest/doctest.h>

namespace outbox {

TEST_CASE("a duration is a whole number with a unit") {
    CHECK(parse_duration("500us") == Duration(std::chrono::microseconds(500)));
    CHECK(parse_duration("20ms") == Duration(std::chrono::milliseconds(20)));
    CHECK(parse_duration("3s") == Duration(std::chrono::seconds(3)));
    CHECK(parse_duration("1m") == Duration(std::chrono::minutes(1)));
    CHECK(parse_duration("2h") == Duration(std::chrono::hours(2)));
    for (const std::string text : {"", "3", "s", "3 s", "-3s", "1.5s", "3S", "3sec", "+3s", "99999999999999999999s",
                                   "9223372036854775807s", "3s "}) {
        CHECK_FALSE(parse_duration(text).has_value());
    }
}

TEST_CASE("a size is a whole number with a binary unit") {
    CHECK(parse_size("512B") == 512);
    CHECK(parse_size("64KiB") == 65536);
    CHECK(parse_size("32MiB") == 33554432);
    CHECK(parse_size("8GiB") == 8589934592);
    for (const std::string text : {"", "32", "32MB", "32mib", "MiB", "-1MiB", "1.5GiB", "18446744073709551615GiB"}) {
        CHECK_FALSE(parse_size(text).has_value());
    }
}

TEST_CASE("durations and sizes are written so that they read back as the same") {
    for (const std::string text : {"500us", "20ms", "3s", "90s", "1m", "1h"})
        CHECK(duration_text(*parse_duration(text)) == text);
    for (const std::string text : {"513B", "64KiB", "32MiB", "8GiB"}) CHECK(size_text(*parse_size(text)) == text);
    CHECK(duration_text(*parse_duration("1000ms")) == "1s");
}

TEST_CASE("a topic pattern is a Kafka name or a prefix with one star at its end") {
    for (const std::string text : {"*", "orders", "orders.v1-*", "_private", "..."}) {
        CHECK_MESSAGE(is_topic_pattern(text), text);
    }
    for (const std::string text : {"", ".", "..", "a*b", "**", "a b", "ä", "__consumer_offsets", "__*", "a/b", "a\n"}) {
        CHECK_FALSE_MESSAGE(is_topic_pattern(text), text);
    }
    CHECK(is_topic_pattern(std::string(249, 'x')));
    CHECK_FALSE(is_topic_pattern(std::string(250, 'x')));
}

TEST_CASE("an address to listen on is a host and a port") {
    for (const std::string text : {"127.0.0.1:9464", "0.0.0.0:1", "[::1]:9464", "localhost:65535"}) {
        CHECK_MESSAGE(is_listen_address(text), text);
    }
    for (const std::string text : {"9464", ":9464", "localhost:", "localhost:x", "localhost:65536", "::1:9464",
                                   "[]:9464", "a,b:9464", "127.0.0.1:9464s", "127.0.0.1:9464,8080"}) {
        CHECK_FALSE_MESSAGE(is_listen_address(text), text);
    }
}

TEST_CASE("a near name is found, a far one is not") {
    const std::vector<std::string> names{"workers", "lease_ttl", "batch_rows"};
    CHECK(nearest("worker", names) == "workers");
    CHECK(nearest("lease-ttl", names) == "lease_ttl");
    CHECK(nearest("bacth_rows", names) == "batch_rows");
    CHECK_FALSE(nearest("colour", names).has_value());
    CHECK_FALSE(nearest("", names).has_value());
}

TEST_CASE("a value shown in a message stays on one short line") {
    CHECK(printable("a\nb\x1b") == "\"a?b?\"");
    CHECK(printable(std::string(200, 'x')).size() < 100);
}

}  // namespace outbox
