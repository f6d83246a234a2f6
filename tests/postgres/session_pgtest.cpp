// Opening, failing, and the order of answers; reading is in session_reading_pgtest.cpp, leases in
// session_leases_pgtest.cpp.
#include <arpa/inet.h>
#include <doctest/doctest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "postgres/migrations.hpp"
#include "postgres/session.hpp"
#include "support/postgres_database.hpp"
#include "support/session_driver.hpp"

namespace outbox {

namespace {

using namespace std::chrono_literals;
using testing::boot_now;
using testing::PostgresDatabase;
using testing::Schema;
using testing::schema_version;
using testing::SessionDriver;

PostgresError failure_of(const std::function<void()>& action) {
    try {
        action();
    } catch (const PostgresError& error) {
        return error;
    }
    return PostgresError("no failure", "00000");
}

bool says(const PostgresError& error, std::string_view text) {
    return std::string_view(error.what()).find(text) != std::string_view::npos;
}

void insert(Client& client, int rows) {
    client.execute("INSERT INTO outbox.message (topic, key) SELECT 't', 'k' || n FROM generate_series(1, $1::int) n",
                   {std::to_string(rows)});
}

std::int64_t count(Client& client, const std::string& table) {
    return client.execute("SELECT count(*) FROM outbox." + table).integer(0, 0);
}

// Listens and never answers: the kernel accepts, nobody reads.
class SilentServer {
public:
    SilentServer() : socket_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        socklen_t length = sizeof address;
        REQUIRE(bind(socket_, reinterpret_cast<sockaddr*>(&address), length) == 0);
        REQUIRE(listen(socket_, 8) == 0);
        REQUIRE(getsockname(socket_, reinterpret_cast<sockaddr*>(&address), &length) == 0);
        port_ = ntohs(address.sin_port);
    }
    ~SilentServer() { close(socket_); }
    SilentServer(const SilentServer&) = delete;
    SilentServer& operator=(const SilentServer&) = delete;
    PostgresSettings settings() const {
        return {"host=127.0.0.1 port=" + std::to_string(port_) + " password=s3cret sslmode=disable", {}};
    }

private:
    int socket_;
    int port_ = 0;
};

}  // namespace

TEST_CASE("a session opens when the schema fits") {
    const PostgresDatabase database;
    SessionDriver driver(database.settings());
    CHECK(driver.session.deadline() == never);
    CHECK(driver.session.wanted() == POLLIN);
    CHECK_FALSE(driver.session.next_answer(driver.topics, boot_now()));
}

TEST_CASE("a schema of another version is refused with what to run") {
    const PostgresDatabase database;
    const int ours = schema_version();
    const PostgresError older = failure_of([&] { const SessionDriver driver(database.settings(), 1, 60s, ours + 1); });
    CHECK(says(older, "version " + std::to_string(ours) + ", this relay needs " + std::to_string(ours + 1)));
    CHECK(says(older, "run outbox-relay migrate up"));

    database.connect().execute(
        "INSERT INTO outbox.migration (module, version, checksum) VALUES ('outbox', $1::int, 'x')",
        {std::to_string(ours + 1)});
    CHECK_THROWS_AS(SessionDriver(database.settings(), 1, 60s, ours), SchemaNewer);
    // Another module's version is none of its business.
    database.connect().execute("INSERT INTO outbox.migration (module, version, checksum) VALUES ('other', 7, 'x')");
    CHECK_NOTHROW(SessionDriver(database.settings(), 1, 60s, ours + 1));
}

TEST_CASE("a database without the schema is refused with what to run") {
    const PostgresDatabase database(Schema::none);
    const PostgresError error = failure_of([&] { const SessionDriver driver(database.settings()); });
    CHECK(error.schema_missing());
    CHECK_FALSE(error.unreachable());
    CHECK(says(error, "run outbox-relay migrate up"));
}

