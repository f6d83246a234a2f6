#include "core/verification.hpp"

#include <doctest/doctest.h>

namespace outbox {

namespace {

using namespace std::chrono_literals;

constexpr Instant start{1h};

MarkedEvent event(std::uint64_t sequence, std::uint32_t key = 0) {
    return {key, sequence, false};
}

Verification with_committed(std::uint64_t events) {
    Verification verification(4);
    for (std::uint64_t i = 1; i <= events; ++i) verification.committed(event(i), start);
    return verification;
}

// Nothing is wrong but what the test names itself.
struct Wrong {
    std::uint64_t lost = 0;
    std::uint64_t phantom = 0;
    std::uint64_t reordered = 0;
    std::uint64_t duplicated = 0;
};

Verdict check(Verification& verification, const Wrong& wrong) {
    Verdict verdict = verification.finish();
    CHECK(verdict.lost.events == wrong.lost);
    CHECK(verdict.phantom.events == wrong.phantom);
    CHECK(verdict.reordered.events == wrong.reordered);
    CHECK(verdict.duplicated.events == wrong.duplicated);
    return verdict;
}

}  // namespace

TEST_CASE("what is committed and seen once and in order is all well, with its latency") {
    Verification verification = with_committed(3);
    CHECK(verification.outstanding() == 3);
    for (std::uint64_t i = 1; i <= 3; ++i) verification.seen(event(i), start + 5ms);
    CHECK(verification.outstanding() == 0);
    const Verdict verdict = check(verification, {});
    CHECK(verdict.committed == 3);
    CHECK(verdict.delivered == 3);
    CHECK(verdict.latency.count() == 3);
    CHECK(verdict.latency.max_ms() == 5);
}

TEST_CASE("what is committed and not seen is lost, and named") {
    Verification verification = with_committed(3);
    verification.seen(event(1), start);
    verification.seen(event(3), start);
    const Verdict verdict = check(verification, {.lost = 1});
    REQUIRE(verdict.lost.first.size() == 1);
    CHECK(verdict.lost.first[0] == event(2));
}

TEST_CASE("an event that was to be rolled back and is seen is a phantom, before or after its writer reports") {
    Verification verification(4);
    const MarkedEvent doomed{0, 1, true};
    verification.seen(doomed, start);
    verification.rolled_back(doomed);
    verification.seen(doomed, start);
    const Verdict verdict = check(verification, {.phantom = 2});
    CHECK(verdict.rolled_back == 1);
    CHECK(verdict.phantom.first[0] == doomed);
}

TEST_CASE("an event whose transaction broke before COMMIT was sent is a phantom when it is seen") {
    Verification verification(4);
    verification.seen(event(1), start);
    verification.rolled_back(event(1));
    verification.rolled_back(event(2));
    verification.seen(event(2), start);
    check(verification, {.phantom = 2});
}

TEST_CASE("an event that nobody wrote is a phantom") {
    Verification verification = with_committed(1);
    verification.seen(event(1), start);
    verification.seen(event(2), start);                   // might still be reported, and is not
    verification.seen(event(2 + unreported_max), start);  // too far ahead of its writer
    verification.seen(event(1, 4), start);                // no such key
    verification.seen(event(0), start);                   // they are counted from 1
    verification.seen(event(UINT64_MAX, 3), start);
    verification.seen_altered();
    CHECK(check(verification, {.phantom = 6}).altered == 1);
}

TEST_CASE("an event seen again is a duplicate each time, and its order does not count again") {
    Verification verification = with_committed(2);
    for (const std::uint64_t i : {1U, 2U, 1U, 2U, 1U}) verification.seen(event(i), start);
    const Verdict verdict = check(verification, {.duplicated = 3});
    CHECK(verdict.delivered == 2);
    CHECK(verdict.latency.count() == 2);
}

TEST_CASE("an event first seen after a later one of its key is reordered") {
    Verification verification = with_committed(3);
    for (const std::uint64_t i : {2U, 1U, 3U}) verification.seen(event(i), start);
    const Verdict verdict = check(verification, {.reordered = 1});
    CHECK(verdict.reordered.first[0] == event(1));
}

TEST_CASE("different keys have no order between them") {
    Verification verification(4);
    verification.committed(event(1, 0), start);
    verification.committed(event(1, 1), start);
    verification.committed(event(2, 1), start);
    verification.seen(event(1, 1), start);
    verification.seen(event(2, 1), start);
    verification.seen(event(1, 0), start);
    check(verification, {});
}

TEST_CASE("a record that overtakes COMMIT's answer is delivered, in order, with no latency") {
    Verification verification(4);
    verification.seen(event(1), start);
    verification.seen(event(2), start);
    verification.committed(event(1), start + 1ms);
    verification.committed(event(2), start + 1ms);
    const Verdict verdict = check(verification, {});
    CHECK(verdict.delivered == 2);
    CHECK(verdict.latency.count() == 2);
    CHECK(verdict.latency.max_ms() == 0);
}

TEST_CASE("overtaking does not hide that records are out of order or there twice") {
    Verification verification(4);
    verification.committed(event(1), start);
    verification.seen(event(3), start);
    verification.seen(event(2), start);
    verification.seen(event(2), start);
    verification.seen(event(1), start);
    verification.committed(event(2), start);
    verification.committed(event(3), start);
    check(verification, {.reordered = 2, .duplicated = 1});
}

TEST_CASE("an event in doubt may come or not, but not twice, and its order is nobody's fault") {
    Verification verification(4);
    for (std::uint64_t i = 1; i <= 3; ++i) verification.in_doubt(event(i));
    verification.committed(event(4), start);
    verification.seen(event(4), start);
    verification.seen(event(2), start);
    verification.seen(event(2), start);
    const Verdict verdict = check(verification, {.duplicated = 1});
    CHECK(verdict.in_doubt == 3);
    CHECK(verdict.delivered == 2);
}

TEST_CASE("an event in doubt that was seen before that was known is no phantom") {
    Verification verification(4);
    verification.seen(event(1), start);
    verification.in_doubt(event(1));
    verification.seen(event(1), start);
    CHECK(check(verification, {.duplicated = 1}).delivered == 1);
}

TEST_CASE("however many are lost, ten are named") {
    Verification verification = with_committed(1000);
    const Verdict verdict = check(verification, {.lost = 1000});
    REQUIRE(verdict.lost.first.size() == 10);
    CHECK(verdict.lost.first[9] == event(10));
}

}  // namespace outbox
