#include "postgres/privileges.hpp"

#include <doctest/doctest.h>

using outbox::Grant;
using outbox::grant_held_expression;
using outbox::grant_statement;
using outbox::quote_identifier;

TEST_CASE("a role's name cannot end its own quotes") {
    CHECK(quote_identifier("Shop") == "\"Shop\"");
    CHECK(quote_identifier("x\"; DROP TABLE t; --") == "\"x\"\"; DROP TABLE t; --\"");
}

TEST_CASE("every privilege of a list is asked for by itself") {
    const Grant grant{"lane", "TABLE", "outbox.lane", "SELECT, UPDATE"};
    CHECK(grant_statement(grant, "r") == "GRANT SELECT, UPDATE ON TABLE outbox.lane TO \"r\";");
    CHECK(grant_held_expression(grant) ==
          "pg_catalog.has_table_privilege('outbox.lane', 'SELECT') AND "
          "pg_catalog.has_table_privilege('outbox.lane', 'UPDATE')");
}

TEST_CASE("a privilege on a column is asked for by its column") {
    const Grant grant{"message", "TABLE", "outbox.message", "UPDATE (lane)"};
    CHECK(grant_statement(grant, "r") == "GRANT UPDATE (lane) ON TABLE outbox.message TO \"r\";");
    CHECK(grant_held_expression(grant) == "pg_catalog.has_column_privilege('outbox.message', 'lane', 'UPDATE')");
}