TEST_CASE("a missing grant names the table and the statement that gives it") {
    PostgresDatabase database;
    Client owner = database.connect();
    const std::string role = database.create_role("relay");
    grant_privileges(owner, Role::relay, role);
    const auto everything_once = [&] {
        insert(owner, 1);
        SessionDriver driver(database.settings(role));
        driver.ask<LeasesRenewed>(RenewLeases{});
        driver.ask<LanesAcquired>(AcquireLanes{});
        driver.ask<RowsRead>(SessionDriver::everything());
        driver.ask<ProbeAnswered>(Probe{});
        const RowHead head = driver.session.rows().heads().front();
        ReadRows claim = SessionDriver::everything();
        claim.claim = true;
        driver.ask<RowsRead>(claim);
        driver.ask<ClaimEnded>(EndClaim{});
        driver.ask<RowsBuried>(BuryRow{head.id, head.event_id, "X", "x"});
        driver.ask<RowsBuried>(BuryRow{head.id, head.event_id, "X", "x", true});
        driver.ask<ControlRead>(ReadControl{});
        driver.ask<BlockedKeysRead>(ReadBlockedKeys{});
        driver.ask<CrashesRead>(ReadCrashes{});
        driver.ask<NoteTaken>(ForgetCrashes{});
        driver.ask<RowsDeleted>(DeleteRows{std::vector{head.id}, {}});
        driver.ask<RowsMissed>(DeleteRows{std::vector{head.id}, {}, std::vector{head.place}});
        driver.ask<RowsDeleted>(DeleteRows{std::vector{head.id}, std::vector{head.event_id}});
        driver.ask<LanesReleased>(ReleaseLanes{LaneSet::all()});
        driver.ask<FleetLeft>(LeaveFleet{});
    };
    CHECK_NOTHROW(everything_once());
    for (const Grant& grant : grants_of(Role::relay)) {
        // Used by the commands only.
        if (grant.name == "audit" || grant.name == "requeue") continue;
        CAPTURE(std::string(grant.object));
        owner.execute("REVOKE " + std::string(grant.privileges) + " ON " + std::string(grant.kind) + " " +
                      std::string(grant.object) + " FROM " + role);
        const PostgresError error = failure_of(everything_once);
        CHECK(error.sqlstate() == "42501");
        CHECK_FALSE(error.unreachable());
        CHECK(says(error, grant_statement(grant, role)));
        owner.execute(grant_statement(grant, role));
    }
}

TEST_CASE("actions sent together are answered in the order of sending") {
    const PostgresDatabase database;
    Client client = database.connect();
    insert(client, 10);
    SessionDriver driver(database.settings());
    for (int round = 0; round < 3; ++round) {
        driver.send(RenewLeases{});
        driver.send(AcquireLanes{});
        driver.send(Probe{});
        driver.send(SessionDriver::everything());
        driver.send(DeleteRows{std::vector{RowId{round + 1}}, {}});
        driver.send(SessionDriver::everything());
        driver.send(BuryRow{RowId{100}, {}, "X", "x"});
        driver.send(ReleaseLanes{LaneSet::only(1)});
        driver.send(LeaveFleet{});
        driver.expect<LeasesRenewed>();
        driver.expect<LanesAcquired>();
        CHECK(driver.expect<ProbeAnswered>().high == RowId{10});
        CHECK(driver.expect<RowsRead>().rows.size() == static_cast<std::size_t>(10 - round));
        driver.expect<RowsDeleted>();
        CHECK(driver.last.rows == 1);
        CHECK(driver.last.took > 0s);
        CHECK(driver.expect<RowsRead>().rows.size() == static_cast<std::size_t>(9 - round));
        driver.expect<RowsBuried>();
        CHECK(driver.expect<LanesReleased>().lanes == LaneSet::only(1));
        driver.expect<FleetLeft>();
    }
    CHECK(driver.session.deadline() == never);
}

