// Deletes, burials, blocked keys, refusals, and statements whose session is cut.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>

#include "conformance/database.hpp"

namespace outbox::conformance {

namespace {

using Ids = std::vector<std::int64_t>;

Reply remove(Database& database, Database::Session session, const std::vector<RowId>& ids,
             const std::vector<EventId>& events = {}) {
    return database.ask(session, DeleteRows{ids, events});
}

}  // namespace

TEST_CASE("conformance: a delete takes exactly the ids it names") {
    const auto database = with_rows(6);
    const auto session = database->connect(1);
    CHECK(remove(*database, session, {RowId{5}, RowId{2}, RowId{77}}).deleted == 2);
    CHECK(database->rows() == Ids{1, 3, 4, 6});
}

TEST_CASE("conformance: what does not lie where it was read is told, and the rest is deleted") {
    const auto database = with_rows(3);
    const auto one = database->connect(1);
    const auto two = database->connect(2);
    const Reply read = database->ask(one, everything());
    std::vector<RowId> ids;
    std::vector<std::uint64_t> places;
    for (const RowHead& head : read.heads) {
        ids.push_back(head.id);
        places.push_back(head.place);
    }
    CHECK(remove(*database, two, {RowId{2}}).deleted == 1);
    const Reply missed = database->ask(one, DeleteRows{ids, {}, places});
    CHECK(missed.what == "rows missed");
    CHECK(missed.deleted == 2);
    CHECK(database->rows().empty());
}

TEST_CASE("conformance: to delete a row twice is to delete it once") {
    const auto database = with_rows(3);
    const auto one = database->connect(1);
    const auto two = database->connect(2);
    CHECK(remove(*database, one, {RowId{1}, RowId{2}, RowId{1}}).deleted == 2);
    CHECK(remove(*database, one, {RowId{1}}).deleted == 0);
    CHECK(remove(*database, two, {RowId{2}, RowId{3}}).deleted == 1);
    CHECK(remove(*database, two, {}).deleted == 0);
    CHECK(database->rows().empty());
}

TEST_CASE("conformance: a delete leaves a row that is not committed yet") {
    const auto database = open_database();
    const auto session = database->connect(1);
    const auto writer = database->begin();
    database->insert(writer, {});
    CHECK(remove(*database, session, {RowId{1}}).deleted == 0);
    database->commit(writer);
    CHECK(database->rows() == Ids{1});
    CHECK(remove(*database, session, {RowId{1}}).deleted == 1);
}

TEST_CASE("conformance: a delete that names events takes only the pairs that are right") {
    const auto database = with_rows(3);
    const auto session = database->connect(1);
    const EventId first = database->event_of(RowId{1});
    const EventId third = database->event_of(RowId{3});
    CHECK(remove(*database, session, {RowId{1}, RowId{2}, RowId{3}}, {third, first, third}).deleted == 1);
    CHECK(database->rows() == Ids{1, 2});
}

TEST_CASE("conformance: an id that was drawn again is left alone by a delete that names the lost event") {
    const auto database = open_database();
    database->insert({.key = 1});
    const RowId id = database->insert({.key = 2});
    const EventId lost = database->event_of(id);
    database->lose_last_commit();
    database->insert({.key = 3});
    const auto session = database->connect(1);
    CHECK(remove(*database, session, {id}, {lost}).deleted == 0);
    CHECK(database->rows() == Ids{1, 2});
    CHECK(database->ask(session, BuryRow{id, lost, "X", "x"}).what == "buried");
    CHECK(database->dead_letters().empty());
    CHECK(remove(*database, session, {id}).deleted == 1);
}

TEST_CASE("conformance: a buried row is a dead letter, once") {
    const auto database = with_rows(3);
    const auto session = database->connect(1);
    const EventId event = database->event_of(RowId{2});
    CHECK(database->ask(session, BuryRow{RowId{2}, event, "X", "x"}).what == "buried");
    CHECK(database->ask(session, BuryRow{RowId{2}, event, "X", "x"}).what == "buried");
    CHECK(database->rows() == Ids{1, 3});
    CHECK(database->dead_letters() == Ids{2});
}

TEST_CASE("conformance: a requeued event has an id of its own, and may be buried and requeued again") {
    const auto database = with_rows(4);
    const auto session = database->connect(1);
    const EventId events[] = {database->event_of(RowId{3}), database->event_of(RowId{1})};
    std::int64_t ids[] = {3, 1};
    for (int round = 0; round < 2; ++round) {
        for (int i = 0; i < 2; ++i) database->ask(session, BuryRow{RowId{ids[i]}, events[i], "X", "x"});
        CHECK(database->rows() == Ids{2, 4});
        database->requeue();
        CHECK(database->dead_letters().empty());
        ids[0] = 5 + 2 * round;
        ids[1] = 6 + 2 * round;
        CHECK(database->rows() == Ids{2, 4, ids[0], ids[1]});
        for (int i = 0; i < 2; ++i) CHECK(database->event_of(RowId{ids[i]}) == events[i]);
    }
    const Reply all = database->ask(session, everything());
    CHECK(all.ids() == Ids{2, 4, 7, 8});
    CHECK(all.heads[2].lane == database->lane_of_key(2));
    CHECK(database->ask(session, Probe{}).high == RowId{8});
}

TEST_CASE("conformance: a burial that names no event takes whatever has the id, and another event's takes nothing") {
    const auto database = with_rows(2);
    const auto session = database->connect(1);
    database->ask(session, BuryRow{RowId{1}, database->event_of(RowId{2}), "X", "x"});
    CHECK(database->dead_letters().empty());
    database->ask(session, BuryRow{RowId{1}, {}, "X", "x"});
    CHECK(database->dead_letters() == Ids{1});
}

TEST_CASE("conformance: a row that blocks its key stays, and the list tells its id, lane and hash") {
    const auto database = with_rows(3);
    const auto session = database->connect(1);
    const Reply rows = database->ask(session, everything());
    CHECK(database->ask(session, BuryRow{RowId{2}, {}, "X", "x", true}).what == "buried");
    CHECK(database->rows() == Ids{1, 2, 3});
    CHECK(database->dead_letters().empty());
    const Reply blocked = database->ask(session, ReadBlockedKeys{});
    REQUIRE(blocked.keys.size() == 1);
    CHECK(blocked.keys[0].row == RowId{2});
    CHECK(blocked.keys[0].lane == database->lane_of_key(1));
    CHECK(blocked.keys[0].key_hash == rows.heads[1].key_hash);
    CHECK(blocked.control.blocked == BlockedDigest{1, 2});
}

TEST_CASE("conformance: the first row to block a key stays the one that does") {
    const auto database = open_database();
    const auto session = database->connect(1);
    database->insert({.key = 1});
    database->insert({.key = 1});
    database->ask(session, BuryRow{RowId{2}, {}, "X", "x", true});
    database->ask(session, BuryRow{RowId{1}, {}, "X", "x", true});
    const Reply blocked = database->ask(session, ReadBlockedKeys{});
    REQUIRE(blocked.keys.size() == 1);
    CHECK(blocked.keys[0].row == RowId{2});
}

TEST_CASE("conformance: a row without a key, or with one too long to index, is buried instead of blocking") {
    const auto database = open_database();
    const auto session = database->connect(1);
    database->insert({.key = -1});
    database->insert({.key = 1, .long_key = true});
    database->insert({.key = 1});
    for (const std::int64_t id : {1, 2, 3}) database->ask(session, BuryRow{RowId{id}, {}, "X", "x", true});
    CHECK(database->dead_letters() == Ids{1, 2});
    CHECK(database->rows() == Ids{3});
    CHECK(database->ask(session, ReadBlockedKeys{}).keys.size() == 1);
}

TEST_CASE("conformance: a row that blocks its key may be deleted, and the key stays blocked") {
    const auto database = with_rows(1);
    const auto session = database->connect(1);
    database->ask(session, BuryRow{RowId{1}, {}, "X", "x", true});
    CHECK(remove(*database, session, {RowId{1}}).deleted == 1);
    CHECK(database->ask(session, ReadControl{}).control.blocked == BlockedDigest{1, 1});
}

TEST_CASE("conformance: control tells the digest of the list of blocked keys, in one order with the list") {
    const auto database = open_database();
    const auto session = database->connect(1);
    CHECK(database->ask(session, ReadControl{}).control.blocked == BlockedDigest{});
    for (const std::string_view topic : {"orders", "bills", "mails"})
        for (const int key : {10, 9}) database->insert({.topic = topic, .key = key});
    for (std::int64_t id = 1; id <= 6; ++id) database->ask(session, BuryRow{RowId{id}, {}, "X", "x", true});
    const BlockedDigest digest = database->ask(session, ReadControl{}).control.blocked;
    CHECK(digest == BlockedDigest{6, 21});
    const Reply blocked = database->ask(session, ReadBlockedKeys{});
    CHECK(blocked.control.blocked == digest);
    std::vector<std::int64_t> order;
    for (const KeyBlock& key : blocked.keys) order.push_back(key.row.value);
    CHECK(order == Ids{3, 4, 5, 6, 1, 2});  // bills, mails, orders; "k10" before "k9"
    database->unblock("mails", 9);
    CHECK(database->ask(session, ReadControl{}).control.blocked == BlockedDigest{5, 15});
}

TEST_CASE("conformance: a delete that waits for a lock in vain is refused, and succeeds when it is tried again") {
    const auto database = with_rows(2);
    const auto session = database->connect(1);
    database->lock_messages(true);
    CHECK(remove(*database, session, {RowId{1}}).what == "delete refused");
    CHECK(database->ask(session, BuryRow{RowId{2}, {}, "X", "x"}).what == "burial refused");
    CHECK(database->ask(session, BuryRow{RowId{2}, {}, "X", "x", true}).what == "burial refused");
    CHECK(database->ask(session, everything()).ids() == Ids{1, 2});
    database->lock_messages(false);
    CHECK(database->dead_letters().empty());
    CHECK(remove(*database, session, {RowId{1}}).deleted == 1);
    database->ask(session, BuryRow{RowId{2}, {}, "X", "x"});
    CHECK(database->dead_letters() == Ids{2});
}

TEST_CASE("conformance: a refusal is one statement's own: what was sent behind it is done") {
    const auto database = with_rows(2);
    const auto session = database->connect(1);
    const std::vector ids{RowId{1}};
    database->lock_messages(true);
    database->send(session, DeleteRows{ids, {}});
    database->send(session, everything());
    database->send(session, RenewLeases{});
    CHECK(database->receive(session).what == "delete refused");
    CHECK(database->receive(session).ids() == Ids{1, 2});
    CHECK(database->receive(session).what == "renewed");
    database->lock_messages(false);
    CHECK(database->workers() == std::vector{1});
}

TEST_CASE("conformance: of the statements of a session that is cut, the first ones took effect, each as a whole") {
    for (int answered = 0; answered <= 3; ++answered) {
        CAPTURE(answered);
        const auto database = with_rows(6);
        const auto session = database->connect(1);
        const std::array<std::vector<RowId>, 3> pairs{
            std::vector{RowId{1}, RowId{4}}, {RowId{2}, RowId{5}}, {RowId{3}, RowId{6}}};
        for (const auto& ids : pairs) database->send(session, DeleteRows{ids, {}});
        for (int i = 0; i < answered; ++i) CHECK(database->receive(session).deleted == 2);
        database->cut(session);
        const std::array<Ids, 4> possible{Ids{1, 2, 3, 4, 5, 6}, {2, 3, 5, 6}, {3, 6}, {}};
        const auto found = std::find(possible.begin(), possible.end(), database->rows());
        REQUIRE(found != possible.end());
        CHECK(found - possible.begin() >= answered);
    }
}

}  // namespace outbox::conformance
