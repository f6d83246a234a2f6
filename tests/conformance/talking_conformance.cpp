// What workers and operators tell each other through the tables: crash notes, pauses, rates.
#include <doctest/doctest.h>

#include "conformance/database.hpp"

namespace outbox::conformance {

// ---- crash notes -----------------------------------------------------------------------------------------------

namespace {

// A worker that joins, lives for a while, notes the rows there are and dies.
void die(Database& database, int worker, int process, Duration life = 0s) {
    const auto session = database.connect(worker, 60s, process);
    database.ask(session, RenewLeases{});
    if (life > 0s) {
        database.pass_time(life);
        database.ask(session, RenewLeases{});
    }
    ReadRows read = everything();
    read.noted = true;
    database.ask(session, read);
    database.cut(session);
}

}  // namespace

TEST_CASE("conformance: notes of the dead come the latest first, and tell their processes apart") {
    const auto database = open_database();
    database->insert();
    die(*database, 1, 7);
    database->pass_time(5s);
    die(*database, 2, 7);
    database->pass_time(5s);
    database->insert();
    die(*database, 3, 8);
    const auto heir = database->connect(9);
    CHECK(database->ask(heir, ReadCrashes{}).attempts.empty());  // they may be alive
    database->pass_time(100s);
    const Reply crashes = database->ask(heir, ReadCrashes{});
    REQUIRE(crashes.attempts.size() == 3);
    CHECK(crashes.attempts[0].upto == RowId{2});
    CHECK(crashes.attempts[1].upto == RowId{1});
    CHECK(crashes.attempts[2].process == crashes.attempts[1].process);
    CHECK(crashes.attempts[0].process != crashes.attempts[1].process);
}

TEST_CASE("conformance: a worker that lived for a minute, or died long ago, tells nothing") {
    const auto database = open_database();
    database->insert();
    die(*database, 1, 1, 70s);
    die(*database, 2, 2, 45s);
    const auto heir = database->connect(9);
    database->pass_time(100s);
    CHECK(database->ask(heir, ReadCrashes{}).attempts.size() == 1);
    database->pass_time(800s);
    CHECK(database->ask(heir, ReadCrashes{}).attempts.empty());
}

TEST_CASE("conformance: who is dead is judged by the dead one's own time-to-live") {
    const auto database = open_database();
    database->insert();
    die(*database, 1, 1);
    database->pass_time(30s);
    const auto hasty = database->connect(9, 10s);
    CHECK(database->ask(hasty, ReadCrashes{}).attempts.empty());
    database->ask(hasty, ForgetCrashes{});
    CHECK(database->workers() == std::vector{1});
    database->pass_time(40s);
    CHECK(database->ask(hasty, ReadCrashes{}).attempts.size() == 1);
}

TEST_CASE("conformance: a note lasts through renewals, until the next noted read") {
    const auto database = open_database();
    database->insert();
    const auto dying = database->connect(1);
    database->ask(dying, RenewLeases{});
    ReadRows read = everything();
    read.noted = true;
    database->ask(dying, read);
    database->ask(dying, RenewLeases{});
    CHECK(database->dump().find(" 1:0:0:1:1") != std::string::npos);
    database->insert();
    database->ask(dying, everything());
    CHECK(database->dump().find(" 1:0:0:1:1") != std::string::npos);
    database->ask(dying, read);
    CHECK(database->dump().find(" 1:0:0:1:2") != std::string::npos);
}

TEST_CASE("conformance: to forget crashes removes the dead, whatever they noted, and one's own note") {
    const auto database = open_database();
    database->insert();
    die(*database, 1, 1);
    database->ask(database->connect(2), RenewLeases{});
    database->pass_time(100s);
    const auto living = database->connect(3);
    database->ask(living, RenewLeases{});
    const auto heir = database->connect(9);
    database->ask(heir, RenewLeases{});
    ReadRows read = everything();
    read.noted = true;
    database->ask(heir, read);
    CHECK(database->ask(heir, ForgetCrashes{}).what == "done");
    CHECK(database->workers() == std::vector{3, 9});
    CHECK(database->dump().find(" 9:0:0:-1:-1") != std::string::npos);
}

// ---- operators -------------------------------------------------------------------------------------------------

TEST_CASE("conformance: nothing was said, and control says so") {
    const auto database = open_database();
    const Reply reply = database->ask(database->connect(1), ReadControl{});
    CHECK(reply.control.revision == 0);
    CHECK_FALSE(reply.control.paused);
    CHECK_FALSE(reply.control.max_rows_per_second);
    CHECK(reply.paused_topics.empty());
}

TEST_CASE("conformance: a pause of everything is not one of a topic called *") {
    const auto database = open_database();
    const auto session = database->connect(1);
    database->pause("*");
    Reply reply = database->ask(session, ReadControl{});
    CHECK(reply.control.paused);
    CHECK(reply.paused_topics.empty());
    CHECK(reply.control.revision == 1);
    database->resume("*");
    reply = database->ask(session, ReadControl{});
    CHECK_FALSE(reply.control.paused);
    CHECK(reply.control.revision == 2);
}

TEST_CASE("conformance: paused topics are listed in order, and every change has a higher revision") {
    const auto database = open_database();
    const auto session = database->connect(1);
    std::int64_t revision = 0;
    for (const std::string_view topic : {"orders", "bills", "mails", "bills"}) {
        database->pause(topic);
        const auto now = database->ask(session, ReadControl{}).control.revision;
        CHECK(now > revision);
        revision = now;
    }
    CHECK(revision == 5);  // to pause again what is paused draws two
    CHECK(database->ask(session, ReadControl{}).paused_topics == std::vector<std::string>{"bills", "mails", "orders"});
    database->resume("mails");
    const Reply reply = database->ask(session, ReadControl{});
    CHECK(reply.paused_topics == std::vector<std::string>{"bills", "orders"});
    CHECK(reply.control.revision > revision);
}

TEST_CASE("conformance: to resume what is not paused changes nothing") {
    const auto database = open_database();
    const auto session = database->connect(1);
    database->pause("bills");
    const auto revision = database->ask(session, ReadControl{}).control.revision;
    database->resume("orders");
    database->resume("*");
    database->set_rate({});
    CHECK(database->ask(session, ReadControl{}).control.revision == revision);
    database->resume("bills");
    const auto resumed = database->ask(session, ReadControl{}).control.revision;
    database->resume("bills");
    CHECK(database->ask(session, ReadControl{}).control.revision == resumed);
}

TEST_CASE("conformance: a rate stays through a pause of everything, and the other way round") {
    const auto database = open_database();
    const auto session = database->connect(1);
    database->set_rate(500);
    database->pause("*");
    Reply reply = database->ask(session, ReadControl{});
    CHECK(reply.control.max_rows_per_second == 500);
    CHECK(reply.control.paused);
    database->set_rate({});
    reply = database->ask(session, ReadControl{});
    CHECK_FALSE(reply.control.max_rows_per_second);
    CHECK(reply.control.paused);
}

}  // namespace outbox::conformance