TEST_CASE("more than the socket's buffers hold goes through in both directions") {
    const PostgresDatabase database;
    Client client = database.connect();
    client.execute(
        "INSERT INTO outbox.message (topic, payload) SELECT 't', convert_to(repeat('x', 1000000), 'UTF8')"
        " FROM generate_series(1, 20)");
    SessionDriver driver(database.settings());
    const std::vector<RowId> absent(100'000, RowId{1'000'000});
    const std::string text(1'000'000, 'x');
    for (int i = 0; i < 6; ++i) {
        driver.send(SessionDriver::everything());
        driver.send(DeleteRows{absent, {}});
        driver.send(BuryRow{RowId{1'000'000}, {}, "X", text});
    }
    for (int i = 0; i < 6; ++i) {
        CHECK(driver.expect<RowsRead>().rows.size() == 20);
        driver.expect<RowsDeleted>();
        driver.expect<RowsBuried>();
    }
}

TEST_CASE("rows are deleted where they lay, and missed where they do not lie any more") {
    const PostgresDatabase database;
    Client client = database.connect();
    insert(client, 4);
    SessionDriver driver(database.settings());
    driver.ask<RowsRead>(SessionDriver::everything());
    const auto heads = driver.session.rows().heads();
    REQUIRE(heads.size() == 4);
    std::vector<RowId> ids;
    std::vector<EventId> event_ids;
    std::vector<std::uint64_t> places;
    for (const RowHead& head : heads.first(3)) {
        ids.push_back(head.id);
        event_ids.push_back(head.event_id);
        places.push_back(head.place);
    }
    const RowId last = heads[3].id;
    const std::uint64_t last_place = heads[3].place;
    const auto left = [&] {
        const Rows rows =
            client.execute("SELECT coalesce(string_agg(id::text, ' ' ORDER BY id), '') FROM outbox.message");
        return rows.text(0, 0);
    };
    client.execute(R"(UPDATE outbox.message SET headers = '{"moved": "yes"}' WHERE id = 2)");
    client.execute("DELETE FROM outbox.message WHERE id = 3");

    driver.ask<RowsMissed>(DeleteRows{ids, {}, places});
    CHECK(left() == "2 4");
    driver.ask<RowsDeleted>(DeleteRows{ids, event_ids});
    CHECK(left() == "4");
    // Another row than the one that was read lies there.
    driver.ask<RowsMissed>(DeleteRows{std::vector{RowId{3}}, {}, std::vector{last_place}});
    driver.ask<RowsMissed>(DeleteRows{std::vector{RowId{last.value + 100}}, {}, std::vector{last_place}});
    CHECK(left() == "4");
    // Ids too far apart for a bitmap are looked up, as is a row whose place is not known.
    driver.ask<RowsDeleted>(
        DeleteRows{std::vector{last, RowId{last.value + (1 << 21)}}, {}, std::vector{last_place, last_place}});
    CHECK(left().empty());
    driver.ask<RowsDeleted>(DeleteRows{std::vector{last}, {}, std::vector{std::uint64_t{0}}});
}

TEST_CASE("rows that lie side by side are deleted in one walk over their pages, and nothing else is") {
    const PostgresDatabase database;
    Client client = database.connect();
    if (client.server_version() < 140'000) return;
    insert(client, 202);
    SessionDriver driver(database.settings());
    driver.ask<RowsRead>(SessionDriver::everything());
    std::vector<RowId> ids;
    std::vector<EventId> event_ids;
    std::vector<std::uint64_t> places;
    for (const RowHead& head : driver.session.rows().heads()) {
        // The others may not have been acknowledged, or not even read.
        if (head.id == RowId{5} || head.id == RowId{120} || head.id > RowId{200}) continue;
        ids.push_back(head.id);
        event_ids.push_back(head.event_id);
        places.push_back(head.place);
    }
    REQUIRE(ids.size() == 198);
    const auto left = [&] {
        const Rows rows =
            client.execute("SELECT coalesce(string_agg(id::text, ' ' ORDER BY id), '') FROM outbox.message");
        return rows.text(0, 0);
    };
    const auto walks = [&] {
        return client
            .execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE "
                "'DELETE FROM outbox.message WHERE ctid >= %'")
            .text(0, 0);
    };
    client.execute("UPDATE outbox.message SET payload = repeat('moved', 200)::bytea WHERE id = 7");
    client.execute("DELETE FROM outbox.message WHERE id = 9");
    driver.ask<RowsMissed>(DeleteRows{ids, {}, places});
    CHECK(walks() == "1");
    CHECK(left() == "5 7 120 201 202");
    driver.ask<RowsDeleted>(DeleteRows{ids, event_ids});
    CHECK(left() == "5 120 201 202");

    // Few rows in many pages, or few of many ids, are looked up each at its place.
    driver.ask<RowsMissed>(
        DeleteRows{std::vector{RowId{5}, RowId{6}, RowId{7}, RowId{8}},
                   {},
                   std::vector{places.front(), places[1], places[2], places.back() + (std::uint64_t{8} << 16U)}});
    CHECK(walks() == "0");
    driver.ask<RowsMissed>(
        DeleteRows{std::vector{RowId{5}, RowId{20}, RowId{21}, RowId{22}}, {}, std::vector(4, places.front())});
    CHECK(walks() == "0");
    CHECK(left() == "5 120 201 202");
}

TEST_CASE("between actions no transaction is open") {
    const PostgresDatabase database;
    Client client = database.connect();
    insert(client, 10);
    SessionDriver driver(database.settings());
    const auto open_transactions = [&] {
        return client
            .execute(
                "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'outbox-relay' AND"
                " datname = current_database() AND"
                " (state <> 'idle' OR xact_start IS NOT NULL OR backend_xmin IS NOT NULL)")
            .integer(0, 0);
    };
    CHECK(open_transactions() == 0);
    driver.ask<LeasesRenewed>(RenewLeases{});
    CHECK(open_transactions() == 0);
    driver.ask<LanesAcquired>(AcquireLanes{});
    CHECK(open_transactions() == 0);
    driver.ask<RowsRead>(SessionDriver::everything());
    CHECK(open_transactions() == 0);
    driver.ask<ProbeAnswered>(Probe{});
    CHECK(open_transactions() == 0);
    driver.ask<RowsDeleted>(DeleteRows{std::vector{RowId{1}}, {}});
    CHECK(open_transactions() == 0);
    driver.ask<RowsBuried>(BuryRow{RowId{2}, {}, "X", "x"});
    CHECK(open_transactions() == 0);
}

TEST_CASE("a statement the server refuses is an error with its SQLSTATE and without the row") {
    const PostgresDatabase database;
    Client client = database.connect();
    insert(client, 1);
    client.execute_script(
        "CREATE FUNCTION outbox.refuse() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'not today' USING ERRCODE = 'P0042', DETAIL = 'Failing row contains s3cret'; END $$;"
        "CREATE TRIGGER refuse BEFORE DELETE ON outbox.message FOR EACH ROW EXECUTE FUNCTION outbox.refuse()");
    SessionDriver driver(database.settings());
    const PostgresError error = failure_of([&] { driver.ask<RowsDeleted>(DeleteRows{std::vector{RowId{1}}, {}}); });
    CHECK(error.sqlstate() == "P0042");
    CHECK(says(error, "not today"));
    CHECK_FALSE(says(error, "s3cret"));
    CHECK_FALSE(error.unreachable());
    CHECK(count(client, "message") == 1);
}

TEST_CASE("an ended backend is an error whether or not a statement is under way") {
    const PostgresDatabase database;
    Client client = database.connect();
    const auto end_backend = [&] {
        client.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'outbox-relay'"
            " AND datname = current_database()");
    };
    SessionDriver idle(database.settings());
    end_backend();
    CHECK(failure_of([&] { idle.await(); }).unreachable());

    SessionDriver busy(database.settings());
    client.execute("BEGIN");
    client.execute("LOCK TABLE outbox.message IN ACCESS EXCLUSIVE MODE");
    busy.send(SessionDriver::everything());
    std::this_thread::sleep_for(50ms);
    end_backend();
    CHECK(failure_of([&] { busy.await(); }).unreachable());
    client.execute("ROLLBACK");
}

