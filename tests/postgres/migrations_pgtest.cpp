#include <doctest/doctest.h>

#include <array>
#include <atomic>
#include <cstdlib>
#include <fstream>
#include <thread>

#include "postgres/migrations.hpp"
#include "support/postgres_database.hpp"

using outbox::Client;
using outbox::Migration;
using outbox::PostgresError;
using outbox::Role;
using outbox::SchemaError;
using outbox::testing::PostgresDatabase;
using outbox::testing::Schema;

namespace {

constexpr std::array steps{
    Migration{"outbox", 1, "init", "1111",
              "CREATE SCHEMA outbox; CREATE TABLE outbox.migration (module text, version int, checksum text,"
              " applied_at timestamptz DEFAULT now(), PRIMARY KEY (module, version));"},
    Migration{"outbox", 2, "second", "2222",
              "CREATE TABLE outbox.second (n int); INSERT INTO outbox.second VALUES (1);"},
};

// Everything that makes two schemas the same: columns with their types and comments, constraints, indexes, functions,
// settings, privileges, and the rows migrations write.
std::string catalog(Client& client) {
    const outbox::Rows rows = client.execute(
        "SELECT string_agg(line, E'\\n' ORDER BY line) FROM ("
        " SELECT format('%s %s %s %s %s %s', c.relname, a.attname, a.atttypid::regtype, a.attnotnull,"
        "  pg_get_expr(d.adbin, d.adrelid), col_description(c.oid, a.attnum)) AS line"
        "  FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid LEFT JOIN pg_attrdef d ON (d.adrelid, d.adnum) ="
        "  (c.oid, a.attnum) WHERE c.relnamespace = 'outbox'::regnamespace"
        " UNION ALL SELECT format('%s %s %s', relname, reloptions, relacl) FROM pg_class"
        "  WHERE relnamespace = 'outbox'::regnamespace"
        " UNION ALL SELECT format('%s %s', conname, pg_get_constraintdef(oid)) FROM pg_constraint"
        "  WHERE connamespace = 'outbox'::regnamespace"
        " UNION ALL SELECT format('%s %s', pg_get_functiondef(oid), proacl) FROM pg_proc"
        "  WHERE pronamespace = 'outbox'::regnamespace"
        " UNION ALL SELECT pg_get_triggerdef(t.oid) FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid"
        "  WHERE c.relnamespace = 'outbox'::regnamespace AND NOT t.tgisinternal"
        " UNION ALL SELECT format('%s %s %s', module, version, checksum) FROM outbox.migration"
        " UNION ALL SELECT format('lanes %s', count(*)) FROM outbox.lane) AS lines");
    return rows.text(0, 0);
}

}  // namespace

TEST_CASE("migrating twice applies everything once") {
    const PostgresDatabase database(Schema::none);
    Client client = database.connect();
    CHECK_THROWS_AS(require_schema(client), SchemaError);
    CHECK(migrate_up(client).size() == outbox::embedded_migrations().size());
    CHECK(migrate_up(client).empty());
    CHECK(applied_migrations(client).size() == outbox::embedded_migrations().size());
    CHECK_NOTHROW(require_schema(client));
    CHECK(client.execute("SELECT count(*) FROM outbox.lane").integer(0, 0) == 64);
}

TEST_CASE("ten processes that migrate at once apply everything once") {
    const PostgresDatabase database(Schema::none);
    std::atomic<int> applied{0};
    std::atomic<int> failed{0};
    {
        std::vector<std::jthread> threads;
        for (int i = 0; i < 10; ++i)
            threads.emplace_back([&] {
                try {
                    Client client = database.connect();
                    applied += static_cast<int>(migrate_up(client, steps).size());
                } catch (const std::exception&) {
                    ++failed;
                }
            });
    }
    CHECK(applied == 2);
    CHECK(failed == 0);
    Client client = database.connect();
    CHECK(client.execute("SELECT count(*) FROM outbox.second").integer(0, 0) == 1);
}

