#include <doctest/doctest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "support/postgres_database.hpp"
#include "support/session_driver.hpp"

namespace outbox {

namespace {

using namespace std::chrono_literals;
using testing::PostgresDatabase;
using testing::SessionDriver;

LaneSet renew(SessionDriver& driver) {
    return driver.ask<LeasesRenewed>(RenewLeases{}).lanes;
}
LaneSet acquire(SessionDriver& driver) {
    return driver.ask<LanesAcquired>(AcquireLanes{}).lanes;
}

void expire_leases(Client& client) {
    client.execute(
        "UPDATE outbox.lane SET expires_at = clock_timestamp() - interval '1 second' WHERE owner IS NOT NULL");
}
void forget_workers(Client& client) {
    client.execute("UPDATE outbox.relay SET seen_at = clock_timestamp() - interval '61 seconds'");
}

std::int64_t number(Client& client, const std::string& sql) {
    return client.execute(sql).integer(0, 0);
}

// The lane table's own idea of who owns what, for worker `n` of testing::worker().
LaneSet owned_in_table(Client& client, int n) {
    return LaneSet(static_cast<std::uint64_t>(
        number(client,
               "SELECT coalesce(bit_or(1::int8 << lane::int4), 0) FROM outbox.lane WHERE owner ="
               " ('00000000-0000-0000-0000-0000000000" +
                   std::string(n < 16 ? "0" : "") + "' || to_hex(" + std::to_string(n) + "))::uuid")));
}

}  // namespace

TEST_CASE("a worker alone gets all 64 lanes and keeps them by renewing") {
    const PostgresDatabase database;
    Client client = database.connect();
    SessionDriver driver(database.settings());
    CHECK(renew(driver).empty());
    CHECK(acquire(driver) == LaneSet::all());
    CHECK(acquire(driver).empty());
    CHECK(renew(driver) == LaneSet::all());
    CHECK(owned_in_table(client, 1) == LaneSet::all());
    CHECK(number(client,
                 "SELECT count(*) FROM outbox.lane WHERE epoch = 1 AND"
                 " expires_at BETWEEN now() + interval '50 s' AND now() + interval '70 s'") == 64);
    const outbox::Rows row = client.execute("SELECT host, pid, version FROM outbox.relay");
    REQUIRE(row.size() == 1);
    CHECK(row.text(0, 0) == "host-1");
    CHECK(row.integer(0, 1) == 1);
    CHECK(row.text(0, 2) == "0.0.0");
}

TEST_CASE("a renewal tells the size of the fleet, this worker's rank and the database's time") {
    const PostgresDatabase database;
    Client client = database.connect();
    SessionDriver second(database.settings(), 2);
    SessionDriver first(database.settings(), 1);
    SessionDriver third(database.settings(), 3);
    renew(second);
    renew(first);
    renew(third);
    for (auto [driver, rank] : {std::pair{&first, 0U}, {&second, 1U}, {&third, 2U}}) {
        const auto answer = driver->ask<LeasesRenewed>(RenewLeases{});
        CHECK(answer.living == 3);
        CHECK(answer.rank == rank);
        CHECK(answer.asked_at <= testing::boot_now());
        const auto now_us = number(client, "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::int8") -
                            std::int64_t{946684800} * 1'000'000;
        CHECK(std::abs(now_us - driver->last.database_now_us) < 5'000'000);
    }
}

TEST_CASE("two workers that start together get 32 lanes each") {
    const PostgresDatabase database;
    SessionDriver first(database.settings(), 1);
    SessionDriver second(database.settings(), 2);
    renew(first);
    renew(second);
    const LaneSet one = acquire(first);
    const LaneSet two = acquire(second);
    CHECK(one.size() == 32);
    CHECK(two.size() == 32);
    CHECK((one | two) == LaneSet::all());
    CHECK(acquire(first).empty());
    CHECK(acquire(second).empty());
}

TEST_CASE("lanes are shared so that the workers' counts differ by at most one") {
    for (const int workers : {3, 5, 7}) {
        CAPTURE(workers);
        const PostgresDatabase database;
        std::vector<std::unique_ptr<SessionDriver>> fleet;
        for (int n = 1; n <= workers; ++n)
            fleet.push_back(std::make_unique<SessionDriver>(database.settings(), static_cast<std::uint8_t>(n)));
        for (auto& driver : fleet) renew(*driver);
        LaneSet taken;
        std::uint32_t fewest = 64;
        std::uint32_t most = 0;
        for (auto& driver : fleet) {
            const LaneSet lanes = acquire(*driver);
            CHECK((taken & lanes).empty());
            taken = taken | lanes;
            fewest = std::min(fewest, lanes.size());
            most = std::max(most, lanes.size());
        }
        CHECK(taken == LaneSet::all());
        CHECK(most - fewest <= 1);
    }
}

TEST_CASE("workers that acquire at the same moment never get the same lane") {
    const PostgresDatabase database;
    Client client = database.connect();
    std::vector<std::unique_ptr<SessionDriver>> fleet;
    for (int n = 1; n <= 8; ++n)
        fleet.push_back(std::make_unique<SessionDriver>(database.settings(), static_cast<std::uint8_t>(n)));
    for (int round = 0; round < 20; ++round) {
        for (auto& driver : fleet) renew(*driver);
        std::vector<LaneSet> got(fleet.size());
        std::vector<std::jthread> threads;
        for (std::size_t i = 0; i < fleet.size(); ++i) threads.emplace_back([&, i] { got[i] = acquire(*fleet[i]); });
        threads.clear();
        LaneSet taken;
        for (std::size_t i = 0; i < fleet.size(); ++i) {
            CHECK((taken & got[i]).empty());
            CHECK(got[i].size() <= 8);
            CHECK(owned_in_table(client, static_cast<int>(i) + 1) == got[i]);
            taken = taken | got[i];
        }
        for (auto& driver : fleet) driver->ask<LanesReleased>(ReleaseLanes{LaneSet::all()});
    }
}

TEST_CASE("a lane with a living owner is not taken, an expired one is, and its epoch goes up") {
    const PostgresDatabase database;
    Client client = database.connect();
    SessionDriver first(database.settings(), 1);
    SessionDriver second(database.settings(), 2);
    renew(first);
    CHECK(acquire(first) == LaneSet::all());
    renew(second);
    CHECK(acquire(second).empty());

    expire_leases(client);
    forget_workers(client);
    renew(second);
    CHECK(acquire(second) == LaneSet::all());
    CHECK(number(client, "SELECT count(*) FROM outbox.lane WHERE epoch = 2") == 64);
    // The former owner learns that nothing is left, and takes nothing back.
    CHECK(renew(first).empty());
    CHECK(owned_in_table(client, 2) == LaneSet::all());
}

TEST_CASE("an expired lease that nobody took is renewed under the same epoch") {
    const PostgresDatabase database;
    Client client = database.connect();
    SessionDriver driver(database.settings());
    renew(driver);
    acquire(driver);
    expire_leases(client);
    CHECK(renew(driver) == LaneSet::all());
    CHECK(acquire(driver).empty());
    CHECK(number(client, "SELECT count(*) FROM outbox.lane WHERE epoch = 1 AND expires_at > now()") == 64);
}

TEST_CASE("lanes that were released are free at once and only those") {
    const PostgresDatabase database;
    Client client = database.connect();
    SessionDriver first(database.settings(), 1);
    SessionDriver second(database.settings(), 2);
    renew(first);
    acquire(first);
    renew(second);
    const LaneSet surplus = LaneSet::only(0) | LaneSet::only(31) | LaneSet::only(63);
    CHECK(first.ask<LanesReleased>(ReleaseLanes{surplus}).lanes == surplus);
    CHECK(renew(first) == LaneSet::all() - surplus);
    CHECK(acquire(second) == surplus);
    // A release names only what is ours: the other's lanes stay the other's.
    first.ask<LanesReleased>(ReleaseLanes{surplus});
    CHECK(owned_in_table(client, 2) == surplus);
    CHECK(renew(second) == surplus);
}

TEST_CASE("a renewal after a release does not bring the lease back") {
    const PostgresDatabase database;
    Client client = database.connect();
    SessionDriver driver(database.settings());
    renew(driver);
    acquire(driver);
    // In one go, as when both are under way.
    driver.send(RenewLeases{});
    driver.send(ReleaseLanes{LaneSet::all()});
    driver.send(RenewLeases{});
    CHECK(driver.expect<LeasesRenewed>().lanes == LaneSet::all());
    driver.expect<LanesReleased>();
    CHECK(driver.expect<LeasesRenewed>().lanes.empty());
    CHECK(number(client, "SELECT count(*) FROM outbox.lane WHERE owner IS NULL AND expires_at = '-infinity'") == 64);
}

TEST_CASE("what a worker leaves behind that died while the clock was ahead ends a lease after the clock is set back") {
    const PostgresDatabase database;
    Client client = database.connect();
    SessionDriver first(database.settings(), 1);
    SessionDriver second(database.settings(), 2);
    renew(first);
    renew(second);
    REQUIRE(acquire(first).size() == 32);
    REQUIRE(acquire(second).size() == 32);
    const auto left_until = [&] {
        return number(
            client,
            "SELECT extract(epoch FROM max(expires_at) - clock_timestamp())::int8 FROM outbox.lane WHERE owner "
            "= '00000000-0000-0000-0000-000000000002'");
    };
    const std::int64_t lease = left_until();
    renew(first);
    CHECK(left_until() <= lease);  // nobody touches a lease that may be trusted

    client.execute("UPDATE outbox.relay SET seen_at = seen_at + interval '1 hour'");
    client.execute("UPDATE outbox.lane SET expires_at = expires_at + interval '1 hour'");
    CHECK(renew(first).size() == 32);
    CHECK(left_until() <= lease);
    CHECK(left_until() >= lease - 10);  // its owner may live, and trust it
    CHECK(number(client, "SELECT count(*) FROM outbox.relay WHERE seen_at > clock_timestamp()") == 0);
    CHECK(renew(second).size() == 32);

    // The owner of a long lease is given as much of it as it may count on.
    client.execute("UPDATE outbox.relay SET lease_ttl_ms = 3600000");
    client.execute("UPDATE outbox.lane SET expires_at = clock_timestamp() + interval '1 hour'");
    renew(first);
    CHECK(left_until() > 3500);
}

TEST_CASE("when a worker leaves, the others' share grows at once") {
    const PostgresDatabase database;
    SessionDriver first(database.settings(), 1);
    SessionDriver second(database.settings(), 2);
    renew(first);
    renew(second);
    acquire(first);
    acquire(second);
    first.ask<LanesReleased>(ReleaseLanes{LaneSet::all()});
    first.ask<FleetLeft>(LeaveFleet{});
    CHECK(second.ask<LeasesRenewed>(RenewLeases{}).living == 1);
    CHECK(acquire(second).size() == 32);
    CHECK(renew(second) == LaneSet::all());
}

TEST_CASE("a worker not seen for a lifetime does not count, and after an hour it is forgotten") {
    const PostgresDatabase database;
    Client client = database.connect();
    SessionDriver first(database.settings(), 1);
    SessionDriver second(database.settings(), 2);
    renew(first);
    forget_workers(client);
    CHECK(second.ask<LeasesRenewed>(RenewLeases{}).living == 1);
    CHECK(number(client, "SELECT count(*) FROM outbox.relay") == 2);
    client.execute("UPDATE outbox.relay SET seen_at = clock_timestamp() - interval '59 minutes' WHERE host = 'host-1'");
    renew(second);
    CHECK(number(client, "SELECT count(*) FROM outbox.relay") == 2);
    client.execute("UPDATE outbox.relay SET seen_at = clock_timestamp() - interval '61 minutes' WHERE host = 'host-1'");
    renew(second);
    CHECK(number(client, "SELECT count(*) FROM outbox.relay") == 1);
}

TEST_CASE("while a worker is remembered that died young, a newcomer counts only after three leases") {
    const PostgresDatabase database;
    Client client = database.connect();
    SessionDriver first(database.settings(), 1);
    SessionDriver dead(database.settings(), 2);
    SessionDriver newcomer(database.settings(), 3);
    const auto age = [&](int worker, const std::string& born, const std::string& seen) {
        client.execute("UPDATE outbox.relay SET started_at = clock_timestamp() - interval '" + born +
                       "', seen_at = clock_timestamp() - interval '" + seen +
                       "' WHERE pid = " + std::to_string(worker));
    };
    const auto living = [&] { return first.ask<LeasesRenewed>(RenewLeases{}).living; };
    renew(first);
    renew(dead);
    renew(newcomer);
    CHECK(living() == 3);
    age(2, "40 s", "31 s");  // missed its renewals, after nine seconds; a lease is 60 s here
    CHECK(living() == 1);
    CHECK(acquire(first) == LaneSet::all());
    age(3, "179 s", "0 s");
    CHECK(living() == 1);
    age(3, "181 s", "0 s");
    CHECK(living() == 2);
    age(3, "1 s", "0 s");
    CHECK(living() == 1);
    age(2, "120 s", "61 s");  // a minute later
    CHECK(living() == 2);
    age(2, "120 s", "31 s");  // it had lived for more than a minute
    CHECK(living() == 3);     // and may still live
}

}  // namespace outbox