TEST_CASE("rows that were read outlive the connection") {
    const PostgresDatabase database;
    Client client = database.connect();
    insert(client, 3);
    SessionDriver driver(database.settings());
    driver.ask<RowsRead>(SessionDriver::everything());
    client.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'outbox-relay' AND"
        " datname = current_database()");
    CHECK_THROWS_AS(driver.await(), PostgresError);
    REQUIRE(driver.session.rows().heads().size() == 3);
    CHECK(driver.session.rows().content(2).key == "k3");
}

TEST_CASE("a server that stops answering is noticed by the deadline") {
    const PostgresDatabase database;
    Client client = database.connect();
    SessionDriver driver(database.settings());
    client.execute("BEGIN");
    client.execute("LOCK TABLE outbox.message IN ACCESS EXCLUSIVE MODE");
    driver.send(SessionDriver::everything());
    const Instant deadline = driver.session.deadline();
    CHECK(deadline > boot_now() + 9s);  // the server's own statement_timeout comes first
    CHECK(deadline < boot_now() + 60s);
    CHECK_NOTHROW(driver.session.pump(deadline - 1ms));
    CHECK_FALSE(driver.session.next_answer(driver.topics, deadline - 1ms));
    CHECK(failure_of([&] { driver.session.pump(deadline); }).unreachable());
    client.execute("ROLLBACK");
}

