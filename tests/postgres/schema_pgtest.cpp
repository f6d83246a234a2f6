#include <doctest/doctest.h>

#include "postgres/migrations.hpp"
#include "support/postgres_database.hpp"

using outbox::Client;
using outbox::PostgresError;
using outbox::Role;
using outbox::testing::PostgresDatabase;

namespace {

// What the statement is refused with; empty when it is not.
PostgresError refusal(Client& client, const std::string& sql) {
    try {
        client.execute(sql);
    } catch (const PostgresError& error) {
        return error;
    }
    return PostgresError("", "00000");
}

void check_refused(Client& client, const std::string& values, const std::string& rule) {
    CAPTURE(values);
    const PostgresError error =
        refusal(client, "INSERT INTO outbox.message (topic, key, payload, headers) VALUES (" + values + ")");
    CHECK(error.sqlstate() == "23514");
    CHECK(std::string(error.what()).find('"' + rule + '"') != std::string::npos);
    // The row's content must not reach a log.
    CHECK(std::string(error.what()).find("Failing row") == std::string::npos);
}

std::int64_t count(Client& client, const std::string& sql) {
    return client.execute(sql).integer(0, 0);
}

}  // namespace

TEST_CASE("a row that breaks a rule is refused with that rule's sentence") {
    const PostgresDatabase database;
    Client client = database.connect();
    const std::string topic = "topic is 1 to 249 of a-z A-Z 0-9 . _ - and is not . or ..";
    for (const char* name : {"''", "'a b'", "'.'", "'..'", "'ä'", "E'a\\n'", "repeat('t', 250)"})
        check_refused(client, std::string(name) + ", 'k', 'x', '{}'", topic);
    check_refused(client, "'__internal', 'k', 'x', '{}'", "topic does not begin with __ (internal to Kafka)");
    check_refused(client, "'t', repeat('k', 16385), 'x', '{}'", "key is at most 16 KiB");
    check_refused(client, "'t', 'k', convert_to(repeat('x', 67108865), 'UTF8'), '{}'", "payload is at most 64 MiB");
    for (const char* headers : {"[]", "\"a\"", "1", "null", R"({"a": 1})", R"({"a": null})", R"({"a": ["b"]})",
                                R"({"a": []})", R"({"a": {"b": "c"}})", R"({"a": "b", "c": true})"})
        check_refused(client, "'t', 'k', 'x', '" + std::string(headers) + "'", "headers is an object of strings");
    check_refused(client, "'t', 'k', 'x', jsonb_build_object('a', repeat('x', 32768))",
                  "headers is at most 32 KiB as text");
    for (const char* name : {"id", "created_at"})
        check_refused(client, "'t', 'k', 'x', jsonb_build_object('" + std::string(name) + "', '1')",
                      "headers id and created_at are set by the relay");
    CHECK(count(client, "SELECT count(*) FROM outbox.message") == 0);
}

TEST_CASE("a row at the limits is taken") {
    const PostgresDatabase database;
    Client client = database.connect();
    client.execute(
        "INSERT INTO outbox.message (topic, key, payload, headers) VALUES"
        " (repeat('t', 249), repeat('k', 16384), convert_to(repeat('x', 67108864), 'UTF8'),"
        "  jsonb_build_object('a', repeat('x', 32000))),"
        " ('Az09._-', '', '', '{\"\": \"\", \"trace\": \"ü\"}'), ('t', NULL, NULL, '{}')",
        {}, std::chrono::seconds(60));
    CHECK(count(client, "SELECT count(*) FROM outbox.message") == 3);
}

