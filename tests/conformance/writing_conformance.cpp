// What a session sees of writers: commits, ids drawn early, prepared transactions, holders.
#include <doctest/doctest.h>

#include "conformance/database.hpp"

namespace outbox::conformance {

namespace {

using Ids = std::vector<std::int64_t>;

Ids read(Database& database, Database::Session session) {
    return database.ask(session, everything()).ids();
}

std::vector<std::size_t> holding(Database& database, Database::Session session) {
    return database.ask(session, Probe{}).holding;
}

}  // namespace

TEST_CASE("conformance: an uncommitted row is seen by nobody") {
    const auto database = open_database();
    const auto session = database->connect(1);
    const auto writer = database->begin();
    database->insert(writer, {});
    CHECK(read(*database, session).empty());
    CHECK(database->ask(session, Probe{}).high == RowId{1});
    database->commit(writer);
    CHECK(read(*database, session) == Ids{1});
}

TEST_CASE("conformance: a row appears below rows that were read already") {
    const auto database = open_database();
    const auto session = database->connect(1);
    const auto early = database->begin();
    database->insert(early, {.key = 1});
    database->insert({.key = 2});
    CHECK(read(*database, session) == Ids{2});
    database->commit(early);
    CHECK(read(*database, session) == Ids{1, 2});
}

TEST_CASE("conformance: writers commit in another order than they drew their ids") {
    const auto database = open_database();
    const auto session = database->connect(1);
    const auto first = database->begin();
    const auto second = database->begin();
    CHECK(database->insert(first, {}) == RowId{1});
    CHECK(database->insert(second, {}) == RowId{2});
    CHECK(database->insert(first, {}) == RowId{3});
    database->commit(second);
    CHECK(read(*database, session) == Ids{2});
    database->commit(first);
    CHECK(read(*database, session) == Ids{1, 2, 3});
}

TEST_CASE("conformance: what is rolled back leaves a gap in the ids") {
    const auto database = open_database();
    const auto session = database->connect(1);
    const auto writer = database->begin();
    database->insert(writer, {});
    database->insert(writer, {});
    database->rollback(writer);
    CHECK(database->insert() == RowId{3});
    CHECK(read(*database, session) == Ids{3});
    CHECK(holding(*database, session).empty());
    CHECK(database->ask(session, Probe{}).high == RowId{3});
}

TEST_CASE("conformance: the last id drawn is 0 before there is any") {
    const auto database = open_database();
    CHECK(database->ask(database->connect(1), Probe{}).high == RowId{0});
}

TEST_CASE("conformance: a writer holds from its first row to its end") {
    const auto database = open_database();
    const auto session = database->connect(1);
    const auto writer = database->begin();
    CHECK(holding(*database, session).empty());
    database->insert(writer, {});
    CHECK(holding(*database, session) == std::vector<std::size_t>{writer});
    database->insert(writer, {});
    CHECK(holding(*database, session) == std::vector<std::size_t>{writer});
    database->commit(writer);
    CHECK(holding(*database, session).empty());
}

TEST_CASE("conformance: every open writer holds under a name of its own") {
    const auto database = open_database();
    const auto session = database->connect(1);
    std::vector<std::size_t> writers;
    for (int i = 0; i < 3; ++i) {
        writers.push_back(database->begin());
        database->insert(writers.back(), {});
    }
    const Reply probe = database->ask(session, Probe{});
    CHECK(probe.holding == writers);
    CHECK(probe.holders[0] != probe.holders[1]);
    CHECK(probe.holders[1] != probe.holders[2]);
    CHECK(probe.high == RowId{3});
    database->rollback(writers[1]);
    CHECK(holding(*database, session) == std::vector{writers[0], writers[2]});
}

TEST_CASE("conformance: a connection's next transaction is another holder") {
    const auto database = open_database();
    const auto session = database->connect(1);
    std::vector<Holder> seen;
    for (int i = 0; i < 2; ++i) {
        const auto writer = database->begin();
        database->insert(writer, {});
        seen.push_back(database->ask(session, Probe{}).holders.at(0));
        database->commit(writer);
    }
    CHECK(seen[0] != seen[1]);
}

TEST_CASE("conformance: a long reader is no holder and keeps nothing from being seen or deleted") {
    const auto database = open_database();
    const auto session = database->connect(1);
    database->insert();
    database->open_reader();
    database->insert();
    CHECK(holding(*database, session).empty());
    CHECK(read(*database, session) == Ids{1, 2});
    CHECK(database->ask(session, DeleteRows{std::vector{RowId{1}}, {}}).deleted == 1);
    CHECK(read(*database, session) == Ids{2});
}

TEST_CASE("conformance: a session's own deletes and those of others that have ended hold nothing") {
    const auto database = open_database();
    const auto one = database->connect(1);
    const auto two = database->connect(2);
    database->insert();
    database->send(one, DeleteRows{std::vector{RowId{1}}, {}});
    database->send(one, Probe{});
    CHECK(database->receive(one).deleted == 1);
    CHECK(database->receive(one).holding.empty());
    CHECK(holding(*database, two).empty());
}

TEST_CASE("conformance: a prepared transaction is unseen and holds until it is committed") {
    const auto database = open_database();
    const auto session = database->connect(1);
    const auto writer = database->begin();
    database->insert(writer, {});
    database->prepare(writer);
    CHECK(holding(*database, session) == std::vector<std::size_t>{writer});
    CHECK(read(*database, session).empty());
    database->insert();
    CHECK(read(*database, session) == Ids{2});
    database->commit(writer);
    CHECK(holding(*database, session).empty());
    CHECK(read(*database, session) == Ids{1, 2});
}

TEST_CASE("conformance: a prepared transaction can be rolled back") {
    const auto database = open_database();
    const auto session = database->connect(1);
    const auto writer = database->begin();
    database->insert(writer, {});
    database->prepare(writer);
    database->rollback(writer);
    CHECK(holding(*database, session).empty());
    CHECK(read(*database, session).empty());
    CHECK(database->insert() == RowId{2});
}

TEST_CASE("conformance: a restart ends open writers and keeps prepared ones, under another name") {
    const auto database = open_database();
    const auto before = database->connect(1);
    database->insert();
    const auto open = database->begin();
    database->insert(open, {});
    const auto prepared = database->begin();
    database->insert(prepared, {});
    database->prepare(prepared);
    std::vector<Holder> holders = database->ask(before, Probe{}).holders;
    CHECK(holders.size() == 2);

    database->restart();
    const auto session = database->connect(2);
    const Reply probe = database->ask(session, Probe{});
    REQUIRE(probe.holding == std::vector<std::size_t>{prepared});
    CHECK(probe.holders[0].prepared);
    CHECK(probe.high >= RowId{3});
    CHECK(read(*database, session) == Ids{1});
    CHECK(database->insert() > probe.high);
    database->commit(prepared);
    CHECK(holding(*database, session).empty());
    const Ids rows = read(*database, session);
    REQUIRE(rows.size() == 3);
    CHECK(rows[0] == 1);
    CHECK(rows[1] == 3);
}

TEST_CASE("conformance: after a failover that lost a commit its id belongs to another event") {
    const auto database = open_database();
    database->insert({.key = 1});
    const RowId lost = database->insert({.key = 2});
    const EventId event = database->event_of(lost);
    database->lose_last_commit();
    CHECK(database->rows() == Ids{1});
    CHECK(database->insert({.key = 3}) == lost);
    CHECK(database->event_of(lost) != event);
}

}  // namespace outbox::conformance