TEST_CASE("of statements that were sent together each has its own time, from when its turn comes") {
    const PostgresDatabase database;
    SessionDriver driver(database.settings());
    driver.send(Probe{});
    driver.send(Probe{});
    const Instant first_deadline = driver.session.deadline();
    const Instant late = driver.session.waiting_since() + 10s;
    while (!driver.session.next_answer(driver.topics, late)) {
        pollfd wait{driver.session.descriptor(), driver.session.wanted(), 0};
        REQUIRE(poll(&wait, 1, 10'000) == 1);
        driver.session.pump(boot_now());
    }
    CHECK(driver.session.waiting_since() == late);
    CHECK(driver.session.deadline() == first_deadline + 10s);
    driver.expect<ProbeAnswered>();
    CHECK(driver.session.deadline() == never);
}

TEST_CASE("a server that never answers a connect is noticed by the deadline, and no secret is told") {
    const SilentServer server;
    Topics topics({"*"}, 1);
    Session session(server.settings(), testing::worker(1), 3s, 1, boot_now());
    const Instant deadline = session.deadline();
    CHECK(deadline > boot_now());
    CHECK(deadline < boot_now() + 30s);
    for (int i = 0; i < 10; ++i) {
        pollfd wait{session.descriptor(), session.wanted(), 0};
        if (poll(&wait, 1, 10) > 0) session.pump(boot_now());
        CHECK_FALSE(session.next_answer(topics, boot_now()));
    }
    const PostgresError error = failure_of([&] { session.pump(deadline); });
    CHECK(error.unreachable());
    CHECK_FALSE(says(error, "s3cret"));
}

TEST_CASE("a connection that is turned down is an error with its SQLSTATE") {
    const PostgresDatabase database;
    const PostgresError error = failure_of([&] { const SessionDriver driver({"dbname=nosuchdatabase", {}}); });
    CHECK(error.sqlstate() == "3D000");
    CHECK(error.unreachable());
}

TEST_CASE("a server that is not there is an error at once") {
    const PostgresError error = failure_of([&] { const SessionDriver driver({"host=127.0.0.1 port=1", {}}); });
    CHECK(error.unreachable());
    CHECK(error.sqlstate().empty());
}

}  // namespace outbox
