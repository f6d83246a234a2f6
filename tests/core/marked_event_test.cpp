#include "core/marked_event.hpp"

#include <doctest/doctest.h>

#include <string>

namespace outbox {

namespace {

const std::string run = "0123456789abcdef";

std::optional<MarkedEvent> read(const std::string& payload, std::uint32_t key = 7, std::size_t bytes = 200) {
    return read_mark(run, marked_key(run, key), payload, bytes);
}

}  // namespace

TEST_CASE("a mark is read back as it was written") {
    for (const bool doomed : {false, true}) {
        const MarkedEvent event{7, 1'099'511'627'775, doomed};
        CHECK(read(marked_payload(run, event, 200)) == event);
    }
}

TEST_CASE("a payload has the size asked for, or that of the mark where that is more") {
    CHECK(marked_payload(run, {7, 1, false}, 200).size() == 200);
    CHECK(marked_payload(run, {7, 1, false}, 4096).size() == 4096);
    const std::string small = marked_payload(run, {7, 1, false}, 0);
    CHECK(small == R"({"verify":"0123456789abcdef","key":7,"sequence":1,"fate":"commit","padding":""})");
    CHECK(read(small, 7, 0) == MarkedEvent{7, 1, false});
}

TEST_CASE("a record that differs in one byte, key or length is no event of the run") {
    const std::string good = marked_payload(run, {7, 1, false}, 200);
    for (std::size_t i = 0; i < good.size(); ++i) {
        std::string bad = good;
        bad[i] = '#';
        CHECK_FALSE(read(bad).has_value());
    }
    CHECK_FALSE(read(good, 8).has_value());
    CHECK_FALSE(read(good.substr(0, 199)).has_value());
    CHECK_FALSE(read(good + " ").has_value());
    CHECK_FALSE(read_mark("another", marked_key("another", 7), good, 200).has_value());
}

TEST_CASE("numbers that do not fit, signs and nothing at all are no mark") {
    for (const char* const payload :
         {"", R"({"verify":"0123456789abcdef","key":)", R"(,"key":99999999999,"sequence":1,"fate":"commit")",
          R"(,"key":-7,"sequence":1,"fate":"commit")", R"(,"key":7,"sequence":99999999999999999999,"fate":"commit")"})
        CHECK_FALSE(read(payload).has_value());
}

}  // namespace outbox
