#include <doctest/doctest.h>

#include "postgres/dead_letters.hpp"
#include "postgres/migrations.hpp"
#include "support/postgres_database.hpp"

namespace outbox {

namespace {

using testing::PostgresDatabase;
using namespace std::chrono_literals;

const Operator someone{"jo@desk", "the limit is 4 MiB now"};

// `rows` of them, message ids from 101 on, keys k1, k2, …
void bury(Client& client, const std::string& topic, int rows, const std::string& code = "MSG_SIZE_TOO_LARGE") {
    client.execute(
        "INSERT INTO outbox.dead_letter (message_id, event_id, topic, key, payload, headers, created_at, error_code,"
        " error_text) SELECT 100 + n, gen_random_uuid(), $1, 'k' || n, '\\x00ff0a', '{\"h\": \"v\"}',"
        " '2025-01-31 08:00:00+00', $3, 'too large' FROM generate_series(1, $2::int) AS n",
        {topic, std::to_string(rows), code});
}

std::int64_t count(Client& client, const std::string& sql) {
    return client.execute(sql).integer(0, 0);
}

std::int64_t listed(Client& client, const DeadLetterFilter& filter) {
    return static_cast<std::int64_t>(list_dead_letters(client, filter, {}, false).size());
}

}  // namespace

TEST_CASE("a requeued dead letter is the same event under a new id") {
    PostgresDatabase database;
    Client owner = database.connect();
    const std::string role = database.create_role("relay");
    grant_privileges(owner, Role::relay, role);
    bury(owner, "orders", 1);
    const std::string before =
        owner.execute("SELECT (event_id, topic, key, payload, headers, created_at)::text FROM outbox.dead_letter")
            .text(0, 0);

    Client relay = database.connect(role);
    const DeadLetterBatch done = requeue_dead_letters(relay, someone, {}, {});
    CHECK(done.rows == 1);
    CHECK(owner.execute("SELECT (event_id, topic, key, payload, headers, created_at)::text FROM outbox.message")
              .text(0, 0) == before);
    CHECK(count(owner, "SELECT count(*) FROM outbox.dead_letter") == 0);
    CHECK(count(owner,
                "SELECT count(*) FROM outbox.audit AS a JOIN outbox.message AS m ON"
                " a.detail #>> '{events,0,event_id}' = m.event_id::text"
                " AND (a.detail #>> '{events,0,message_id}')::bigint = m.id"
                " WHERE action = 'dlq_requeue' AND target = '*' AND actor = 'jo@desk'"
                " AND reason = 'the limit is 4 MiB now'") == 1);
}

TEST_CASE("requeueing keeps the order of arrival") {
    const PostgresDatabase database;
    Client client = database.connect();
    bury(client, "orders", 250);
    client.execute("ANALYZE outbox.dead_letter");
    CHECK(requeue_dead_letters(client, someone, {}, {.limit = 1000}).rows == 250);
    CHECK(count(client,
                "SELECT count(*) FROM (SELECT substr(key, 2)::int - lag(substr(key, 2)::int) OVER (ORDER BY id)"
                " AS step FROM outbox.message) AS s WHERE step <> 1") == 0);
}

TEST_CASE("a batch is all or nothing, its line in the audit included") {
    const PostgresDatabase database;
    Client client = database.connect();
    bury(client, "orders", 2);
    bury(client, "not a topic", 1);  // breaks a rule of outbox.message
    CHECK_THROWS_AS(requeue_dead_letters(client, someone, {}, {}), PostgresError);
    CHECK(count(client, "SELECT count(*) FROM outbox.dead_letter") == 3);
    CHECK(count(client, "SELECT count(*) FROM outbox.message") == 0);
    CHECK(count(client, "SELECT count(*) FROM outbox.audit") == 0);
}

TEST_CASE("requeue says when there is no such dead letter, and rolls back with its caller") {
    const PostgresDatabase database;
    Client client = database.connect();
    CHECK_FALSE(client.execute("SELECT outbox.requeue(1)").at(0, 0).has_value());
    bury(client, "orders", 1);
    client.execute_script("BEGIN; SELECT outbox.requeue(id) FROM outbox.dead_letter; ROLLBACK");
    CHECK(count(client, "SELECT count(*) FROM outbox.dead_letter") == 1);
    CHECK(count(client, "SELECT count(*) FROM outbox.message") == 0);
}

TEST_CASE("requeue is for the relay's role alone and does not look at the search_path") {
    PostgresDatabase database;
    Client owner = database.connect();
    bury(owner, "orders", 1);
    const std::string app_role = database.create_role("app");
    grant_privileges(owner, Role::app, app_role);
    Client app = database.connect(app_role);
    CHECK_THROWS_WITH_AS(app.execute("SELECT outbox.requeue(1)"), doctest::Contains("permission denied"),
                         PostgresError);

    const std::string relay_role = database.create_role("relay");
    grant_privileges(owner, Role::relay, relay_role);
    Client relay = database.connect(relay_role);
    // What it may not do by itself, it may not do through a table of its own either.
    relay.execute_script(
        "CREATE TEMPORARY TABLE dead_letter (LIKE outbox.dead_letter);"
        "CREATE TEMPORARY TABLE message (id bigint); SET search_path = pg_temp;");
    CHECK(relay.execute("SELECT outbox.requeue(id) FROM outbox.dead_letter").at(0, 0).has_value());
    CHECK(count(owner, "SELECT count(*) FROM outbox.message") == 1);
}

TEST_CASE("filters narrow each other and are never text of the statement") {
    const PostgresDatabase database;
    Client client = database.connect();
    bury(client, "orders", 5);
    bury(client, "payments", 3, "INVALID_RECORD");
    client.execute("UPDATE outbox.dead_letter SET last_failed_at = now() - interval '1 day' WHERE key = 'k1'");
    CHECK(listed(client, {}) == 8);
    CHECK(listed(client, {.topic = "orders"}) == 5);
    CHECK(listed(client, {.key = "k3"}) == 2);
    CHECK(listed(client, {.topic = "orders", .key = "k3"}) == 1);
    CHECK(listed(client, {.error_code = "INVALID_RECORD"}) == 3);
    CHECK(listed(client, {.since = resolve_since(client, 1h)}) == 6);
    CHECK(listed(client, {.ids = {1, 2, 6, 999}}) == 3);
    CHECK(listed(client, {.topic = "orders", .ids = {1, 2, 6}}) == 2);
    for (const std::string attack : {"' OR true --", "x'; DROP TABLE outbox.message; --", "%", "$1", "k_"}) {
        CHECK(listed(client, {.topic = attack}) == 0);
        CHECK(listed(client, {.key = attack}) == 0);
        CHECK(listed(client, {.error_code = attack}) == 0);
        CHECK_FALSE(resolve_since(client, attack).has_value());
    }
    CHECK(count_dead_letters(client, {.topic = "orders"}, {}) == 5);
    CHECK(count_dead_letters(client, {}, {.limit = 3}) == 3);
}

TEST_CASE("a time without a zone is UTC, whatever the server's zone is") {
    const PostgresDatabase database;
    Client client = database.connect();
    client.execute("SET TimeZone = 'America/New_York'");
    client.execute("SET DateStyle = 'SQL, DMY'");
    CHECK(resolve_since(client, "2025-01-31T08:00:00") == "2025-01-31 08:00:00+00");
    CHECK(resolve_since(client, "2025-01-31 08:00:00-02:00") == "2025-01-31 10:00:00+00");
    CHECK_FALSE(resolve_since(client, "2025-13-31").has_value());
    CHECK_NOTHROW(listed(client, {.since = resolve_since(client, 1h)}));
}

TEST_CASE("a dead letter is listed whole, its payload only when asked for") {
    const PostgresDatabase database;
    Client client = database.connect();
    bury(client, "orders", 1);
    client.execute(
        "INSERT INTO outbox.dead_letter (message_id, event_id, topic, headers, created_at, error_code,"
        " error_text) VALUES (7, gen_random_uuid(), 't', '{}', now(), 'X', 'x')");
    auto letters = list_dead_letters(client, {}, {}, false);
    REQUIRE(letters.size() == 2);
    CHECK(letters[0].message_id == 101);
    CHECK(letters[0].key == "k1");
    CHECK(letters[0].payload_bytes == 3);
    CHECK_FALSE(letters[0].payload.has_value());
    CHECK(letters[0].headers == R"({"h": "v"})");
    CHECK(letters[0].created_at == "2025-01-31T08:00:00.000Z");
    CHECK_FALSE(letters[1].key.has_value());
    CHECK_FALSE(letters[1].payload_bytes.has_value());

    letters = list_dead_letters(client, {}, {}, true);
    CHECK(letters[0].payload == std::string("\0\xff\n", 3));
    CHECK_FALSE(letters[1].payload.has_value());
}

TEST_CASE("batches follow each other and leave alone what arrived later") {
    const PostgresDatabase database;
    Client client = database.connect();
    bury(client, "orders", 5);
    DeadLetterRange range{.upto = last_dead_letter(client), .limit = 2};
    bury(client, "orders", 1);
    std::int64_t rows = 0;
    while (true) {
        const DeadLetterBatch done = discard_dead_letters(client, someone, {.topic = "orders"}, range);
        if (done.rows == 0) break;
        CHECK(done.rows <= 2);
        rows += done.rows;
        range.after = done.last_id;
    }
    CHECK(rows == 5);
    CHECK(count(client, "SELECT count(*) FROM outbox.dead_letter") == 1);
    // One line for each batch that did something.
    CHECK(count(client, "SELECT count(*) FROM outbox.audit WHERE action = 'dlq_discard' AND target = 'orders'") == 3);
    CHECK(count(client, "SELECT sum(jsonb_array_length(detail -> 'events')) FROM outbox.audit") == 5);
}

}  // namespace outbox