TEST_CASE("a key always has the same lane and rows without a key are spread over all of them") {
    const PostgresDatabase database;
    Client client = database.connect();
    client.execute("INSERT INTO outbox.message (topic, key) SELECT 't', 'same' FROM generate_series(1, 100)");
    CHECK(count(client, "SELECT count(DISTINCT lane) FROM outbox.message") == 1);
    client.execute("DELETE FROM outbox.message");
    client.execute("INSERT INTO outbox.message (topic) SELECT 't' FROM generate_series(1, 64)");
    CHECK(count(client, "SELECT count(DISTINCT lane) FROM outbox.message") == 64);
    client.execute("DELETE FROM outbox.message");
    client.execute("INSERT INTO outbox.message (topic, key) SELECT 't', 'k' || n FROM generate_series(1, 2000) n");
    CHECK(count(client, "SELECT count(DISTINCT lane) FROM outbox.message WHERE lane BETWEEN 0 AND 63") == 64);
}

TEST_CASE("the lane of a key is the one that was published for it before") {
    // A lane is stored; were the hash to change between versions, one key would have two owners during an upgrade.
    const PostgresDatabase database;
    Client client = database.connect();
    client.execute("INSERT INTO outbox.message (topic, key) VALUES ('t', 'k')");
    CHECK(count(client, "SELECT lane FROM outbox.message") == 45);
}

TEST_CASE("publish takes jsonb, text and bytea and returns the event id of the row") {
    const PostgresDatabase database;
    Client client = database.connect();
    const auto published = [&](const std::string& payload) {
        const std::string id = client.execute("SELECT outbox.publish('t', 'k', " + payload + ")").text(0, 0);
        const outbox::Rows rows =
            client.execute("SELECT encode(payload, 'hex') FROM outbox.message WHERE event_id = $1", {id});
        REQUIRE(rows.size() == 1);
        return rows.at(0, 0) ? rows.text(0, 0) : "NULL";
    };
    CHECK(published("'{\"a\":1}'::jsonb") == "7b2261223a20317d");
    CHECK(published("'ü'::text") == "c3bc");
    CHECK(published("'\\x00ff'::bytea") == "00ff");
    CHECK(published("'null'::jsonb") == "6e756c6c");
    CHECK(published("NULL::jsonb") == "NULL");
    CHECK(published("NULL::bytea") == "NULL");
    CHECK(published("''::bytea").empty());
    // A literal without a type is text, and so is a plain NULL.
    CHECK(published("'plain'") == "706c61696e");
    CHECK(published("NULL") == "NULL");
}

TEST_CASE("publish takes named arguments and headers") {
    const PostgresDatabase database;
    Client client = database.connect();
    client.execute(R"(SELECT outbox.publish(topic => 't', key => NULL, payload => 'x', headers => '{"h": "v"}'))");
    const outbox::Rows rows = client.execute("SELECT headers ->> 'h', key FROM outbox.message");
    CHECK(rows.text(0, 0) == "v");
    CHECK_FALSE(rows.at(0, 1).has_value());
}

TEST_CASE("publish does not look at the caller's search_path") {
    const PostgresDatabase database;
    Client client = database.connect();
    client.execute_script(
        "CREATE SCHEMA trap; CREATE FUNCTION trap.gen_random_uuid() RETURNS uuid LANGUAGE sql AS"
        " $$ SELECT '00000000-0000-0000-0000-000000000000'::uuid $$;"
        "CREATE FUNCTION trap.convert_to(text, name) RETURNS bytea LANGUAGE sql AS $$ SELECT ''::bytea $$;"
        "CREATE TABLE trap.message (LIKE outbox.message); SET search_path = trap, pg_catalog;"
        "SELECT outbox.publish('t', 'k', 'x');");
    CHECK(count(client,
                "SELECT count(*) FROM outbox.message WHERE payload = 'x'"
                " AND event_id <> '00000000-0000-0000-0000-000000000000'") == 1);
}

