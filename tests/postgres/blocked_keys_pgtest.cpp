#include <doctest/doctest.h>

#include "postgres/blocked_keys.hpp"
#include "postgres/migrations.hpp"
#include "support/postgres_database.hpp"

namespace outbox {

namespace {

using testing::PostgresDatabase;

const Operator someone{"jo@desk", "mended"};

// A row of that key and, after it, another one; the first blocks.
void block(Client& client, const std::string& key) {
    client.execute(
        "INSERT INTO outbox.message (topic, key, payload) VALUES ('orders', $1, 'bad'), ('orders', $1, 'good')", {key});
    client.execute(
        "INSERT INTO outbox.blocked_key (topic, key, lane, message_id, event_id, error_code, error_text,"
        " attempts) SELECT topic, key, lane, id, event_id, 'INVALID_RECORD', 'refused', 3"
        " FROM outbox.message WHERE key = $1 AND payload = 'bad'",
        {key});
}

std::int64_t count(Client& client, const std::string& sql) {
    return client.execute(sql).integer(0, 0);
}

}  // namespace

TEST_CASE("blocked keys are counted up to the cap and listed from the longest blocked one on") {
    const PostgresDatabase database;
    Client client = database.connect();
    CHECK(read_blocked_keys(client, 10).rows == 0);
    for (int i = 1; i <= 5; ++i) block(client, "k" + std::to_string(i));
    client.execute("UPDATE outbox.blocked_key SET blocked_at = now() - interval '1 hour' WHERE key = 'k4'");
    const BlockedKeys keys = read_blocked_keys(client, 10, 2);
    CHECK(keys.rows == 5);
    CHECK_FALSE(keys.capped);
    REQUIRE(keys.first.size() == 2);
    CHECK(keys.first[0].key == "k4");
    CHECK(keys.first[0].topic == "orders");
    CHECK(keys.first[0].error_code == "INVALID_RECORD");
    CHECK(keys.first[0].attempts == 3);
    CHECK(keys.first[0].blocked_age_seconds >= 3600);
    CHECK(keys.first[1].key == "k1");
    CHECK(read_blocked_keys(client, 4).capped);
    CHECK(read_blocked_keys(client, 4).rows == 4);
}

TEST_CASE("releasing a key leaves its rows and is audited") {
    PostgresDatabase database;
    Client owner = database.connect();
    const std::string role = database.create_role("relay");
    grant_privileges(owner, Role::relay, role);
    block(owner, "a");
    block(owner, "b");
    Client relay = database.connect(role);
    const auto released = release_key(relay, someone, "orders", "a", BlockingRow::stays);
    REQUIRE(released.has_value());
    CHECK(released->error_code == "INVALID_RECORD");
    CHECK_FALSE(released->dead_letter_id.has_value());
    CHECK(count(owner, "SELECT count(*) FROM outbox.blocked_key WHERE key = 'b'") == 1);
    CHECK(count(owner, "SELECT count(*) FROM outbox.blocked_key") == 1);
    CHECK(count(owner, "SELECT count(*) FROM outbox.message") == 4);
    CHECK(count(owner,
                "SELECT count(*) FROM outbox.audit WHERE action = 'unblock' AND target = 'orders' AND actor ="
                " 'jo@desk' AND reason = 'mended' AND detail ->> 'key' = 'a'") == 1);
}

TEST_CASE("the row that blocks a key becomes a dead letter in the same transaction") {
    PostgresDatabase database;
    Client owner = database.connect();
    const std::string role = database.create_role("relay");
    grant_privileges(owner, Role::relay, role);
    block(owner, "a");
    Client relay = database.connect(role);
    const auto released = release_key(relay, someone, "orders", "a", BlockingRow::to_dead_letters);
    REQUIRE(released.has_value());
    CHECK(released->dead_letter_id.has_value());
    CHECK(count(owner, "SELECT count(*) FROM outbox.message WHERE payload = 'good'") == 1);
    CHECK(count(owner, "SELECT count(*) FROM outbox.message") == 1);
    CHECK(count(owner,
                "SELECT count(*) FROM outbox.dead_letter WHERE payload = 'bad' AND key = 'a' AND attempts = 3"
                " AND error_code = 'INVALID_RECORD' AND event_id = '" +
                    released->event_id + "'") == 1);
}

TEST_CASE("another event that has got the blocking row's id is left alone") {
    const PostgresDatabase database;
    Client client = database.connect();
    block(client, "a");
    client.execute("UPDATE outbox.message SET event_id = gen_random_uuid()");
    const auto released = release_key(client, someone, "orders", "a", BlockingRow::to_dead_letters);
    REQUIRE(released.has_value());
    CHECK_FALSE(released->dead_letter_id.has_value());
    CHECK(count(client, "SELECT count(*) FROM outbox.message") == 2);
    CHECK(count(client, "SELECT count(*) FROM outbox.dead_letter") == 0);
}

TEST_CASE("releasing a key that is not blocked changes nothing") {
    const PostgresDatabase database;
    Client client = database.connect();
    block(client, "a");
    CHECK_FALSE(release_key(client, someone, "orders", "b", BlockingRow::to_dead_letters).has_value());
    CHECK_FALSE(release_key(client, someone, "other", "a", BlockingRow::to_dead_letters).has_value());
    CHECK(count(client, "SELECT count(*) FROM outbox.blocked_key") == 1);
    CHECK(count(client, "SELECT count(*) FROM outbox.message") == 2);
    CHECK(count(client, "SELECT count(*) FROM outbox.audit") == 0);
}

}  // namespace outbox
