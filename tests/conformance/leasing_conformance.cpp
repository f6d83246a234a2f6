// Leases, shares, and who counts as living.
#include <doctest/doctest.h>

#include "conformance/database.hpp"

namespace outbox::conformance {

namespace {

LaneSet renew(Database& database, Database::Session session) {
    return database.ask(session, RenewLeases{}).lanes;
}

LaneSet acquire(Database& database, Database::Session session) {
    return database.ask(session, AcquireLanes{}).lanes;
}

// The first lanes.
LaneSet lanes_below(std::uint8_t count) {
    LaneSet lanes;
    for (std::uint8_t lane = 0; lane < count; ++lane) lanes.add(lane);
    return lanes;
}

}  // namespace

TEST_CASE("conformance: a worker alone gets all lanes, and a renewal tells so") {
    const auto database = open_database();
    const auto session = database->connect(1);
    const Reply before = database->ask(session, RenewLeases{});
    CHECK(before.lanes.empty());
    CHECK(before.living == 1);
    CHECK(before.rank == 0);
    CHECK(acquire(*database, session) == LaneSet::all());
    CHECK(acquire(*database, session).empty());
    CHECK(renew(*database, session) == LaneSet::all());
    CHECK(database->lane(63) == LaneState{1, 1});
}

TEST_CASE("conformance: lanes may be had before the first renewal") {
    const auto database = open_database();
    CHECK(acquire(*database, database->connect(1)) == LaneSet::all());
    CHECK(database->workers().empty());
}

TEST_CASE("conformance: shares differ by one, and the remainder goes to those who sort first") {
    const auto database = open_database();
    // 200 sorts behind 100: the bytes of an id have no sign.
    const std::vector<int> workers{200, 3, 100, 2, 1};
    std::vector<Database::Session> sessions;
    for (const int worker : workers) sessions.push_back(database->connect(worker));
    for (const auto session : sessions) renew(*database, session);
    const std::vector<std::uint32_t> ranks{4, 2, 3, 1, 0};
    LaneSet taken;
    for (std::size_t i = 0; i < workers.size(); ++i) {
        const Reply reply = database->ask(sessions[i], RenewLeases{});
        CHECK(reply.living == 5);
        CHECK(reply.rank == ranks[i]);
        const LaneSet lanes = acquire(*database, sessions[i]);
        CHECK(lanes.size() == (ranks[i] < 4 ? 13 : 12));
        CHECK((lanes & taken).empty());
        taken = taken | lanes;
    }
    CHECK(taken == LaneSet::all());
}

TEST_CASE("conformance: the lowest free lanes are taken first") {
    const auto database = open_database();
    const auto one = database->connect(1);
    const auto two = database->connect(2);
    renew(*database, one);
    renew(*database, two);
    CHECK(acquire(*database, two) == lanes_below(32));
    CHECK(acquire(*database, one) == LaneSet::all() - lanes_below(32));
}

TEST_CASE("conformance: lanes that somebody has locked are passed over, and others taken instead") {
    const auto database = open_database();
    const auto one = database->connect(1);
    const auto two = database->connect(2);
    renew(*database, one);
    renew(*database, two);
    database->lock_lanes(lanes_below(16));
    CHECK(acquire(*database, one) == lanes_below(48) - lanes_below(16));
    CHECK(acquire(*database, two) == LaneSet::all() - lanes_below(48));
    database->lock_lanes({});
    CHECK(acquire(*database, two) == lanes_below(16));
}

TEST_CASE("conformance: a renewal whose lanes somebody has locked waits, and in vain that is the session's end") {
    const auto database = open_database();
    const auto one = database->connect(1);
    acquire(*database, one);
    database->lock_lanes(LaneSet::only(5));
    CHECK_THROWS_AS(renew(*database, one), SessionEnded);
    database->lock_lanes({});
    CHECK(renew(*database, database->connect(1)) == LaneSet::all());
}

TEST_CASE("conformance: released lanes are free at once, only one's own, and their epoch counts owners") {
    const auto database = open_database();
    const auto one = database->connect(1);
    const auto two = database->connect(2);
    renew(*database, one);
    CHECK(acquire(*database, one) == LaneSet::all());
    renew(*database, two);
    CHECK(acquire(*database, two).empty());
    CHECK(database->ask(two, ReleaseLanes{LaneSet::all()}).lanes == LaneSet::all());
    CHECK(renew(*database, one) == LaneSet::all());
    database->ask(one, ReleaseLanes{lanes_below(40)});
    CHECK(database->lane(3) == LaneState{0, 1});
    CHECK(renew(*database, one) == LaneSet::all() - lanes_below(40));
    CHECK(acquire(*database, two) == lanes_below(32));
    CHECK(database->lane(3) == LaneState{2, 2});
    CHECK(acquire(*database, one) == lanes_below(40) - lanes_below(32));
    CHECK(database->lane(35) == LaneState{1, 2});
    CHECK(database->lane(63) == LaneState{1, 1});
}

TEST_CASE("conformance: a lease that has expired is anybody's, and its last owner's until somebody takes it") {
    const auto database = open_database();
    const auto one = database->connect(1);
    const auto two = database->connect(2);
    renew(*database, one);
    acquire(*database, one);
    database->pass_time(50s);
    renew(*database, two);
    CHECK(acquire(*database, two).empty());
    database->pass_time(20s);
    // 1 has not been seen for longer than a lease lives.
    CHECK(database->ask(two, RenewLeases{}).living == 1);
    CHECK(renew(*database, one) == LaneSet::all());
    CHECK(acquire(*database, two).empty());
    database->pass_time(70s);
    CHECK(acquire(*database, two) == LaneSet::all());
    CHECK(renew(*database, one).empty());
    CHECK(database->lane(0) == LaneState{2, 2});
}

TEST_CASE("conformance: one's own expired lanes are kept by renewing, not by acquiring") {
    const auto database = open_database();
    const auto one = database->connect(1);
    acquire(*database, one);
    database->pass_time(70s);
    CHECK(acquire(*database, one).empty());
    CHECK(database->lane(7) == LaneState{1, 1});
    CHECK(renew(*database, one) == LaneSet::all());
}

TEST_CASE("conformance: a worker takes others' expired lanes and passes over its own") {
    const auto database = open_database();
    const auto one = database->connect(1);
    const auto two = database->connect(2);
    renew(*database, one);
    renew(*database, two);
    CHECK(acquire(*database, one) == lanes_below(32));
    CHECK(acquire(*database, two) == LaneSet::all() - lanes_below(32));
    database->pass_time(70s);
    CHECK(acquire(*database, one) == LaneSet::all() - lanes_below(32));
    CHECK(database->lane(0) == LaneState{1, 1});
    CHECK(database->lane(32) == LaneState{1, 2});
}

TEST_CASE("conformance: a stale owner renews and releases only what is still its own") {
    const auto database = open_database();
    const auto stale = database->connect(1);
    renew(*database, stale);
    acquire(*database, stale);
    database->pass_time(70s);
    const auto heir = database->connect(2);
    const auto third = database->connect(3);
    renew(*database, heir);
    renew(*database, third);
    CHECK(acquire(*database, heir) == lanes_below(32));
    CHECK(renew(*database, stale) == LaneSet::all() - lanes_below(32));
    database->ask(stale, ReleaseLanes{LaneSet::only(0) | LaneSet::only(63)});
    CHECK(database->lane(0) == LaneState{2, 2});
    CHECK(database->lane(63) == LaneState{0, 1});
}

TEST_CASE("conformance: a lease of a second is over when the database's clock says so") {
    const auto database = open_database();
    const auto one = database->connect(1, 1s);
    const auto two = database->connect(2, 1s);
    renew(*database, one);
    CHECK(acquire(*database, one) == LaneSet::all());
    LaneSet taken;
    while (taken.empty()) {
        database->let_time_pass();
        taken = acquire(*database, two);
    }
    CHECK(taken == LaneSet::all());
    CHECK(renew(*database, one).empty());
}

TEST_CASE("conformance: a clock that is set back keeps leases alive for longer") {
    const auto database = open_database();
    const auto one = database->connect(1);
    const auto two = database->connect(2);
    acquire(*database, one);
    database->pass_time(-3600s);
    database->pass_time(70s);
    CHECK(acquire(*database, two).empty());
    database->pass_time(3600s);
    CHECK(acquire(*database, two) == LaneSet::all());
}

TEST_CASE("conformance: of a clock that was ahead, a renewal leaves others a lease's time at most") {
    const auto database = open_database();
    const auto dead = database->connect(1);
    const auto patient = database->connect(2, 600s);
    const auto one = database->connect(3);
    renew(*database, dead);
    renew(*database, patient);
    acquire(*database, dead);
    acquire(*database, patient);
    database->pass_time(-3600s);
    CHECK(database->ask(one, RenewLeases{}).living == 3);
    CHECK(acquire(*database, one).empty());
    database->pass_time(70s);
    CHECK(database->ask(one, RenewLeases{}).living == 1);
    CHECK(acquire(*database, one).size() == 32);  // the dead one's; the patient one was given 600 seconds
    database->pass_time(540s);
    renew(*database, one);
    CHECK(acquire(*database, one).size() == 32);
}

TEST_CASE("conformance: who counts as living is judged by the asker's own time-to-live") {
    const auto database = open_database();
    const auto patient = database->connect(1, 200s);
    const auto hasty = database->connect(2, 80s);
    renew(*database, patient);
    renew(*database, hasty);
    database->pass_time(100s);
    CHECK(database->ask(patient, RenewLeases{}).living == 2);
    CHECK(database->ask(hasty, RenewLeases{}).living == 2);
    database->pass_time(100s);
    CHECK(database->ask(hasty, RenewLeases{}).living == 1);
    CHECK(database->ask(patient, RenewLeases{}).living == 2);
}

TEST_CASE("conformance: while one is remembered that died young, only those count that have lived for three leases") {
    const auto database = open_database();
    const auto one = database->connect(1, 20s);
    const auto old = database->connect(2, 20s);
    const auto young = database->connect(3, 20s);
    renew(*database, one);
    renew(*database, old);
    database->pass_time(70s);
    renew(*database, database->connect(4));  // and is not seen again
    for (const auto session : {one, old, young}) renew(*database, session);
    CHECK(database->ask(one, RenewLeases{}).living == 4);
    database->pass_time(15s);
    for (const auto session : {old, young, one}) renew(*database, session);
    CHECK(database->ask(one, RenewLeases{}).living == 2);
    CHECK(acquire(*database, one).size() == 32);
    CHECK(database->ask(young, RenewLeases{}).living == 3);
    CHECK(database->ask(young, RenewLeases{}).rank == 2);
    database->pass_time(50s);  // that death is a minute ago, and nobody has been seen since
    for (const auto session : {old, young, one}) renew(*database, session);
    CHECK(database->ask(one, RenewLeases{}).living == 3);
}

TEST_CASE("conformance: one's own leases count against one's share, expired or not") {
    const auto database = open_database();
    const auto one = database->connect(1);
    renew(*database, one);
    CHECK(acquire(*database, one) == LaneSet::all());
    const auto two = database->connect(2);
    renew(*database, two);
    database->ask(one, ReleaseLanes{lanes_below(10)});
    CHECK(acquire(*database, one).empty());
    CHECK(acquire(*database, two) == lanes_below(10));
}

TEST_CASE("conformance: a worker that left is not counted any more, and comes back by renewing") {
    const auto database = open_database();
    const auto one = database->connect(1);
    const auto two = database->connect(2);
    renew(*database, one);
    CHECK(database->ask(two, RenewLeases{}).rank == 1);
    CHECK(database->ask(one, LeaveFleet{}).what == "done");
    CHECK(database->workers() == std::vector{2});
    const Reply alone = database->ask(two, RenewLeases{});
    CHECK(alone.living == 1);
    CHECK(alone.rank == 0);
    CHECK(acquire(*database, two) == LaneSet::all());
    renew(*database, one);
    CHECK(database->workers() == std::vector{1, 2});
}

TEST_CASE("conformance: a worker is forgotten after an hour, or after twenty lifetimes when that is longer") {
    const auto database = open_database();
    renew(*database, database->connect(1));
    const auto two = database->connect(2);
    const auto patient = database->connect(3, 600s);
    database->pass_time(3500s);
    renew(*database, two);
    CHECK(database->workers() == std::vector{1, 2});
    database->pass_time(200s);
    renew(*database, patient);
    CHECK(database->workers() == std::vector{1, 2, 3});
    renew(*database, two);
    CHECK(database->workers() == std::vector{2, 3});
    database->pass_time(11'000s);
    renew(*database, patient);
    CHECK(database->workers() == std::vector{2, 3});
    database->pass_time(2'000s);
    renew(*database, patient);
    CHECK(database->workers() == std::vector{3});
}

TEST_CASE("conformance: a renewal writes down what is in flight and which revision is obeyed") {
    const auto database = open_database();
    const auto one = database->connect(1);
    database->ask(one, RenewLeases{17, 3});
    CHECK(database->dump().find("workers 1:17:3:") != std::string::npos);
    database->ask(one, RenewLeases{0, 4});
    CHECK(database->dump().find("workers 1:0:4:") != std::string::npos);
}

}  // namespace outbox::conformance
