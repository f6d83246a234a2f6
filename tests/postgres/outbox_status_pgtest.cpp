#include <doctest/doctest.h>

#include "postgres/outbox_status.hpp"
#include "support/postgres_database.hpp"

using outbox::Backlog;
using outbox::Client;
using outbox::OutboxStatus;
using outbox::read_backlog;
using outbox::read_outbox_status;
using outbox::StatusLimits;
using outbox::testing::PostgresDatabase;
using namespace std::chrono_literals;

namespace {

void insert(Client& client, int rows) {
    client.execute("INSERT INTO outbox.message (topic, key) SELECT 't', 'k' || n FROM generate_series(1, $1::int) n",
                   {std::to_string(rows)});
}

// Before Postgres 15 they went through a process of their own, some time later.
bool statistics_are_immediate(const Client& client) {
    return client.server_version() >= 150000;
}

StatusLimits capped_at(std::int64_t cap) {
    StatusLimits limits;
    limits.cap = cap;
    return limits;
}

}  // namespace

TEST_CASE("an empty outbox has no backlog and no age") {
    const PostgresDatabase database;
    Client client = database.connect();
    const OutboxStatus status = read_outbox_status(client);
    CHECK(status.backlog.rows == 0);
    CHECK_FALSE(status.backlog.estimated);
    CHECK_FALSE(status.backlog.oldest_age_seconds);
    CHECK(status.lanes_covered == 0);
    CHECK(status.lanes_uncovered == 64);
    CHECK(status.relays.empty());
    CHECK(status.dead_letters == 0);
    CHECK(status.living_workers == 0);
    CHECK_FALSE(status.paused);
    REQUIRE(status.schema.size() == 1);
    CHECK(status.schema.front().version == status.schema_version);
    CHECK(status.schema_version > 0);
    CHECK(status.schema.front().module == "outbox");
}

TEST_CASE("up to the cap the backlog is exact") {
    const PostgresDatabase database;
    Client client = database.connect();
    insert(client, 100);
    client.execute(
        "INSERT INTO outbox.message (topic, created_at) VALUES ('t', clock_timestamp() - interval '2 minutes')");
    const Backlog backlog = read_backlog(client, capped_at(101));
    CHECK(backlog.rows == 101);
    CHECK_FALSE(backlog.estimated);
    REQUIRE(backlog.oldest_age_seconds.has_value());
    CHECK(*backlog.oldest_age_seconds >= 120);
    CHECK(*backlog.oldest_age_seconds < 150);
}

TEST_CASE("beyond the cap the backlog is an estimate of at least the cap") {
    const PostgresDatabase database;
    Client client = database.connect();
    insert(client, 500);
    const Backlog fresh = read_backlog(client, capped_at(100));
    CHECK(fresh.estimated);
    CHECK(fresh.rows > 100);
    CHECK(fresh.rows <= 500);
    if (!statistics_are_immediate(client)) return;
    client.execute("ANALYZE outbox.message");
    CHECK(read_backlog(client, capped_at(100)).rows == 500);
    // Ids that were drawn and rolled back do not count.
    client.execute("SELECT setval('outbox.message_id_seq', 100000)");
    CHECK(read_backlog(client, capped_at(100)).rows == 500);
}

TEST_CASE("rows at or below the floor are not looked at") {
    const PostgresDatabase database;
    Client client = database.connect();
    insert(client, 10);
    StatusLimits limits;
    limits.floor = client.execute("SELECT max(id) - 4 FROM outbox.message").integer(0, 0);
    CHECK(read_backlog(client, limits).rows == 4);
}

TEST_CASE("a count that takes too long becomes an estimate and the connection stays usable") {
    const PostgresDatabase database;
    Client client = database.connect();
    Client other = database.connect();
    insert(client, 50);
    client.execute("ANALYZE outbox.message");
    // Stands in for millions of dead rows: the count has to wait and is cancelled.
    other.execute("BEGIN");
    other.execute("LOCK TABLE outbox.message IN ACCESS EXCLUSIVE MODE");
    StatusLimits limits;
    limits.statement_timeout = 100ms;
    const Backlog backlog = read_backlog(client, limits);
    other.execute("ROLLBACK");
    CHECK(backlog.estimated);
    if (statistics_are_immediate(client)) CHECK(backlog.rows == 50);
    CHECK_FALSE(backlog.oldest_age_seconds);
    CHECK(client.execute("SHOW statement_timeout").text(0, 0) == "0");
    CHECK_FALSE(read_backlog(client).estimated);
}

