#include "postgres/sqlstate.hpp"

#include <doctest/doctest.h>

using outbox::advice;
using outbox::Role;

TEST_CASE("a missing table is answered with the command that creates it") {
    CHECK(advice("42P01", "relation \"outbox.message\" does not exist", "relay") ==
          "outbox.message is missing: run outbox-relay migrate up");
    CHECK(advice("42883", "function outbox.publish(text, text) does not exist", "app") ==
          "outbox.publish is missing: run outbox-relay migrate up");
    CHECK(advice("3F000", "schema \"outbox\" does not exist", "app").find("migrate up") != std::string::npos);
}

TEST_CASE("a missing privilege is answered with the GRANT for that table and that user") {
    CHECK(advice("42501", "permission denied for table lane", "the \"relay\"") ==
          "as the owner of the schema: GRANT SELECT, UPDATE ON TABLE outbox.lane TO \"the \"\"relay\"\"\";");
    CHECK(advice("42501", "permission denied for schema outbox", "relay") ==
          "as the owner of the schema: GRANT USAGE ON SCHEMA outbox TO \"relay\";");
    CHECK(advice("42501", "permission denied for sequence message_id_seq", "relay") ==
          "as the owner of the schema: GRANT SELECT ON SEQUENCE outbox.message_id_seq TO \"relay\";");
}

TEST_CASE("an application is not told to grant what only the relay needs") {
    const std::string text = advice("42501", "permission denied for table message", "shop", Role::app);
    CHECK(text == "as the owner of the schema: GRANT INSERT ON TABLE outbox.message TO \"shop\";");
}

TEST_CASE("the table is found in a message that is not in English") {
    CHECK(advice("42501", "テーブルdead_letterへのアクセスが拒否されました", "relay").find("outbox.dead_letter") !=
          std::string::npos);
}

TEST_CASE("a table of somebody else is not given away") {
    CHECK(advice("42501", "permission denied for table lanes", "relay").find("GRANT") == std::string::npos);
}

TEST_CASE("states an operator can do something about have a sentence and others have none") {
    for (const char* sqlstate : {"25006", "53300", "28P01", "53100", "26000", "57014", "3D000"})
        CHECK_FALSE(advice(sqlstate, "", "relay").empty());
    CHECK(advice("22012", "division by zero", "relay").empty());
    CHECK(advice("", "", "relay").empty());
}