TEST_CASE("the application's role may insert and publish and nothing else") {
    PostgresDatabase database;
    Client owner = database.connect();
    const std::string role = database.create_role("app");
    Client app = database.connect(role);
    CHECK(refusal(app, "SELECT outbox.publish('t', 'k', 'x')").sqlstate() == "42501");

    grant_privileges(owner, Role::app, role);
    CHECK(missing_grants(app, Role::app).empty());
    app.execute("SELECT outbox.publish('t', 'k', 'x')");
    app.execute("SELECT outbox.publish('t', 'k', 'x'::bytea), outbox.publish('t', 'k', '{}'::jsonb)");
    app.execute("INSERT INTO outbox.message (topic, payload) VALUES ('t', 'x')");

    for (const char* table :
         {"message", "lane", "relay", "dead_letter", "control", "blocked_key", "audit", "migration"}) {
        CAPTURE(table);
        CHECK(refusal(app, "SELECT 1 FROM outbox." + std::string(table)).sqlstate() == "42501");
        CHECK(refusal(app, "DELETE FROM outbox." + std::string(table)).sqlstate() == "42501");
        CHECK(refusal(app, "TRUNCATE outbox." + std::string(table)).sqlstate() == "42501");
    }
    CHECK(refusal(app, "UPDATE outbox.message SET topic = 'u'").sqlstate() == "42501");
    CHECK(refusal(app, "INSERT INTO outbox.control (topic) VALUES ('*')").sqlstate() == "42501");
    CHECK(refusal(app, "SELECT last_value FROM outbox.message_id_seq").sqlstate() == "42501");
    CHECK(refusal(app, "SELECT nextval('outbox.message_id_seq')").sqlstate() == "42501");
    CHECK(refusal(app, "CREATE TABLE outbox.mine (n int)").sqlstate() == "42501");
}

TEST_CASE("the relay's role may do its work and nothing else") {
    PostgresDatabase database;
    Client owner = database.connect();
    const std::string role = database.create_role("relay");
    grant_privileges(owner, Role::relay, role);
    owner.execute("SELECT outbox.publish('t', 'k', 'x'), outbox.publish('t', 'k', 'y')");

    Client relay = database.connect(role);
    CHECK(missing_grants(relay, Role::relay, true).empty());
    relay.execute("SELECT id FROM outbox.message FOR UPDATE SKIP LOCKED");
    relay.execute("SELECT last_value FROM outbox.message_id_seq");
    relay.execute("SELECT lane FROM outbox.lane WHERE lane = 0 FOR UPDATE SKIP LOCKED");
    relay.execute(
        "UPDATE outbox.lane SET owner = gen_random_uuid(), epoch = epoch + 1, expires_at = clock_timestamp()");
    relay.execute("INSERT INTO outbox.relay (id, host, pid, version) VALUES (gen_random_uuid(), 'h', 1, '0')");
    relay.execute("UPDATE outbox.relay SET seen_at = clock_timestamp()");
    relay.execute("DELETE FROM outbox.relay");
    relay.execute(
        "WITH gone AS (DELETE FROM outbox.message WHERE id = (SELECT min(id) FROM outbox.message) RETURNING *)"
        " INSERT INTO outbox.dead_letter (message_id, event_id, topic, key, payload, headers, created_at, error_code, "
        "error_text)"
        " SELECT id, event_id, topic, key, payload, headers, created_at, 'MSG_SIZE_TOO_LARGE', 'too large' FROM gone");
    relay.execute("UPDATE outbox.dead_letter SET attempts = 2");
    relay.execute("INSERT INTO outbox.control (topic, paused) VALUES ('*', true)");
    relay.execute("DELETE FROM outbox.message WHERE id = ANY(ARRAY(SELECT id FROM outbox.message))");
    relay.execute(
        "INSERT INTO outbox.blocked_key (topic, key, lane, message_id, event_id, error_code, error_text)"
        " VALUES ('t', 'k', 0, 1, gen_random_uuid(), 'X', 'x')");
    relay.execute("DELETE FROM outbox.blocked_key");
    relay.execute("INSERT INTO outbox.audit (action, target) VALUES ('x', '*')");
    relay.execute("SELECT outbox.requeue(id) FROM outbox.dead_letter");
    relay.execute("SELECT count(*) FROM outbox.migration");

    CHECK(refusal(relay, "INSERT INTO outbox.message (topic) VALUES ('t')").sqlstate() == "42501");
    CHECK(refusal(relay, "SELECT outbox.publish('t', 'k', 'x')").sqlstate() == "42501");
    CHECK(refusal(relay, "UPDATE outbox.message SET topic = 'u'").sqlstate() == "42501");
    CHECK(refusal(relay, "UPDATE outbox.message SET lane = 1").sqlstate() == "428C9");  // generated
    CHECK(refusal(relay, "TRUNCATE outbox.message").sqlstate() == "42501");
    CHECK(refusal(relay, "INSERT INTO outbox.lane (lane) VALUES (1)").sqlstate() == "42501");
    CHECK(refusal(relay, "DELETE FROM outbox.lane").sqlstate() == "42501");
    CHECK(refusal(relay, "UPDATE outbox.audit SET action = 'y'").sqlstate() == "42501");
    CHECK(refusal(relay, "DELETE FROM outbox.audit").sqlstate() == "42501");
    CHECK(refusal(relay, "DELETE FROM outbox.migration").sqlstate() == "42501");
    CHECK(refusal(relay, "CREATE TABLE outbox.mine (n int)").sqlstate() == "42501");
}

