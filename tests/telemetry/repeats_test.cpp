#include "telemetry/repeats.hpp"

#include <doctest/doctest.h>

using namespace outbox;
using namespace std::chrono_literals;

namespace {
constexpr Instant start{1000s};
}

TEST_CASE("the first few of a minute are printed, the next minute tells how many were not") {
    Repeats repeats(2);
    CHECK(repeats.seen("lost", start).print);
    CHECK(repeats.seen("lost", start + 1s).print);
    for (int i = 0; i < 5; ++i) CHECK_FALSE(repeats.seen("lost", start + 2s).print);
    const auto later = repeats.seen("lost", start + 60s);
    CHECK(later.print);
    CHECK(later.suppressed == 5);
    CHECK(repeats.seen("lost", start + 61s).suppressed == 0);
}

TEST_CASE("events are counted apart") {
    Repeats repeats(1);
    CHECK(repeats.seen("a", start).print);
    CHECK(repeats.seen("b", start).print);
    CHECK_FALSE(repeats.seen("a", start).print);
}

TEST_CASE("what was suppressed is told once, after its minute, when the event does not come again") {
    Repeats repeats(1);
    repeats.seen("a", start);
    repeats.seen("a", start);
    repeats.seen("quiet", start);
    CHECK(repeats.ended(start + 59s).empty());
    const auto ended = repeats.ended(start + 60s);
    REQUIRE(ended.size() == 1);
    CHECK(ended[0].event == "a");
    CHECK(ended[0].count == 1);
    CHECK(repeats.ended(start + 200s).empty());
    CHECK(repeats.seen("a", start + 201s).suppressed == 0);
}
