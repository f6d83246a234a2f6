// Which rows a read brings, and what it tells of them.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>

#include "conformance/database.hpp"
#include "core/key_hash.hpp"

namespace outbox::conformance {

namespace {

using Ids = std::vector<std::int64_t>;

}  // namespace

TEST_CASE("conformance: a read brings rows in the order of ids, from after one to another, and not more than asked") {
    const auto database = with_rows(9);
    const auto session = database->connect(1);
    ReadRows read = everything();
    CHECK(database->ask(session, read).ids() == Ids{1, 2, 3, 4, 5, 6, 7, 8, 9});
    read.after = RowId{3};
    read.upto = RowId{7};
    CHECK(database->ask(session, read).ids() == Ids{4, 5, 6, 7});
    read.limit = 2;
    CHECK(database->ask(session, read).ids() == Ids{4, 5});
    read.limit = 0;
    CHECK(database->ask(session, read).ids().empty());
    read.limit = 5;
    read.after = RowId{9};
    read.upto = no_row;
    CHECK(database->ask(session, read).ids().empty());
    read.after = RowId{7};
    read.upto = RowId{3};
    CHECK(database->ask(session, read).ids().empty());
}

TEST_CASE("conformance: a read keeps to its lanes, and LIMIT counts their rows alone") {
    const auto database = with_rows(12);
    const auto session = database->connect(1);
    ReadRows read = everything();
    read.lanes = LaneSet::only(database->lane_of_key(4)) | LaneSet::only(database->lane_of_key(9));
    Ids expected;
    for (int key = 0; key < 12; ++key)
        if (read.lanes.contains(database->lane_of_key(key))) expected.push_back(key + 1);
    CHECK(database->ask(session, read).ids() == expected);
    read.limit = 1;
    CHECK(database->ask(session, read).ids() == Ids{expected.front()});
    read.lanes = LaneSet{};
    CHECK(database->ask(session, read).ids().empty());
}

TEST_CASE("conformance: each row comes with the lane of its key, and one without a key with that of its id") {
    const auto database = open_database();
    const auto session = database->connect(1);
    const auto writer = database->begin();
    for (int i = 0; i < 70; ++i) database->insert(writer, {.key = i % 2 == 0 ? i : -1});
    database->commit(writer);
    const Reply reply = database->ask(session, everything());
    REQUIRE(reply.heads.size() == 70);
    for (const RowHead& head : reply.heads) {
        CAPTURE(head.id.value);
        const auto key = static_cast<std::int32_t>(head.id.value - 1);
        CHECK(head.lane == (key % 2 == 0 ? database->lane_of_key(key) : head.id.value % 64));
        CHECK((head.key_hash == 0) == (key % 2 != 0));
    }
}

TEST_CASE("conformance: rows of one topic and key have one hash, others have another") {
    const auto database = open_database();
    const auto session = database->connect(1);
    database->insert({.topic = "orders", .key = 1});
    database->insert({.topic = "orders", .key = 1});
    database->insert({.topic = "bills", .key = 1});
    database->insert({.topic = "orders", .key = 2});
    const Reply reply = database->ask(session, everything());
    REQUIRE(reply.heads.size() == 4);
    CHECK(reply.heads[0].key_hash == key_hash(orders, "k1"));
    CHECK(reply.heads[1].key_hash == reply.heads[0].key_hash);
    CHECK(reply.heads[2].key_hash == key_hash(bills, "k1"));
    CHECK(reply.heads[3].key_hash == key_hash(orders, "k2"));
    CHECK(reply.heads[2].topic == bills);
    CHECK(reply.heads[0].event_id != reply.heads[1].event_id);
    CHECK(reply.heads[0].event_id == database->event_of(RowId{1}));
}

TEST_CASE("conformance: a topic that was never named gets the next index") {
    const auto database = open_database();
    const auto session = database->connect(1);
    database->insert({.topic = "news"});
    database->insert({.topic = "mails"});
    database->insert({.topic = "weather"});
    const Reply reply = database->ask(session, everything());
    REQUIRE(reply.heads.size() == 3);
    CHECK(reply.heads[0].topic == TopicIndex{3});
    CHECK(reply.heads[1].topic == mails);
    CHECK(reply.heads[2].topic == TopicIndex{4});
}

TEST_CASE("conformance: known rows are skipped, and those beyond the bitmap are not") {
    const auto database = with_rows(20);
    const auto session = database->connect(1);
    ReadRows read = everything();
    read.after = RowId{2};
    read.known_base = RowId{3};
    const std::array<std::uint8_t, 1> known{0b10100101};  // 3, 5, 8, 10
    read.known = known;
    read.limit = 6;
    CHECK(database->ask(session, read).ids() == Ids{4, 6, 7, 9, 11, 12});
}

TEST_CASE("conformance: a read whose bitmap begins above its rows ends the session") {
    const auto database = with_rows(3);
    const auto session = database->connect(1);
    ReadRows read = everything();
    read.known_base = RowId{2};
    const std::array<std::uint8_t, 1> known{1};
    read.known = known;
    CHECK_THROWS_AS(database->ask(session, read), SessionEnded);
}

TEST_CASE("conformance: a read of one topic brings no other, and does not skip") {
    const auto database = open_database();
    const auto session = database->connect(1);
    for (const std::string_view topic : {"orders", "bills", "orders", "mails", "bills"})
        database->insert({.topic = topic});
    ReadRows read = everything();
    read.topic = bills;
    CHECK(database->ask(session, read).ids() == Ids{2, 5});
    read.after = RowId{2};
    CHECK(database->ask(session, read).ids() == Ids{5});
    read.after = RowId{0};
    const std::array<std::uint8_t, 1> known{0xFF};
    read.known_base = RowId{1};
    read.known = known;
    CHECK(database->ask(session, read).ids() == Ids{2, 5});
}

TEST_CASE("conformance: rows of topics that wait are left out, and LIMIT is not spent on them") {
    const auto database = open_database();
    const auto session = database->connect(1);
    for (const std::string_view topic : {"orders", "bills", "orders", "mails", "bills"})
        database->insert({.topic = topic});
    ReadRows read = everything();
    const std::array without{orders, mails};
    read.known_base = RowId{1};
    read.without = without;
    read.limit = 2;
    CHECK(database->ask(session, read).ids() == Ids{2, 5});
}

TEST_CASE("conformance: rows of blocked keys come unless the read says otherwise") {
    const auto database = open_database();
    const auto session = database->connect(1);
    database->insert({.key = 1});
    database->insert({.key = 2});
    database->insert({.key = 1});
    database->insert({.topic = "bills", .key = 1});
    database->insert({.key = -1});
    database->ask(session, BuryRow{RowId{1}, {}, "X", "x", true});
    ReadRows read = everything();
    CHECK(database->ask(session, read).ids() == Ids{1, 2, 3, 4, 5});
    read.known_base = RowId{1};
    const std::array others{RowId{2}};
    read.without_keys_of = others;
    CHECK(database->ask(session, read).ids() == Ids{1, 2, 3, 4, 5});
    const std::array blocking{RowId{2}, RowId{1}};
    read.without_keys_of = blocking;
    CHECK(database->ask(session, read).ids() == Ids{2, 4, 5});
    database->unblock("orders", 1);
    CHECK(database->ask(session, read).ids() == Ids{1, 2, 3, 4, 5});
}

TEST_CASE("conformance: a payload above the limit is withheld, and counted all the same") {
    const auto database = open_database();
    const auto session = database->connect(1);
    for (const std::uint32_t bytes : {0U, 99U, 100U, 101U, 5000U}) database->insert({.key = 5, .payload_bytes = bytes});
    ReadRows read = everything();
    read.payload_bytes_max = 100;
    const Reply reply = database->ask(session, read);
    REQUIRE(reply.heads.size() == 5);
    const std::array sizes{0U, 99U, 100U, 101U, 5000U};
    for (std::size_t i = 0; i < sizes.size(); ++i) {
        CHECK(reply.heads[i].bytes == sizes[i] + 2 + 2);  // "k5" and {}
        CHECK(reply.heads[i].payload_withheld == (sizes[i] > 100));
    }
}

TEST_CASE("conformance: a noted read brings rows whatever is known, and writes down the first and the last") {
    const auto database = with_rows(6);
    const auto dying = database->connect(1);
    database->ask(dying, RenewLeases{});
    ReadRows read = everything();
    read.noted = true;
    read.after = RowId{1};
    read.known_base = RowId{2};
    const std::array<std::uint8_t, 1> known{0xFF};
    read.known = known;
    read.limit = 3;
    CHECK(database->ask(dying, read).ids() == Ids{2, 3, 4});
    database->cut(dying);
    database->pass_time(90s);
    const auto heir = database->connect(2);
    const Reply crashes = database->ask(heir, ReadCrashes{});
    REQUIRE(crashes.attempts.size() == 1);
    CHECK(crashes.attempts[0].from == RowId{2});
    CHECK(crashes.attempts[0].upto == RowId{4});
}

TEST_CASE("conformance: a noted read that brings nothing, or is withdrawn, leaves no note") {
    const auto database = with_rows(1);
    for (const int worker : {1, 2}) {
        const auto dying = database->connect(worker);
        database->ask(dying, RenewLeases{});
        ReadRows read = everything();
        read.noted = true;
        database->ask(dying, read);
        if (worker == 1) {
            read.after = RowId{1};
            CHECK(database->ask(dying, read).ids().empty());
        } else {
            database->ask(dying, WithdrawNote{});
        }
        database->cut(dying);
    }
    database->pass_time(90s);
    CHECK(database->ask(database->connect(3), ReadCrashes{}).attempts.empty());
}

TEST_CASE("conformance: a noted read of a worker that is in no list notes nothing and reads all the same") {
    const auto database = with_rows(2);
    const auto session = database->connect(1);
    ReadRows read = everything();
    read.noted = true;
    CHECK(database->ask(session, read).ids() == Ids{1, 2});
    CHECK(database->workers().empty());
    database->ask(session, RenewLeases{});
    CHECK(database->dump().find(" 1:0:0:-1:-1") != std::string::npos);
}

TEST_CASE("conformance: statements that are sent together take effect and are answered in that order") {
    const auto database = with_rows(3);
    const auto session = database->connect(1);
    const std::vector second{RowId{2}};
    database->send(session, everything());
    database->send(session, DeleteRows{second, {}});
    database->send(session, everything());
    database->send(session, Probe{});
    database->send(session, BuryRow{RowId{3}, {}, "X", "x"});
    database->send(session, everything());
    CHECK(database->receive(session).ids() == Ids{1, 2, 3});
    CHECK(database->receive(session).deleted == 1);
    CHECK(database->receive(session).ids() == Ids{1, 3});
    CHECK(database->receive(session).high == RowId{3});
    CHECK(database->receive(session).what == "buried");
    CHECK(database->receive(session).ids() == Ids{1});
}

}  // namespace outbox::conformance
