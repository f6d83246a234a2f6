#include "telemetry/log_line.hpp"

#include <doctest/doctest.h>

#include <array>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

using namespace outbox;

namespace {

LogLine line(std::string_view text, std::span<const LogField> fields = {}) {
    return {LogLevel::info, "lanes_acquired", text, fields};
}

nlohmann::json parsed(const LogLine& what) {
    return nlohmann::json::parse("{" + json_members_of(what));
}

}  // namespace

TEST_CASE("a text line holds level, event, text and fields") {
    const std::array fields{LogField("lanes", 32), LogField("rank", std::uint64_t{1}), LogField("share", 0.5),
                            LogField("paused", false), LogField("topic", "orders.v1")};
    CHECK(text_of(line("acquired 32 lanes", fields)) ==
          "info  lanes_acquired  acquired 32 lanes  lanes=32 rank=1 share=0.5 paused=false topic=orders.v1");
}

TEST_CASE("levels are padded to one width") {
    CHECK(text_of({LogLevel::debug, "e", "t", {}}) == "debug e  t");
    CHECK(text_of({LogLevel::warn, "e", "t", {}}) == "warn  e  t");
    CHECK(text_of({LogLevel::error, "e", "t", {}}) == "error e  t");
}

TEST_CASE("a value that is not one word is quoted") {
    const std::array fields{LogField("error", R"(role "x" does not exist)"), LogField("empty", ""),
                            LogField("pair", "a=b")};
    CHECK(text_of(line("t", fields)) ==
          R"(info  lanes_acquired  t  error="role \"x\" does not exist" empty="" pair="a=b")");
}

TEST_CASE("quotes and backslashes in the text stay as they are") {
    CHECK(text_of(line(R"(role "x" in C:\new)")) == R"(info  lanes_acquired  role "x" in C:\new)");
}

TEST_CASE("text from outside cannot start a line or steer a terminal") {
    const std::string hostile =
        "a\nerror forged  x\r\x1b[31m\x7f\xc2\x9b"
        "2J";
    const std::array fields{LogField("value", hostile)};
    for (const std::string& shown : {text_of(line(hostile)), text_of(line("t", fields))}) {
        CHECK(shown.find_first_of("\n\r\x1b\x7f") == std::string::npos);
        CHECK(shown.find("\xc2\x9b") == std::string::npos);
        CHECK(shown.find("\\n") != std::string::npos);
        CHECK(shown.find("\\u001b[31m\\u007f\\u009b2J") != std::string::npos);
    }
    const std::string json = json_members_of(line(hostile, fields));
    CHECK(json.find_first_of("\n\r\x1b\x7f") == std::string::npos);
    CHECK(json.find("\xc2\x9b") == std::string::npos);
    CHECK(parsed(line(hostile, fields))["msg"] == hostile);
}

TEST_CASE("invalid UTF-8 is replaced in both formats") {
    CHECK(text_of(line("a\xff"
                       "b")) ==
          "info  lanes_acquired  a\xef\xbf\xbd"
          "b");
    CHECK(parsed(line("a\xff"
                      "b"))["msg"] ==
          "a\xef\xbf\xbd"
          "b");
}

TEST_CASE("a JSON line has its fixed keys first and its fields with their types") {
    const std::array fields{LogField("lanes", 32), LogField("share", 0.5), LogField("paused", true),
                            LogField("topic", "orders")};
    CHECK(
        json_members_of(line("acquired", fields)) ==
        R"("level":"info","event":"lanes_acquired","msg":"acquired","lanes":32,"share":0.5,"paused":true,"topic":"orders"})");
}

TEST_CASE("a field cannot replace a fixed key") {
    const std::array fields{LogField("level", "fake"), LogField("msg", "fake"), LogField("ts", "fake")};
    const auto json = parsed(line("real", fields));
    CHECK(json["level"] == "info");
    CHECK(json["msg"] == "real");
    CHECK_FALSE(json.contains("ts"));
}
