#include "core/latency_histogram.hpp"

#include <doctest/doctest.h>

namespace outbox {

using namespace std::chrono_literals;

TEST_CASE("no latency at all reads as zero") {
    const LatencyHistogram none;
    CHECK(none.count() == 0);
    CHECK(none.percentile_ms(0.99) == 0);
    CHECK(none.max_ms() == 0);
}

TEST_CASE("percentiles of a thousand latencies are within one percent") {
    LatencyHistogram histogram;
    for (int i = 1000; i >= 1; --i) histogram.add(std::chrono::milliseconds(i));
    CHECK(histogram.count() == 1000);
    CHECK(histogram.percentile_ms(0.5) == doctest::Approx(500).epsilon(0.01));
    CHECK(histogram.percentile_ms(0.9) == doctest::Approx(900).epsilon(0.01));
    CHECK(histogram.percentile_ms(0.99) == doctest::Approx(990).epsilon(0.01));
    CHECK(histogram.percentile_ms(0.999) == doctest::Approx(999).epsilon(0.01));
    CHECK(histogram.max_ms() == 1000);
}

TEST_CASE("every order of magnitude is within one percent, and never too small") {
    for (std::int64_t us = 1; us < 100'000'000'000; us = us * 3 + 1) {
        LatencyHistogram histogram;
        histogram.add(std::chrono::microseconds(us));
        histogram.add(365 * 24h);  // so that the maximum does not answer
        const double ms = static_cast<double>(us) / 1000;
        CHECK(histogram.percentile_ms(0.5) >= ms);
        CHECK(histogram.percentile_ms(0.5) <= ms * 1.01);
    }
}

TEST_CASE("the largest and the negative latency have a place") {
    LatencyHistogram histogram;
    histogram.add(Duration::max());
    histogram.add(-5ms);  // the consumer was faster than COMMIT's answer
    CHECK(histogram.percentile_ms(0.5) == 0);
    CHECK(histogram.percentile_ms(1) == histogram.max_ms());
}

}  // namespace outbox
