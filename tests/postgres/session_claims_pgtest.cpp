// Claims: rows that stay locked in a transaction while they are published.
#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "postgres/statements.hpp"
#include "support/postgres_database.hpp"
#include "support/session_driver.hpp"

namespace outbox {

namespace {

using namespace std::chrono_literals;
using testing::boot_now;
using testing::PostgresDatabase;
using testing::SessionDriver;

using Ids = std::vector<std::int64_t>;

void insert(Client& client, int rows, const std::string& topic = "t") {
    client.execute("INSERT INTO outbox.message (topic, key) SELECT $2, 'k' || n FROM generate_series(1, $1::int) n",
                   {std::to_string(rows), topic});
}

ReadRows claim_of(std::uint32_t limit) {
    ReadRows read = SessionDriver::everything();
    read.claim = true;
    read.limit = limit;
    return read;
}

struct Claimed {
    Ids ids;
    RowId lowest;
};

Claimed claim(SessionDriver& driver, const ReadRows& read) {
    const auto rows = driver.ask<RowsRead>(read);
    Claimed claimed{{}, rows.lowest};
    for (const RowHead& head : rows.rows) claimed.ids.push_back(head.id.value);
    return claimed;
}

DeleteRows end_with(const std::vector<RowId>& ids) {
    DeleteRows rows;
    rows.ids = ids;
    rows.ends_claim = true;
    return rows;
}

std::int64_t number(Client& client, const std::string& sql) {
    return client.execute(sql).integer(0, 0);
}

std::int64_t rows(Client& client) {
    return number(client, "SELECT count(*) FROM outbox.message");
}

std::int64_t unlocked_rows(Client& client) {
    return number(client, "SELECT count(*) FROM (SELECT id FROM outbox.message FOR UPDATE SKIP LOCKED) AS free");
}

std::int64_t open_transactions(Client& client) {
    return number(client,
                  "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND "
                  "state LIKE 'idle in transaction%'");
}

template <class Condition>
bool eventually(Condition condition) {
    for (const Instant until = boot_now() + 10s; boot_now() < until;)
        if (condition()) return true;
    return condition();
}

}  // namespace

TEST_CASE("two sessions claim different rows, and neither waits") {
    const PostgresDatabase database;
    Client client = database.connect();
    insert(client, 10);
    SessionDriver one(database.settings(), 1);
    SessionDriver two(database.settings(), 2);
    CHECK(claim(one, claim_of(4)).ids == Ids{1, 2, 3, 4});
    const Claimed second = claim(two, claim_of(4));
    CHECK(second.ids == Ids{5, 6, 7, 8});
    CHECK(second.lowest == RowId{1});  // locked, and there
    CHECK(unlocked_rows(client) == 2);

    one.ask<RowsDeleted>(end_with({RowId{1}, RowId{2}, RowId{4}}));
    CHECK(one.last.rows == 3);
    CHECK(unlocked_rows(client) == 3);
    two.ask<ClaimEnded>(EndClaim{});
    const Claimed again = claim(one, claim_of(10));
    CHECK(again.ids == Ids{3, 5, 6, 7, 8, 9, 10});
    CHECK(again.lowest == RowId{3});
    CHECK(claim(two, claim_of(10)).ids.empty());
}

TEST_CASE("a claim of nothing says that there is nothing") {
    const PostgresDatabase database;
    SessionDriver driver(database.settings());
    const Claimed nothing = claim(driver, claim_of(4));
    CHECK(nothing.ids.empty());
    CHECK(nothing.lowest == no_row);
    driver.ask<ClaimEnded>(EndClaim{});
}

TEST_CASE("what a session claimed is free again when it is cut") {
    const PostgresDatabase database;
    Client client = database.connect();
    insert(client, 10);
    {
        SessionDriver driver(database.settings());
        CHECK(claim(driver, claim_of(10)).ids.size() == 10);
        CHECK(unlocked_rows(client) == 0);
    }
    CHECK(eventually([&] { return unlocked_rows(client) == 10; }));
}

TEST_CASE("what a session claimed is free again when its owner does not move for a whole lease") {
    const PostgresDatabase database;
    Client client = database.connect();
    insert(client, 10);
    SessionDriver driver(database.settings(), 1, 1s);
    CHECK(claim(driver, claim_of(10)).ids.size() == 10);
    CHECK(eventually([&] { return unlocked_rows(client) == 10; }));
    CHECK_THROWS_AS(driver.ask<RowsDeleted>(end_with({RowId{1}})), PostgresError);
    CHECK(rows(client) == 10);
}

TEST_CASE("the next claim goes out behind the end of the last one") {
    const PostgresDatabase database;
    Client client = database.connect();
    insert(client, 6);
    SessionDriver driver(database.settings());
    claim(driver, claim_of(3));
    driver.send(end_with({RowId{1}, RowId{2}, RowId{3}}));
    driver.send(claim_of(3));
    driver.expect<RowsDeleted>();
    const auto next = driver.expect<RowsRead>();
    REQUIRE(next.rows.size() == 3);
    CHECK(next.rows.front().id == RowId{4});
    CHECK(next.lowest == RowId{4});
    CHECK(rows(client) == 3);
}

TEST_CASE("a claim whose delete is refused is over all the same, and has deleted nothing") {
    const PostgresDatabase database;
    Client client = database.connect();
    insert(client, 4);
    client.execute_script(
        "CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE SQLSTATE '40001'; END $$;"
        "CREATE TRIGGER refuse BEFORE DELETE ON outbox.message FOR EACH ROW EXECUTE FUNCTION public.refuse()");
    SessionDriver driver(database.settings());
    claim(driver, claim_of(4));
    driver.ask<DeleteRefused>(end_with({RowId{1}}));
    CHECK(open_transactions(client) == 0);
    CHECK(unlocked_rows(client) == 4);
    client.execute("DROP TRIGGER refuse ON outbox.message");
    CHECK(claim(driver, claim_of(4)).ids.size() == 4);
    driver.ask<RowsDeleted>(end_with({RowId{1}}));
    CHECK(rows(client) == 3);
}

TEST_CASE("a row that was let go is deleted by its event, unless somebody else has claimed it") {
    const PostgresDatabase database;
    Client client = database.connect();
    insert(client, 4);
    SessionDriver one(database.settings(), 1);
    SessionDriver two(database.settings(), 2);
    claim(one, claim_of(4));
    std::vector<RowId> ids;
    std::vector<EventId> events;
    for (const RowHead& head : one.session.rows().heads()) {
        ids.push_back(head.id);
        events.push_back(head.event_id);
    }
    events[3] = EventId{};  // another event has this id by now
    one.ask<ClaimEnded>(EndClaim{});
    claim(two, claim_of(1));
    DeleteRows late;
    late.ids = ids;
    late.event_ids = events;
    late.skip_locked = true;
    one.ask<RowsDeleted>(late);
    CHECK(one.last.rows == 2);
    two.ask<ClaimEnded>(EndClaim{});
    CHECK(claim(one, claim_of(4)).ids == Ids{1, 4});
}

TEST_CASE("a claim leaves out topics, blocked keys and known rows; the lowest row may be a known one") {
    const PostgresDatabase database;
    Client client = database.connect();
    insert(client, 2, "parked");
    insert(client, 6);
    client.execute(
        "INSERT INTO outbox.blocked_key (topic, key, lane, message_id, event_id, error_code, error_text)"
        " VALUES ('t', 'k1', 0, 3, gen_random_uuid(), 'X', 'x')");
    SessionDriver driver(database.settings());
    ReadRows read = claim_of(100);
    const std::vector<TopicIndex> without{driver.topics.index_of("parked")};
    const std::vector<std::uint8_t> known{0b00001000};  // row 4
    read.without = without;
    const std::vector<RowId> blocking{RowId{3}};
    read.without_keys_of = blocking;
    read.known_base = RowId{1};
    read.known = known;
    Claimed claimed = claim(driver, read);
    CHECK(claimed.ids == Ids{5, 6, 7, 8});
    CHECK(claimed.lowest == RowId{4});
    driver.ask<ClaimEnded>(EndClaim{});

    read = claim_of(1);
    read.topic = driver.topics.index_of("parked");
    read.after = RowId{1};
    read.upto = RowId{5};
    claimed = claim(driver, read);
    CHECK(claimed.ids == Ids{2});
    CHECK(claimed.lowest == RowId{2});
    driver.ask<ClaimEnded>(EndClaim{});

    read = claim_of(100);
    read.after = RowId{2};
    read.upto = RowId{4};
    read.payload_bytes_max = 0;
    CHECK(claim(driver, read).ids == Ids{3, 4});
}

TEST_CASE("a worker that claims rows counts the fleet, leases nothing, and learns who does") {
    const PostgresDatabase database;
    Client client = database.connect();
    SessionDriver lanes(database.settings(), 1);
    SessionDriver one(database.settings(), 2);
    SessionDriver two(database.settings(), 3);
    const RenewLeases attend{.leases = false};
    one.ask<LeasesRenewed>(attend);
    auto answer = two.ask<LeasesRenewed>(attend);
    CHECK(answer.living == 2);
    CHECK(answer.rank == 1);
    CHECK(answer.lanes.empty());
    CHECK(two.last.database_now_us > 0);

    lanes.ask<LeasesRenewed>(RenewLeases{});
    const LaneSet taken = lanes.ask<LanesAcquired>(AcquireLanes{}).lanes;
    CHECK_FALSE(taken.empty());
    answer = one.ask<LeasesRenewed>(attend);
    CHECK(answer.living == 3);
    CHECK(answer.lanes == taken);
    client.execute("UPDATE outbox.lane SET expires_at = clock_timestamp() WHERE owner IS NOT NULL");
    CHECK(one.ask<LeasesRenewed>(attend).lanes.empty());
}

TEST_CASE("a claim above the mark reads no dead row, however many a snapshot holds below it") {
    const PostgresDatabase database;
    Client client = database.connect();
    Client reader = database.connect();
    reader.execute("BEGIN ISOLATION LEVEL REPEATABLE READ");
    reader.execute("SELECT count(*) FROM outbox.message");
    insert(client, 50'000);
    client.execute("DELETE FROM outbox.message WHERE id <= 49000");
    client.execute(statements[static_cast<std::size_t>(Statement::settings)].sql, {"9000", "3000"});
    const auto pages = [&](Statement statement, const std::string& parameters) {
        const StatementText& text = statements[static_cast<std::size_t>(statement)];
        client.execute("PREPARE one AS " + std::string(text.sql));
        client.execute("BEGIN");
        const Rows plan = client.execute("EXPLAIN (ANALYZE, BUFFERS, COSTS OFF, TIMING OFF) EXECUTE one" + parameters);
        client.execute("ROLLBACK");
        client.execute("DEALLOCATE one");
        for (std::size_t i = 0; i < plan.size(); ++i) {
            const std::string line = plan.text(i, 0);
            const auto hit = line.find("shared hit=");
            if (hit != std::string::npos) return std::stol(line.substr(hit + 11));
        }
        return 0L;
    };
    const std::string rest = ", '{}', '', 1000000, '{}', 1, '', 100)";
    CHECK(pages(Statement::claim, "(49000, 9223372036854775807" + rest) < 400);
    CHECK(pages(Statement::lowest, "(49000, 9223372036854775807, '{}', '', '{}')") < 10);
    CHECK(pages(Statement::claim, "(0, 9223372036854775807" + rest) > 500);  // what the mark saves
}

}  // namespace outbox
