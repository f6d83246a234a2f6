// Rows that a session claims: locked until its claim ends, while everybody else goes past them.
#include <doctest/doctest.h>

#include "conformance/database.hpp"

namespace outbox::conformance {

namespace {

using Ids = std::vector<std::int64_t>;

ReadRows claim(std::uint32_t limit = 10'000) {
    ReadRows read = everything();
    read.claim = true;
    read.limit = limit;
    return read;
}

DeleteRows ending(const std::vector<RowId>& ids) {
    DeleteRows rows{ids, {}};
    rows.ends_claim = true;
    return rows;
}

DeleteRows where_unlocked(const std::vector<RowId>& ids, const std::vector<EventId>& events) {
    DeleteRows rows{ids, events};
    rows.skip_locked = true;
    return rows;
}

}  // namespace

TEST_CASE("conformance: a claim's rows are nobody else's, and all are told of the first row that is there") {
    const auto database = with_rows(5);
    const auto one = database->connect(1);
    const auto two = database->connect(2);
    const auto three = database->connect(3);
    const Reply first = database->ask(one, claim(2));
    CHECK(first.ids() == Ids{1, 2});
    CHECK(first.lowest == RowId{1});
    const Reply second = database->ask(two, claim());
    CHECK(second.ids() == Ids{3, 4, 5});
    CHECK(second.lowest == RowId{1});
    const Reply third = database->ask(three, claim());
    CHECK(third.ids().empty());
    CHECK(third.lowest == RowId{1});
    CHECK(database->ask(three, EndClaim{}).what == "done");
    CHECK(database->ask(three, everything()).ids() == Ids{1, 2, 3, 4, 5});  // reads wait for nobody
}

TEST_CASE("conformance: the delete that ends a claim takes the rows it names and gives the others back") {
    const auto database = with_rows(4);
    const auto one = database->connect(1);
    const auto two = database->connect(2);
    CHECK(database->ask(one, claim(3)).ids() == Ids{1, 2, 3});
    const std::vector ids{RowId{1}, RowId{3}};
    CHECK(database->ask(one, ending(ids)).deleted == 2);
    CHECK(database->rows() == Ids{2, 4});
    const Reply left = database->ask(two, claim());
    CHECK(left.ids() == Ids{2, 4});
    CHECK(left.lowest == RowId{2});
}

TEST_CASE("conformance: a claim that ends without a delete gives its rows back, and the session may claim again") {
    const auto database = with_rows(2);
    const auto session = database->connect(1);
    for (int i = 0; i < 2; ++i) {
        CHECK(database->ask(session, claim()).ids() == Ids{1, 2});
        CHECK(database->ask(session, EndClaim{}).what == "done");
    }
    CHECK(database->ask(session, everything()).ids() == Ids{1, 2});
}

TEST_CASE("conformance: what a session claimed that is cut is there for the others") {
    const auto database = with_rows(3);
    const auto one = database->connect(1);
    const auto two = database->connect(2);
    CHECK(database->ask(one, claim()).ids() == Ids{1, 2, 3});
    database->cut(one);
    CHECK(database->ask(two, claim()).ids() == Ids{1, 2, 3});
}

TEST_CASE("conformance: a claim that is held for longer than a lease ends with its session") {
    const auto database = with_rows(1);
    const auto one = database->connect(1, 1s);
    const auto two = database->connect(2);
    CHECK(database->ask(one, claim()).ids() == Ids{1});
    Ids ours;
    for (int i = 0; i < 1000 && ours.empty(); ++i) {
        database->let_time_pass();
        ours = database->ask(two, claim()).ids();
        CHECK(database->ask(two, EndClaim{}).what == "done");
    }
    CHECK(ours == Ids{1});
    CHECK_THROWS_AS(database->ask(one, EndClaim{}), SessionEnded);
}

TEST_CASE("conformance: a claim leaves out what is known, the topics it names, and what is not committed") {
    const auto database = open_database();
    const auto session = database->connect(1);
    database->insert({.topic = "orders"});
    database->insert({.topic = "bills"});
    database->insert({.topic = "mails"});
    const auto writer = database->begin();
    database->insert(writer, {.topic = "orders"});
    database->insert({.topic = "orders"});
    ReadRows read = claim();
    const std::vector<std::uint8_t> known{0b1};
    const std::vector without{mails};
    read.known_base = RowId{1};
    read.known = known;
    read.without = without;
    Reply reply = database->ask(session, read);
    CHECK(reply.ids() == Ids{2, 5});
    CHECK(reply.lowest == RowId{1});  // whoever knows it
    database->ask(session, EndClaim{});
    read = claim();
    read.topic = bills;
    reply = database->ask(session, read);
    CHECK(reply.ids() == Ids{2});
    CHECK(reply.lowest == RowId{2});
    database->ask(session, EndClaim{});
    read = claim();
    read.after = RowId{5};
    reply = database->ask(session, read);
    CHECK(reply.ids().empty());
    CHECK(reply.lowest == no_row);
    database->ask(session, EndClaim{});
    database->commit(writer);
    CHECK(database->ask(session, claim()).ids() == Ids{1, 2, 3, 4, 5});
}

TEST_CASE("conformance: rows that were let go are deleted where nobody else has claimed them since") {
    const auto database = with_rows(3);
    const auto one = database->connect(1);
    const auto two = database->connect(2);
    const std::vector ids{RowId{1}, RowId{2}, RowId{3}};
    const std::vector events{database->event_of(RowId{1}), database->event_of(RowId{2}), database->event_of(RowId{1})};
    CHECK(database->ask(two, claim(1)).ids() == Ids{1});
    CHECK(database->ask(one, where_unlocked(ids, events)).deleted == 1);
    CHECK(database->rows() == Ids{1, 3});
    CHECK(database->ask(two, EndClaim{}).what == "done");
    CHECK(database->ask(one, where_unlocked(ids, events)).deleted == 1);
    CHECK(database->rows() == Ids{3});
}

TEST_CASE("conformance: a burial waits for whoever has claimed the row") {
    const auto database = with_rows(1);
    const auto one = database->connect(1);
    const auto two = database->connect(2);
    CHECK(database->ask(one, claim()).ids() == Ids{1});
    CHECK(database->ask(two, BuryRow{RowId{1}, {}, "X", "x"}).what == "burial refused");
    CHECK(database->ask(one, EndClaim{}).what == "done");
    CHECK(database->ask(two, BuryRow{RowId{1}, {}, "X", "x"}).what == "buried");
    CHECK(database->dead_letters() == Ids{1});
}

TEST_CASE("conformance: a claim whose delete is refused is over, and its rows are free") {
    const auto database = with_rows(2);
    const auto one = database->connect(1);
    const auto two = database->connect(2);
    CHECK(database->ask(one, claim()).ids() == Ids{1, 2});
    database->lock_messages(true);
    const std::vector ids{RowId{1}, RowId{2}};
    CHECK(database->ask(one, ending(ids)).what == "delete refused");
    database->lock_messages(false);
    CHECK(database->ask(two, claim()).ids() == Ids{1, 2});
    CHECK(database->ask(one, RenewLeases{}).what == "renewed");  // nor is it inside a transaction
}

TEST_CASE("conformance: who claims rows leases nothing, and is told which lanes others lease") {
    const auto database = open_database();
    const auto one = database->connect(1);
    const auto two = database->connect(2);
    RenewLeases attendance;
    attendance.leases = false;
    CHECK(database->ask(two, attendance).lanes.empty());
    database->ask(one, RenewLeases{});
    const LaneSet theirs = database->ask(one, AcquireLanes{}).lanes;
    REQUIRE_FALSE(theirs.empty());
    const Reply told = database->ask(two, attendance);
    CHECK(told.lanes == theirs);
    CHECK(told.living == 2);
    CHECK(database->workers() == std::vector{1, 2});
    database->pass_time(61s);
    CHECK(database->ask(two, attendance).lanes.empty());
}

}  // namespace outbox::conformance
