// A small synchronous Postgres client for the commands and the sampler: one statement at a time, text parameters, text
// results, a deadline on each call. Not a general client: no pipelining, no COPY, no large results (they are held
// whole), no reconnecting. The worker's hot path has its own session (session.hpp).
// One thread at a time.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "postgres/connection.hpp"

namespace outbox {

// The rows of one answer; the views live as long as this.
class Rows {
public:
    explicit Rows(QueryResult result) : result_(std::move(result)) {}

    std::size_t size() const;
    std::optional<std::string_view> at(std::size_t row, std::size_t column) const;  // nullopt: NULL

    // For columns the statement never leaves NULL; throws PostgresError when they do, or are of another type.
    std::string text(std::size_t row, std::size_t column) const;
    std::int64_t integer(std::size_t row, std::size_t column) const;
    double real(std::size_t row, std::size_t column) const;
    bool boolean(std::size_t row, std::size_t column) const;

private:
    QueryResult result_;
};

class Client {
public:
    using Milliseconds = std::chrono::milliseconds;
    using Parameter = std::optional<std::string>;  // nullopt: NULL

    // Connects within `timeout`, over all hosts together. `role` is what the user is meant to be, so that a missing
    // privilege is answered with the right GRANT. Throws PostgresError, as does everything below.
    Client(const PostgresSettings& settings, std::string_view application_name, Role role,
           Milliseconds timeout = std::chrono::seconds(10));

    // One statement. When no answer arrives in time the connection is closed; the statement may still take effect.
    Rows execute(const std::string& sql, std::span<const Parameter> parameters, Milliseconds timeout);
    Rows execute(const std::string& sql, std::initializer_list<Parameter> parameters = {},
                 Milliseconds timeout = std::chrono::seconds(10));

    // Any number of statements separated by semicolons, without parameters: one transaction, unless they say otherwise.
    // Returns what the last one answers.
    Rows execute_script(const std::string& sql, Milliseconds timeout = std::chrono::seconds(60));

    // BEGIN, action(), COMMIT; ROLLBACK when the action throws.
    template <class Action>
    void transaction(Action action) {
        execute("BEGIN");
        try {
            action();
            execute("COMMIT");
        } catch (...) {
            roll_back();
            throw;
        }
    }

    bool connected() const { return connection_ != nullptr; }
    std::string user() const;
    int server_version() const;  // 150020 is 15.20

private:
    class Deadline;
    void connect(const Deadline& deadline);
    void flush(const Deadline& deadline);
    QueryResult last_result(const Deadline& deadline);
    pg_conn* usable() const;
    void roll_back() noexcept;

    Connection connection_;  // empty after a missed deadline
    Role role_;
};

}  // namespace outbox
