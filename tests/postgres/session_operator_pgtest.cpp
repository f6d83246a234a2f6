// What operators say and what crashes leave behind, as the session's statements read and write it.
#include <doctest/doctest.h>

#include <array>

#include "postgres/client.hpp"
#include "support/postgres_database.hpp"
#include "support/session_driver.hpp"

namespace outbox {

namespace {

using testing::PostgresDatabase;
using testing::SessionDriver;

std::int64_t number(Client& client, const std::string& sql) {
    return client.execute("SELECT (" + sql + ")::int8").integer(0, 0);
}

void insert(Client& client, const std::string& key) {
    client.execute("INSERT INTO outbox.message (topic, key, payload) VALUES ('orders', " + key + ", 'x')");
}

RowHead only_row(SessionDriver& driver) {
    const auto read = driver.ask<RowsRead>(SessionDriver::everything());
    REQUIRE(read.rows.size() == 1);
    return read.rows.front();
}

}  // namespace

TEST_CASE("control tells pauses, the rate and the revision, and nothing where nothing was said") {
    const PostgresDatabase database;
    Client client = database.connect();
    SessionDriver driver(database.settings());
    const auto nothing = driver.ask<ControlRead>(ReadControl{});
    CHECK(nothing.revision == 0);
    CHECK_FALSE(nothing.paused);
    CHECK_FALSE(nothing.max_rows_per_second);
    CHECK(nothing.paused_topics.empty());
    CHECK(nothing.blocked == BlockedDigest{});

    client.execute("INSERT INTO outbox.control (topic, paused, max_rows_per_second) VALUES ('*', true, 500)");
    client.execute("INSERT INTO outbox.control (topic, paused) VALUES ('b', true), ('a', true), ('c', false)");
    const auto said = driver.ask<ControlRead>(ReadControl{});
    CHECK(said.revision > 0);
    CHECK(said.paused);
    CHECK(said.max_rows_per_second == 500);
    REQUIRE(said.paused_topics.size() == 2);
    CHECK(said.paused_topics[0] == "a");
    CHECK(said.paused_topics[1] == "b");
}

TEST_CASE("a blocked key is listed with the hash its rows are read with, and its row stays") {
    const PostgresDatabase database;
    Client client = database.connect();
    SessionDriver driver(database.settings());
    insert(client, "'k'");
    const RowHead row = only_row(driver);
    CHECK(row.key_hash != 0);
    driver.ask<RowsBuried>(BuryRow{row.id, row.event_id, "CODE", "text", true});
    CHECK(number(client, "SELECT count(*) FROM outbox.message") == 1);
    CHECK(number(client, "SELECT count(*) FROM outbox.dead_letter") == 0);

    const auto control = driver.ask<ControlRead>(ReadControl{});
    const auto list = driver.ask<BlockedKeysRead>(ReadBlockedKeys{});
    REQUIRE(list.keys.size() == 1);
    CHECK(list.keys[0].key_hash == row.key_hash);
    CHECK(list.keys[0].row == row.id);
    CHECK(list.keys[0].lane == row.lane);
    CHECK(list.digest == control.blocked);
}

TEST_CASE("a row without a key, or with one too long for an index, is buried where keys are blocked") {
    for (const char* const key : {"NULL", "repeat('x', 2001)"}) {
        CAPTURE(key);
        const PostgresDatabase database;
        Client client = database.connect();
        SessionDriver driver(database.settings());
        insert(client, key);
        const RowHead row = only_row(driver);
        driver.ask<RowsBuried>(BuryRow{row.id, row.event_id, "CODE", "text", true});
        CHECK(number(client, "SELECT count(*) FROM outbox.message") == 0);
        CHECK(number(client, "SELECT count(*) FROM outbox.dead_letter") == 1);
        CHECK(number(client, "SELECT count(*) FROM outbox.blocked_key") == 0);
    }
}

TEST_CASE("an isolated row is buried by its id alone, and another event of a burial's id is left alone") {
    const PostgresDatabase database;
    Client client = database.connect();
    SessionDriver driver(database.settings());
    insert(client, "'k'");
    const RowHead row = only_row(driver);
    EventId other = row.event_id;
    other[0] ^= 1U;
    driver.ask<RowsBuried>(BuryRow{row.id, other, "CODE", "text"});
    CHECK(number(client, "SELECT count(*) FROM outbox.message") == 1);
    driver.ask<RowsBuried>(BuryRow{row.id, {}, "CODE", "text"});
    CHECK(number(client, "SELECT count(*) FROM outbox.dead_letter") == 1);
}

TEST_CASE("a read leaves out the topics it is told to") {
    const PostgresDatabase database;
    Client client = database.connect();
    SessionDriver driver(database.settings());
    client.execute("INSERT INTO outbox.message (topic) SELECT 'topic-' || n % 3 FROM generate_series(1, 30) AS n");
    ReadRows read = SessionDriver::everything();
    const std::array without{driver.topics.index_of("topic-0"), driver.topics.index_of("topic-2")};
    read.known_base = RowId{1};
    read.without = without;
    const auto rows = driver.ask<RowsRead>(read);
    CHECK(rows.rows.size() == 10);
    for (const RowHead& row : rows.rows) CHECK(row.topic == driver.topics.index_of("topic-1"));
}

TEST_CASE("a renewal tells what is in flight and which revision is obeyed") {
    const PostgresDatabase database;
    Client client = database.connect();
    SessionDriver driver(database.settings());
    driver.ask<LeasesRenewed>(RenewLeases{7, 3});
    CHECK(number(client, "SELECT in_flight_rows FROM outbox.relay") == 7);
    driver.ask<LeasesRenewed>(RenewLeases{0, 4});
    CHECK(number(client, "SELECT in_flight_rows FROM outbox.relay") == 0);
    CHECK(number(client, "SELECT control_revision FROM outbox.relay") == 4);
    CHECK(number(client, "SELECT lease_ttl_ms FROM outbox.relay") == 60'000);
}

TEST_CASE("a noted read writes down its ids, and the next session learns who died over them") {
    const PostgresDatabase database;
    Client client = database.connect();
    insert(client, "'a'");
    insert(client, "'b'");
    {
        SessionDriver dying(database.settings(), 1);
        dying.ask<LeasesRenewed>(RenewLeases{});
        ReadRows read = SessionDriver::everything();
        read.noted = true;
        CHECK(dying.ask<RowsRead>(read).rows.size() == 2);
        CHECK(number(client, "SELECT attempting_upto - attempting_from FROM outbox.relay") == 1);
    }
    const auto crashes = [&] {
        SessionDriver successor(database.settings(), 2);
        return successor.ask<CrashesRead>(ReadCrashes{}).attempts.size();
    };
    CHECK(crashes() == 0);  // it may be alive: its lease is not over
    client.execute(
        "UPDATE outbox.relay SET seen_at = seen_at - interval '2 minutes', started_at = started_at - interval '2 "
        "minutes'");
    CHECK(crashes() == 1);
    client.execute("UPDATE outbox.relay SET started_at = started_at - interval '2 minutes'");
    CHECK(crashes() == 0);  // it lived long enough: whatever it died of was no row at its start
}

TEST_CASE("a delete that was cancelled is refused, and the session goes on") {
    const PostgresDatabase database;
    Client client = database.connect();
    Client locker = database.connect();
    SessionDriver driver(database.settings());
    insert(client, "'k'");
    const RowHead row = only_row(driver);
    locker.execute("BEGIN");
    locker.execute("SELECT 1 FROM outbox.message FOR UPDATE");
    driver.send(DeleteRows{std::vector{row.id}, {}});
    while (number(client,
                  "SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity WHERE datname = current_database() AND "
                  "wait_event_type = 'Lock'") == 0) {
    }
    driver.expect<DeleteRefused>();
    CHECK(driver.last.refusal.find("57014") != std::string::npos);
    locker.execute("ROLLBACK");
    driver.ask<RowsDeleted>(DeleteRows{std::vector{row.id}, {}});
    CHECK(driver.last.rows == 1);
}

}  // namespace outbox