TEST_CASE("a migration that fails leaves nothing behind and the ones before it stay") {
    const PostgresDatabase database(Schema::none);
    Client client = database.connect();
    const std::array broken{steps[0],
                            Migration{"outbox", 2, "broken", "3333", "CREATE TABLE outbox.half (n int); SELECT 1/0;"}};
    CHECK_THROWS_AS(migrate_up(client, broken), PostgresError);
    CHECK(applied_migrations(client).size() == 1);
    CHECK(client.execute("SELECT to_regclass('outbox.half') IS NULL").boolean(0, 0));
    CHECK(migrate_up(client, steps).size() == 1);
}

TEST_CASE("an edited migration and a newer schema are refused and change nothing") {
    const PostgresDatabase database;
    Client client = database.connect();
    client.execute("UPDATE outbox.migration SET checksum = 'edited'");
    CHECK_THROWS_WITH_AS(migrate_up(client), doctest::Contains("another text"), SchemaError);
    CHECK_THROWS_AS(require_schema(client), SchemaError);

    for (const Migration& migration : outbox::embedded_migrations())
        client.execute(
            "UPDATE outbox.migration SET checksum = $1 WHERE module = $2 AND version = $3::int",
            {std::string(migration.checksum), std::string(migration.module), std::to_string(migration.version)});
    client.execute("INSERT INTO outbox.migration (module, version, checksum) VALUES ('outbox', 999, 'x')");
    CHECK_THROWS_WITH_AS(migrate_up(client), doctest::Contains("newer"), SchemaError);
    CHECK_THROWS_AS(require_schema(client), SchemaError);
}

TEST_CASE("a schema that was created beforehand is used") {
    PostgresDatabase database(Schema::none);
    Client owner = database.connect();
    const std::string role = database.create_role("migrator");
    owner.execute("CREATE SCHEMA outbox AUTHORIZATION " + role);
    Client migrator = database.connect(role);
    CHECK_NOTHROW(migrate_up(migrator));
}

TEST_CASE("the printed SQL run by psql gives what migrate up gives") {
    const PostgresDatabase by_hand(Schema::none);
    const PostgresDatabase by_program;
    const std::string file = "/tmp/" + by_hand.name() + ".sql";
    {
        std::ofstream script(file);
        for (const Migration& migration : outbox::embedded_migrations()) script << migration_script(migration);
    }
    const std::string command = "psql -qX -v ON_ERROR_STOP=1 -d " + by_hand.name() + " -f " + file + " >/dev/null";
    const int status = std::system(command.c_str());
    static_cast<void>(std::remove(file.c_str()));
    REQUIRE(status == 0);

    Client first = by_hand.connect();
    Client second = by_program.connect();
    CHECK(catalog(first) == catalog(second));
    CHECK(migrate_up(first).empty());
}

TEST_CASE("granting to a role that does not exist says so") {
    const PostgresDatabase database;
    Client client = database.connect();
    CHECK_THROWS_WITH_AS(grant_privileges(client, Role::app, "no\"body; DROP TABLE outbox.lane"),
                         doctest::Contains("there is no role"), PostgresError);
    CHECK(client.execute("SELECT count(*) FROM outbox.lane").integer(0, 0) == 64);
}

TEST_CASE("a role with an awkward name is granted to") {
    const PostgresDatabase database;
    Client client = database.connect();
    client.execute(R"(CREATE ROLE "Odd ""Name; --" NOLOGIN)");
    CHECK_NOTHROW(grant_privileges(client, Role::relay, "Odd \"Name; --"));
    client.execute_script(R"(DROP OWNED BY "Odd ""Name; --"; DROP ROLE "Odd ""Name; --")");
}

TEST_CASE("granting from many places at once works") {
    PostgresDatabase database;
    const std::string role = database.create_role("relay");
    std::atomic<int> failed{0};
    {
        std::vector<std::jthread> threads;
        for (int i = 0; i < 5; ++i)
            threads.emplace_back([&] {
                try {
                    Client client = database.connect();
                    grant_privileges(client, Role::relay, role);
                } catch (const std::exception&) {
                    ++failed;
                }
            });
    }
    CHECK(failed == 0);
}