TEST_CASE("a missing grant is named with the statement that gives it") {
    PostgresDatabase database;
    Client owner = database.connect();
    const std::string role = database.create_role("relay");
    Client relay = database.connect(role);
    REQUIRE(missing_grants(relay, Role::relay).size() == 1);
    CHECK(missing_grants(relay, Role::relay).front() == "GRANT USAGE ON SCHEMA outbox TO \"" + role + "\";");

    grant_privileges(owner, Role::relay, role);
    owner.execute("REVOKE UPDATE ON outbox.lane FROM " + role);
    const std::string grant = "GRANT SELECT, UPDATE ON TABLE outbox.lane TO \"" + role + "\";";
    REQUIRE(missing_grants(relay, Role::relay).size() == 1);
    CHECK(missing_grants(relay, Role::relay).front() == grant);
    CHECK(std::string(refusal(relay, "UPDATE outbox.lane SET epoch = 1").what()).find(grant) != std::string::npos);
    owner.execute(grant);

    owner.execute("REVOKE UPDATE (lane) ON outbox.message FROM " + role);
    CHECK(missing_grants(relay, Role::relay).empty());
    const std::string locks = "GRANT UPDATE (lane) ON TABLE outbox.message TO \"" + role + "\";";
    REQUIRE(missing_grants(relay, Role::relay, true).size() == 1);
    CHECK(missing_grants(relay, Role::relay, true).front() == locks);
    const std::string refused = refusal(relay, "SELECT id FROM outbox.message FOR UPDATE").what();
    CHECK(refused.find(locks) != std::string::npos);
}

TEST_CASE("every table, column and function says what it is for") {
    const PostgresDatabase database;
    Client client = database.connect();
    CHECK(
        count(
            client,
            "SELECT count(*) FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid WHERE c.relkind = 'r' AND"
            " c.relnamespace = 'outbox'::regnamespace AND a.attnum > 0 AND col_description(c.oid, a.attnum) IS NULL") ==
        0);
    CHECK(count(client,
                "SELECT count(*) FROM pg_class c WHERE c.relkind = 'r' AND c.relnamespace = 'outbox'::regnamespace AND"
                " obj_description(c.oid, 'pg_class') IS NULL") == 0);
    CHECK(count(client,
                "SELECT count(*) FROM pg_proc p WHERE p.pronamespace = 'outbox'::regnamespace AND"
                " obj_description(p.oid, 'pg_proc') IS NULL") == 0);
}

TEST_CASE("renewing the leases never writes to the index") {
    const PostgresDatabase database;
    Client client = database.connect();
    for (int i = 0; i < 50; ++i) client.execute("UPDATE outbox.lane SET expires_at = clock_timestamp()");
    CHECK(count(client, "SELECT pg_relation_size('outbox.lane_pkey') / current_setting('block_size')::int") <= 2);
    CHECK(count(client, "SELECT pg_relation_size('outbox.lane') / current_setting('block_size')::int") <= 12);
}
