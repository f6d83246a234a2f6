#include <arpa/inet.h>
#include <doctest/doctest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>

#include "postgres/client.hpp"
#include "support/postgres_database.hpp"

using outbox::Client;
using outbox::PostgresError;
using outbox::Role;
using outbox::testing::PostgresDatabase;
using namespace std::chrono_literals;

namespace {

// Takes connections and says nothing.
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
    std::string dsn() const { return "host=127.0.0.1 port=" + std::to_string(port_) + " password=s3cret"; }

private:
    int socket_;
    int port_ = 0;
};

PostgresError connect_refusal(const std::string& dsn) {
    try {
        const Client client({dsn, {}}, "outbox-tests", Role::relay, 300ms);
    } catch (const PostgresError& error) {
        return error;
    }
    return PostgresError("connected", "00000");
}

}  // namespace

TEST_CASE("parameters and results are text and NULL") {
    const PostgresDatabase database;
    Client client = database.connect();
    const outbox::Rows rows = client.execute("SELECT $1::text, $2::text, 1.5::float8, true", {"it's", std::nullopt});
    REQUIRE(rows.size() == 1);
    CHECK(rows.text(0, 0) == "it's");
    CHECK_FALSE(rows.at(0, 1).has_value());
    CHECK(rows.real(0, 2) == 1.5);
    CHECK(rows.boolean(0, 3));
    CHECK_THROWS_AS(rows.text(0, 1), PostgresError);
    CHECK_THROWS_AS(rows.integer(0, 0), PostgresError);
    CHECK_THROWS_AS(rows.at(1, 0), PostgresError);
    CHECK_THROWS_AS(client.execute("SELECT $1::text", {std::string("a\0b", 3)}), PostgresError);
}

TEST_CASE("a large parameter and a large answer get through") {
    const PostgresDatabase database;
    Client client = database.connect();
    const std::string large(std::size_t{20} << 20U, 'x');
    CHECK(client.execute("SELECT $1::text", {large}).text(0, 0) == large);
}

TEST_CASE("a refused statement leaves the connection usable") {
    const PostgresDatabase database;
    Client client = database.connect();
    CHECK_THROWS_AS(client.execute("SELECT 1/0"), PostgresError);
    CHECK(client.execute("SELECT 1").integer(0, 0) == 1);
}

TEST_CASE("a transaction that throws is rolled back") {
    const PostgresDatabase database;
    Client client = database.connect();
    CHECK_THROWS_AS(client.transaction([&] {
        client.execute("DELETE FROM outbox.lane");
        client.execute("SELECT 1/0");
    }),
                    PostgresError);
    CHECK(client.execute("SELECT count(*) FROM outbox.lane").integer(0, 0) == 64);
}

TEST_CASE("an answer that does not come in time gives up the connection") {
    const PostgresDatabase database;
    Client client = database.connect();
    CHECK_THROWS_WITH_AS(client.execute("SELECT pg_sleep(20)", {}, 100ms), doctest::Contains("100 ms"), PostgresError);
    CHECK_FALSE(client.connected());
    CHECK_THROWS_AS(client.execute("SELECT 1"), PostgresError);
}

TEST_CASE("a connection that the server ends is an error that says so") {
    const PostgresDatabase database;
    Client client = database.connect();
    Client other = database.connect();
    const std::string pid = client.execute("SELECT pg_backend_pid()").text(0, 0);
    other.execute("SELECT pg_terminate_backend($1::int)", {pid});
    try {
        client.execute("SELECT 1");
        FAIL("the connection is gone");
    } catch (const PostgresError& error) {
        CHECK(error.unreachable());
    }
}

TEST_CASE("a server that does not answer is given up after the time allowed") {
    const SilentServer server;
    const PostgresError error = connect_refusal(server.dsn());
    CHECK(error.unreachable());
    CHECK(std::string(error.what()).find("300 ms") != std::string::npos);
    CHECK(std::string(error.what()).find("s3cret") == std::string::npos);
}

TEST_CASE("why the server turned a connection down is known by its SQLSTATE") {
    const PostgresDatabase database;
    const PostgresError no_database = connect_refusal("dbname=nosuchdatabase password=s3cret");
    CHECK(no_database.sqlstate() == "3D000");
    CHECK(no_database.unreachable());
    CHECK(std::string(no_database.what()).find("check dbname") != std::string::npos);
    CHECK(std::string(no_database.what()).find("LOCATION") == std::string::npos);
    CHECK(std::string(no_database.what()).find("s3cret") == std::string::npos);
    const PostgresError no_role = connect_refusal("dbname=" + database.name() + " user=nosuchrole password=s3cret");
    CHECK(no_role.sqlstate() == "28000");
    const PostgresError no_server = connect_refusal("host=127.0.0.1 port=1 password=s3cret");
    CHECK(no_server.sqlstate().empty());
    CHECK(no_server.unreachable());
    CHECK(std::string(no_server.what()).find("s3cret") == std::string::npos);
}

TEST_CASE("the server knows the connection by its application name") {
    const PostgresDatabase database;
    Client client = database.connect();
    CHECK(client.execute("SHOW application_name").text(0, 0) == "outbox-tests");
    CHECK(client.execute("SHOW client_encoding").text(0, 0) == "UTF8");
}

TEST_CASE("a read-only server is not taken for one to write to") {
    const PostgresDatabase database;
    Client client = database.connect();
    client.execute("ALTER DATABASE " + database.name() + " SET default_transaction_read_only = on");
    CHECK_THROWS_AS(database.connect(), PostgresError);
}
