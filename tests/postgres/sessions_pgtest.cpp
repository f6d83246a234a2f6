// A worker's two sessions: what the second one is for, and what it must not break.
#include <doctest/doctest.h>
#include <poll.h>

#include <array>
#include <chrono>
#include <functional>
#include <string>
#include <variant>
#include <vector>

#include "postgres/sessions.hpp"
#include "support/postgres_database.hpp"
#include "support/session_driver.hpp"

namespace outbox {

namespace {

using namespace std::chrono_literals;
using testing::boot_now;
using testing::PostgresDatabase;
using testing::schema_version;
using testing::SessionDriver;

class Driver {
public:
    explicit Driver(const PostgresSettings& settings, bool deletes_apart = true)
        : sessions(settings, testing::worker(1), 60s, schema_version(), deletes_apart, boot_now()) {
        static_cast<void>(expect<SessionOpened>());
    }

    void wait() {
        const auto sources = sessions.sources();
        std::array<pollfd, 2> fds{
            {{sources[0].descriptor, sources[0].wanted, 0}, {sources[1].descriptor, sources[1].wanted, 0}}};
        REQUIRE(poll(fds.data(), fds.size(), 10'000) > 0);
        sessions.pump(boot_now());
    }
    template <class Event>
    Event expect() {
        while (true) {
            if (auto answer = sessions.next_answer(topics, boot_now())) return std::get<Event>(answer->event);
            wait();
        }
    }
    void read(std::uint32_t limit) {
        ReadRows read = SessionDriver::everything();
        read.limit = limit;
        sessions.send(read, topics, boot_now());
    }
    void remove(const std::vector<RowId>& ids) {
        DeleteRows rows;
        rows.ids = ids;
        sessions.send(rows, boot_now());
    }

    Topics topics{{"*"}, 1};
    Sessions sessions;
};

void insert(Client& client, int rows) {
    client.execute(
        "INSERT INTO outbox.message (topic, key, payload) "
        "SELECT 't', 'k' || n, convert_to(repeat('x', 200), 'UTF8') FROM generate_series(1, $1::int) n",
        {std::to_string(rows)});
}

std::vector<std::int64_t> processes(Client& client) {
    const auto found = client.execute(
        "SELECT pid::int8 FROM pg_stat_activity WHERE datname = current_database() AND application_name = "
        "'outbox-relay' "
        "AND pid <> pg_backend_pid() ORDER BY backend_start");
    std::vector<std::int64_t> pids;
    for (std::size_t i = 0; i < found.size(); ++i) pids.push_back(found.integer(i, 0));
    return pids;
}

}  // namespace

TEST_CASE("a delete that waits for a lock holds up no read") {
    PostgresDatabase database;
    Client writer = database.connect();
    Client locker = database.connect();
    insert(writer, 3);
    Driver driver(database.settings());
    locker.execute("BEGIN");
    locker.execute("SELECT FROM outbox.message WHERE id = 1 FOR UPDATE");
    driver.remove({RowId{1}});
    driver.read(10);
    CHECK(driver.expect<RowsRead>().rows.size() == 3);
    locker.execute("COMMIT");
    static_cast<void>(driver.expect<RowsDeleted>());
    driver.read(10);
    CHECK(driver.expect<RowsRead>().rows.size() == 2);
}

TEST_CASE("a delete that is over while rows are read is told after the read, which still saw its rows") {
    PostgresDatabase database;
    Client client = database.connect();
    insert(client, 100'000);
    Driver driver(database.settings());
    // More than fits between the server and us: the answer stays under way for as long as nobody takes it.
    driver.read(200'000);
    while (client.execute("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'ClientWrite'").integer(0, 0) == 0)
        continue;
    driver.remove({RowId{99'999}});
    while (client.execute("SELECT count(*) FROM outbox.message WHERE id = 99999").integer(0, 0) == 1) continue;
    CHECK(driver.expect<RowsRead>().rows.size() == 100'000);
    static_cast<void>(driver.expect<RowsDeleted>());
}

TEST_CASE("a server that ends idle sessions ends neither of the two") {
    PostgresDatabase database;
    Client client = database.connect();
    if (client.execute("SELECT count(*) FROM pg_settings WHERE name = 'idle_session_timeout'").integer(0, 0) == 0)
        return;
    client.execute("ALTER DATABASE \"" + database.name() + "\" SET idle_session_timeout = '100ms'");
    Driver driver(database.settings());
    const Client idle = database.connect();
    const auto others = [&] {
        return client
            .execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() "
                "AND "
                "backend_type = 'client backend'")
            .integer(0, 0);
    };
    REQUIRE(others() == 3);
    while (others() == 3) continue;
    CHECK(processes(client).size() == 2);
    driver.remove({RowId{1}});
    static_cast<void>(driver.expect<RowsDeleted>());
}

TEST_CASE("whichever of the two is lost, both are") {
    PostgresDatabase database;
    Client client = database.connect();
    for (const std::size_t which : {0U, 1U}) {
        CAPTURE(which);
        Driver driver(database.settings());
        const auto pids = processes(client);
        REQUIRE(pids.size() == 2);
        client.execute("SELECT pg_terminate_backend($1::int)", {std::to_string(pids[which])});
        CHECK_THROWS_AS(static_cast<void>(driver.expect<RowsRead>()), PostgresError);
    }
}

TEST_CASE("where rows are claimed there is one session") {
    PostgresDatabase database;
    Client client = database.connect();
    insert(client, 1);
    Driver driver(database.settings(), false);
    CHECK(processes(client).size() == 1);
    driver.remove({RowId{1}});
    static_cast<void>(driver.expect<RowsDeleted>());
    CHECK(client.execute("SELECT count(*) FROM outbox.message").integer(0, 0) == 0);
}

}  // namespace outbox
