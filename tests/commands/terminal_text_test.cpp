#include "commands/terminal_text.hpp"

#include <doctest/doctest.h>

using outbox::terminal_text;

TEST_CASE("text without control characters is printed as it is") {
    CHECK(terminal_text("").empty());
    CHECK(terminal_text("order-7 \\ \"x\" \xc3\xbc \xe2\x82\xac \xf0\x9f\x8e\xb2") ==
          "order-7 \\ \"x\" \xc3\xbc \xe2\x82\xac \xf0\x9f\x8e\xb2");
}

TEST_CASE("what a terminal would obey is escaped") {
    CHECK(terminal_text("a\nb\tc\r") == "a\\nb\\x09c\\x0d");
    CHECK(terminal_text("\x1b[31mred\x7f") == "\\x1b[31mred\\x7f");
    CHECK(terminal_text(std::string_view("a\0b", 3)) == "a\\x00b");
    CHECK(terminal_text("\xc2\x9b"
                        "31m") == "\\x9b31m");  // CSI as one C1 character
    CHECK(terminal_text("\xe2\x80\xae"
                        "txt") == "\\u202etxt");  // turns the direction round
    CHECK(terminal_text("\xe2\x80\xa8") == "\\u2028");
}

TEST_CASE("bytes that are not UTF-8 are escaped one by one") {
    CHECK(terminal_text("\xff"
                        "a") == "\\xffa");
    CHECK(terminal_text("a\xc3") == "a\\xc3");                           // cut off
    CHECK(terminal_text("\xc0\x9b") == "\\xc0\\x9b");                    // overlong
    CHECK(terminal_text("\xe0\x82\x9b") == "\\xe0\\x82\\x9b");           // overlong
    CHECK(terminal_text("\xed\xa0\x80") == "\\xed\\xa0\\x80");           // a surrogate
    CHECK(terminal_text("\xf4\x90\x80\x80") == "\\xf4\\x90\\x80\\x80");  // beyond Unicode
}
