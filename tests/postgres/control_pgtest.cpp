#include <doctest/doctest.h>

#include <future>

#include "postgres/control.hpp"
#include "postgres/migrations.hpp"
#include "postgres/outbox_status.hpp"
#include "support/postgres_database.hpp"

namespace outbox {

namespace {

using testing::PostgresDatabase;

const Operator someone{"jo@desk", "an upgrade"};

std::string refused(Client& client, const std::string& sql) {
    try {
        client.execute(sql);
    } catch (const PostgresError& error) {
        return std::string(error.sqlstate());
    }
    return "";
}

// The newest line of the audit, the columns separated by spaces.
std::string last_line(Client& client) {
    return client
        .execute(
            "SELECT concat_ws(' ', db_role, coalesce(actor, '-'), client, action, target, coalesce(reason, '-'))"
            " FROM outbox.audit ORDER BY id DESC LIMIT 1")
        .text(0, 0);
}

std::int64_t count(Client& client, const std::string& sql) {
    return client.execute(sql).integer(0, 0);
}

}  // namespace

TEST_CASE("each change of control has a higher revision and a line in the audit") {
    PostgresDatabase database;
    Client owner = database.connect();
    const std::string role = database.create_role("relay");
    grant_privileges(owner, Role::relay, role);
    Client client = database.connect(role);

    const ControlRevision paused = pause_topic(client, someone, everything);
    CHECK(last_line(client) == role + " jo@desk local pause * an upgrade");
    const ControlRevision topic = pause_topic(client, someone, "orders");
    CHECK(last_line(client) == role + " jo@desk local pause orders an upgrade");
    const auto limited = set_rate(client, someone, 500);
    CHECK(last_line(client) == role + " jo@desk local rate * an upgrade");
    const auto resumed = resume_topic(client, {"jo@desk", std::nullopt}, everything);
    CHECK(last_line(client) == role + " jo@desk local resume * -");
    CHECK(paused > 0);
    CHECK(topic > paused);
    CHECK(limited.value() > topic);
    CHECK(resumed.value() > limited.value());

    const OutboxStatus status = read_outbox_status(client);
    CHECK(status.control_revision == *resumed);
    REQUIRE(status.control.size() == 2);
    CHECK_FALSE(status.control[0].paused);
    CHECK(status.control[0].max_rows_per_second == 500);
    CHECK(status.control[0].changed_by == role);
    CHECK(status.control[1].paused);
}

TEST_CASE("what changes nothing writes nothing") {
    const PostgresDatabase database;
    Client client = database.connect();
    CHECK_FALSE(resume_topic(client, someone, everything).has_value());
    CHECK_FALSE(set_rate(client, someone, std::nullopt).has_value());
    CHECK(count(client, "SELECT count(*) FROM outbox.audit") == 0);
}

TEST_CASE("a pause that is repeated counts anew, with its reason") {
    const PostgresDatabase database;
    Client client = database.connect();
    const ControlRevision first = pause_topic(client, someone, "orders");
    CHECK(pause_topic(client, {"al@desk", "still"}, "orders") > first);
    CHECK(read_control(client).front().reason == "still");
    CHECK(last_line(client) == "postgres al@desk local control orders still");
}

TEST_CASE("a change by hand is audited with what was before and after") {
    const PostgresDatabase database;
    Client client = database.connect();
    client.execute(
        "INSERT INTO outbox.control (topic, paused, reason, changed_by, revision) VALUES"
        " ('*', true, 'by hand', 'somebody else', 99999)");
    CHECK(last_line(client) == "postgres - local pause * by hand");
    CHECK(read_control(client).front().changed_by == "postgres");
    CHECK(count(client, "SELECT revision FROM outbox.control") < 99999);

    client.execute("UPDATE outbox.control SET paused = false, max_rows_per_second = 7");
    CHECK(last_line(client) == "postgres - local control * by hand");
    CHECK(client
              .execute("SELECT detail #>> '{old,paused}' || ' ' || (detail #>> '{new,paused}') || ' ' ||"
                       " (detail #>> '{new,max_rows_per_second}') FROM outbox.audit ORDER BY id DESC LIMIT 1")
              .text(0, 0) == "true false 7");

    client.execute("DELETE FROM outbox.control");
    CHECK(last_line(client) == "postgres - local rate * -");
    CHECK(count(client, "SELECT count(*) FROM outbox.audit") == 3);
}

TEST_CASE("a change that is rolled back leaves no line") {
    const PostgresDatabase database;
    Client client = database.connect();
    client.execute_script("BEGIN; INSERT INTO outbox.control (topic, paused) VALUES ('*', true); ROLLBACK");
    CHECK(count(client, "SELECT count(*) FROM outbox.audit") == 0);
}

TEST_CASE("revisions commit in their order") {
    const PostgresDatabase database;
    Client slow = database.connect();
    slow.execute("BEGIN");
    slow.execute("INSERT INTO outbox.control (topic, paused) VALUES ('a', true)");
    auto fast = std::async(std::launch::async, [&] {
        Client client = database.connect();
        return pause_topic(client, someone, "b");
    });
    // A worker that saw b's revision now would pass for having seen a's.
    Client reader = database.connect();
    while (count(reader, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted") == 0) {
    }
    CHECK(read_control(reader).empty());
    slow.execute("COMMIT");
    CHECK(fast.get() > count(reader, "SELECT revision FROM outbox.control WHERE topic = 'a'"));
}

TEST_CASE("an order behind a transaction that was left open says what is in the way") {
    const PostgresDatabase database;
    Client open = database.connect();
    open.execute("BEGIN");
    open.execute("INSERT INTO outbox.control (topic, paused) VALUES ('a', true)");
    Client client = database.connect();
    CHECK_THROWS_WITH_AS(pause_topic(client, someone, "b"), doctest::Contains("pg_stat_activity"), PostgresError);
    open.execute("ROLLBACK");
    CHECK_NOTHROW(pause_topic(client, someone, "b"));
}

TEST_CASE("a rate is for everything or for nothing") {
    const PostgresDatabase database;
    Client client = database.connect();
    CHECK(refused(client, "INSERT INTO outbox.control (topic, max_rows_per_second) VALUES ('orders', 5)") == "23514");
    CHECK(refused(client, "INSERT INTO outbox.control (topic, max_rows_per_second) VALUES ('*', 0)") == "23514");
    set_rate(client, someone, 500);
    CHECK(set_rate(client, someone, std::nullopt).has_value());
    CHECK_FALSE(read_control(client).front().max_rows_per_second.has_value());
}

TEST_CASE("the relay's role adds to the audit and cannot rewrite it") {
    PostgresDatabase database;
    Client owner = database.connect();
    const std::string role = database.create_role("relay");
    grant_privileges(owner, Role::relay, role);
    Client relay = database.connect(role);
    relay.execute(
        "INSERT INTO outbox.audit (at, db_role, client, action, target) VALUES"
        " ('2001-01-01', 'postgres', '10.0.0.1', 'x', '*')");
    // Where a line comes from is not its writer's to say.
    CHECK(last_line(owner) == role + " - local x * -");
    CHECK(count(owner, "SELECT count(*) FROM outbox.audit WHERE at > now() - interval '1 hour'") == 1);
    for (const char* sql :
         {"UPDATE outbox.audit SET reason = 'x'", "DELETE FROM outbox.audit", "TRUNCATE outbox.audit",
          "ALTER TABLE outbox.audit DISABLE TRIGGER ALL", "DROP TABLE outbox.audit",
          "ALTER TABLE outbox.control DISABLE TRIGGER ALL", "SELECT setval('outbox.control_revision_seq', 1)"})
        CHECK_MESSAGE(refused(relay, sql) == "42501", sql);
}

TEST_CASE("the audit's functions cannot be used as somebody else's trigger") {
    PostgresDatabase database;
    Client owner = database.connect();
    const std::string role = database.create_role("app");
    grant_privileges(owner, Role::app, role);
    owner.execute("GRANT CREATE ON SCHEMA public TO " + role);
    Client app = database.connect(role);
    app.execute("CREATE TABLE public.trap (topic text, paused boolean)");
    for (const char* name : {"control_audit", "control_stamp", "control_serialize", "audit_stamp"})
        CHECK(refused(app, "CREATE TRIGGER t BEFORE INSERT ON public.trap FOR EACH ROW EXECUTE FUNCTION outbox." +
                               std::string(name) + "()") == "42501");
    CHECK(refused(app, "SELECT 1 FROM outbox.audit") == "42501");
    CHECK(refused(app, "INSERT INTO outbox.audit (action, target) VALUES ('x', '*')") == "42501");
}

TEST_CASE("rates of single topics do not stop the migration") {
    const PostgresDatabase database(testing::Schema::none);
    Client client = database.connect();
    const auto all = embedded_migrations();
    migrate_up(client, all.first(1));
    client.execute("INSERT INTO outbox.control (topic, paused, max_rows_per_second) VALUES ('orders', true, 5)");
    CHECK_NOTHROW(migrate_up(client, all));
    CHECK(read_control(client).front().paused);
    CHECK_FALSE(read_control(client).front().max_rows_per_second.has_value());
}

}  // namespace outbox
