#include "core/first_contact.hpp"

#include <doctest/doctest.h>

#include <vector>

using namespace outbox;
using namespace std::chrono_literals;

namespace {

constexpr TopicIndex orders{0};
constexpr TopicIndex bills{3};
constexpr std::int32_t not_known = FirstContact::not_known;

using Slots = std::vector<Slot>;

constexpr Slot slot(std::uint32_t number) {
    return Slot{number};
}

}  // namespace

TEST_CASE("one row goes to a partition, and those behind it wait until it is reported") {
    FirstContact contact;
    CHECK(contact.may_send(orders, 2));
    contact.sent(orders, 2, slot(1));
    CHECK_FALSE(contact.may_send(orders, 2));
    CHECK(contact.may_send(orders, 1));
    CHECK(contact.may_send(bills, 2));
    contact.hold(orders, 2, slot(2));
    contact.hold(orders, 2, slot(3));
    CHECK(contact.proven(orders, 2, slot(1), 0));
    CHECK(contact.take_waiting(orders, 2, slot(1)) == Slots{slot(2), slot(3)});
    CHECK(contact.take_all_waiting().empty());
    contact.sent(orders, 2, slot(2));
    CHECK(contact.may_send(orders, 2));  // known by now
}

TEST_CASE("a report on another row of the partition ends no wait") {
    FirstContact contact;
    contact.sent(orders, 0, slot(1));
    contact.hold(orders, 0, slot(2));
    // A row without a key was acknowledged: the partition is known, and what waits keeps its place all the same.
    CHECK(contact.proven(orders, 0, slot(9), 7));
    CHECK(contact.take_waiting(orders, 0, slot(9)).empty());
    CHECK_FALSE(contact.may_send(orders, 0));
    CHECK(contact.take_waiting(orders, 0, slot(1)) == Slots{slot(2)});
    CHECK(contact.may_send(orders, 0));
}

TEST_CASE("after a first contact that failed the next row is the first") {
    FirstContact contact;
    contact.sent(orders, 0, slot(1));
    contact.hold(orders, 0, slot(2));
    CHECK(contact.take_waiting(orders, 0, slot(1)) == Slots{slot(2)});
    CHECK(contact.may_send(orders, 0));
    contact.sent(orders, 0, slot(3));
    CHECK_FALSE(contact.may_send(orders, 0));
}

TEST_CASE("while a row finds out about its topic, all others of the topic wait") {
    FirstContact contact;
    contact.sent(orders, not_known, slot(1));
    CHECK_FALSE(contact.may_send(orders, not_known));
    CHECK_FALSE(contact.may_send(orders, 5));
    CHECK(contact.may_send(bills, not_known));
    contact.hold(orders, not_known, slot(2));
    CHECK(contact.proven(orders, 5, slot(1), 0));
    CHECK(contact.take_waiting(orders, 5, slot(1)) == Slots{slot(2)});
    CHECK(contact.may_send(orders, 5));
    CHECK(contact.may_send(orders, 4));
    contact.sent(orders, 4, slot(2));
    CHECK_FALSE(contact.may_send(orders, 4));
}

TEST_CASE("an acknowledgement without an offset proves nothing of what was sent before contact was made") {
    FirstContact contact;
    contact.sent_without_key(slot(1));
    contact.sent_without_key(slot(2));
    CHECK_FALSE(contact.proven(orders, 0, slot(1), -1));
    CHECK_FALSE(contact.proven(orders, not_known, slot(1), -1));
    contact.sent_without_key(slot(1));
    CHECK(contact.proven(orders, 0, slot(2), 0));
    CHECK_FALSE(contact.proven(orders, 0, slot(1), -1));  // turned down before, and again since
    contact.sent_without_key(slot(3));
    CHECK(contact.proven(orders, 0, slot(3), -1));
    CHECK_FALSE(contact.proven(orders, 1, slot(3), -1));
    CHECK_FALSE(contact.proven(bills, 0, slot(3), -1));
    CHECK(contact.proven(orders, not_known, slot(3), 0));
}

TEST_CASE("contact with a partition that was silent for two hours begins anew") {
    FirstContact contact;
    const Instant begin{100min};
    contact.turn(begin);
    contact.sent_without_key(slot(1));
    CHECK(contact.proven(orders, 0, slot(1), 0));
    contact.turn(begin + 1h);
    contact.sent_without_key(slot(2));
    CHECK(contact.proven(orders, 0, slot(2), -1));
    contact.turn(begin + 2h);
    CHECK_FALSE(contact.proven(orders, 0, slot(2), -1));
    contact.sent(orders, 0, slot(3));
    CHECK_FALSE(contact.may_send(orders, 0));
    CHECK(contact.proven(orders, 0, slot(3), 1));
    contact.take_waiting(orders, 0, slot(3));
    CHECK(contact.may_send(orders, 0));
    CHECK_FALSE(contact.proven(orders, 0, slot(2), -1));
}

TEST_CASE("everything that waits can be taken back, and what it waited for is still awaited") {
    FirstContact contact;
    contact.sent(orders, 1, slot(1));
    contact.hold(orders, 1, slot(2));
    contact.sent(bills, not_known, slot(3));
    contact.hold(bills, not_known, slot(4));
    CHECK(contact.take_all_waiting() == Slots{slot(2), slot(4)});
    CHECK(contact.take_all_waiting().empty());
    CHECK_FALSE(contact.may_send(orders, 1));
    CHECK_FALSE(contact.may_send(bills, 0));
    CHECK(contact.take_waiting(orders, 1, slot(1)).empty());
    CHECK(contact.may_send(orders, 1));
}
