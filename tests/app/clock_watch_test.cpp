#include "app/clock_watch.hpp"

#include <doctest/doctest.h>

using namespace outbox;
using namespace std::chrono_literals;

namespace {

using WallTime = std::chrono::sys_time<std::chrono::milliseconds>;

}  // namespace

TEST_CASE("a clock that is set back is noticed once, and one that is set forward or slewed never") {
    ClockWatch watch;
    Instant boot{100s};
    WallTime wall{5'000s};
    CHECK_FALSE(watch.set_back(wall, boot));
    CHECK_FALSE(watch.set_back(wall += 10s, boot += 10s));
    CHECK_FALSE(watch.set_back(wall + 3600s, boot));
    CHECK(watch.set_back(wall, boot) == 3600s);
    CHECK_FALSE(watch.set_back(wall, boot));
    for (int second = 0; second < 100; ++second) CHECK_FALSE(watch.set_back(wall += 999ms, boot += 1s));
    CHECK(watch.set_back(wall - 1s, boot));
}