TEST_CASE("lanes are covered while their lease lasts") {
    const PostgresDatabase database;
    Client client = database.connect();
    const std::string id = "00000000-0000-0000-0000-00000000000a";
    client.execute(
        "INSERT INTO outbox.relay (id, host, pid, version, started_at) VALUES ($1, 'host-a', 42, '1.2.3',"
        " clock_timestamp() - interval '1 hour')",
        {id});
    client.execute(
        "UPDATE outbox.lane SET owner = $1, expires_at = clock_timestamp() + interval '1 minute' WHERE lane < 40",
        {id});
    client.execute(
        "UPDATE outbox.lane SET owner = $1, expires_at = clock_timestamp() - interval '1 second' WHERE lane = 50",
        {id});
    const OutboxStatus status = read_outbox_status(client);
    CHECK(status.lanes_covered == 40);
    CHECK(status.lanes_uncovered == 24);
    REQUIRE(status.relays.size() == 1);
    CHECK(status.relays.front().id == id);
    CHECK(status.relays.front().host == "host-a");
    CHECK(status.relays.front().pid == 42);
    CHECK(status.relays.front().version == "1.2.3");
    CHECK(status.relays.front().lanes == 40);
    CHECK(status.relays.front().started_age_seconds >= 3600);
    CHECK(status.relays.front().seen_age_seconds < 60);
}

TEST_CASE("only living workers are told, with what they are at") {
    const PostgresDatabase database;
    Client client = database.connect();
    const auto add = [&](const std::string& host, const std::string& unseen, const std::string& lease_ttl_ms) {
        client.execute(
            "INSERT INTO outbox.relay (id, host, pid, version, seen_at, lease_ttl_ms, in_flight_rows, control_revision)"
            " VALUES (gen_random_uuid(), $1, 1, '0', clock_timestamp() - $2::interval, $3::int, 17, 5)",
            {host, unseen, lease_ttl_ms});
    };
    add("dead", "10 seconds", "3000");
    add("living", "10 seconds", "60000");
    const OutboxStatus status = read_outbox_status(client);
    CHECK(status.living_workers == 1);
    REQUIRE(status.relays.size() == 1);
    CHECK(status.relays.front().host == "living");
    CHECK(status.relays.front().in_flight_rows == 17);
    CHECK(status.relays.front().control_revision == 5);
    CHECK(status.control_revision == 0);
}

TEST_CASE("blocked keys are part of the status") {
    const PostgresDatabase database;
    Client client = database.connect();
    CHECK(read_outbox_status(client).blocked_keys.rows == 0);
    client.execute(
        "INSERT INTO outbox.blocked_key (topic, key, lane, message_id, event_id, error_code, error_text)"
        " SELECT 't', 'k' || n, 0, n, gen_random_uuid(), 'X', 'x' FROM generate_series(1, 30) n");
    const OutboxStatus status = read_outbox_status(client);
    CHECK(status.keys_blocked == 30);
    CHECK(status.blocked_keys.rows == 30);
    CHECK(status.blocked_keys.first.size() == 20);
    CHECK(read_outbox_status(client, capped_at(10)).blocked_keys.capped);
    CHECK(read_outbox_status(client, capped_at(10)).keys_blocked == 10);
}

TEST_CASE("dead letters and what an operator ordered are told") {
    const PostgresDatabase database;
    Client client = database.connect();
    client.execute(
        "INSERT INTO outbox.dead_letter (message_id, event_id, topic, headers, created_at, error_code, error_text)"
        " SELECT n, gen_random_uuid(), 't', '{}', now(), 'X', 'x' FROM generate_series(1, 7) n");
    client.execute("INSERT INTO outbox.control (topic, paused, reason) VALUES ('orders', true, 'upgrade')");
    client.execute("INSERT INTO outbox.control (topic, max_rows_per_second) VALUES ('*', 500)");
    OutboxStatus status = read_outbox_status(client);
    CHECK_FALSE(status.paused);
    CHECK(status.paused_topics == 1);
    CHECK(status.dead_letters == 7);
    CHECK_FALSE(status.dead_letters_capped);
    REQUIRE(status.control.size() == 2);
    CHECK(status.control[0].topic == "*");
    CHECK(status.control[0].max_rows_per_second == 500);
    CHECK(status.control[1].topic == "orders");
    CHECK(status.control[1].paused);
    CHECK(status.control[1].reason == "upgrade");
    CHECK(status.control[1].changed_by == "postgres");

    client.execute("UPDATE outbox.control SET paused = (topic = '*')");
    status = read_outbox_status(client, capped_at(5));
    CHECK(status.paused);
    CHECK(status.paused_topics == 0);
    CHECK(status.dead_letters == 5);
    CHECK(status.dead_letters_capped);
}
