// How a connection to Postgres is asked for, and how its failures are told: shared by the synchronous client and the
// worker's session. Reads the password file; opens nothing by itself but open_connection(). Any thread.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "postgres/postgres_error.hpp"
#include "postgres/privileges.hpp"
#include "postgres/settings.hpp"

// libpq's PGconn and PGresult, so that this header can be included outside of postgres/.
struct pg_conn;
struct pg_result;

namespace outbox {

struct CloseConnection {
    void operator()(pg_conn* connection) const noexcept;
};
using Connection = std::unique_ptr<pg_conn, CloseConnection>;

struct ClearResult {
    void operator()(pg_result* result) const noexcept;
};
using QueryResult = std::unique_ptr<pg_result, ClearResult>;

// Keywords and values for libpq: the operator's dsn, our defaults where neither the dsn nor libpq's environment
// variables say anything, and the password as its file has it now. Secret: never print it.
// Throws PostgresError for a dsn that cannot be read (without repeating it) and for an unreadable password file.
using ConnectionParameters = std::vector<std::pair<std::string, std::string>>;
ConnectionParameters connection_parameters(const PostgresSettings& settings, std::string_view application_name);

// "host=… port=… dbname=… user=…": fit to print, no secrets. Throws PostgresError for a dsn that cannot be read.
std::string describe_target(const PostgresSettings& settings);

// The same once for each host of the dsn, to be tried in this order. libpq, when it is not to block, knows no time-out
// and would stay with the first host that is silent, which is what a dead primary is.
std::vector<ConnectionParameters> connection_attempts(const PostgresSettings& settings,
                                                      std::string_view application_name);

// What the dsn grants one host, or 10 s.
std::chrono::seconds connect_timeout(const ConnectionParameters& parameters);

// Begins to connect and returns at once (but for name resolution, which libpq does on the spot); PQconnectPoll goes on.
// Notices are dropped, and errors carry their SQLSTATE, which connect_failure() picks up.
Connection open_connection(const ConnectionParameters& parameters);

// That host has been silent for `patience` ("10 s").
PostgresError connect_timed_out(const pg_conn* connection, const std::string& patience);

// Why none of the hosts would do, one after the other.
class HostFailures {
public:
    void add(const PostgresError& failure);
    PostgresError error() const { return PostgresError(text_, sqlstate_); }

private:
    std::string text_;
    std::string sqlstate_;
};

// The connection could not be made, or broke.
PostgresError connect_failure(const pg_conn* connection, Role role = Role::relay);

// The server refused a statement. Only the primary message is used: the detail may quote a whole row.
PostgresError statement_failure(const pg_conn* connection, const pg_result* result, Role role = Role::relay);

// "libpq 15.2"
std::string postgres_library_version();

}  // namespace outbox
