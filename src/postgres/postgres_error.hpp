// What went wrong with Postgres: the one exception of postgres/. Its text is for the operator and holds neither secrets
// nor the contents of a row; the questions are for whoever decides what happens next. Any thread.
#pragma once

#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

namespace outbox {

class PostgresError : public std::runtime_error {
public:
    explicit PostgresError(const std::string& text, std::string sqlstate = {})
        : std::runtime_error(text), sqlstate_(std::move(sqlstate)) {}

    // Five characters, or empty when no server answered.
    const std::string& sqlstate() const { return sqlstate_; }

    // No server, or one that does not let us in: nothing is wrong with the statement.
    bool unreachable() const {
        const std::string_view code = sqlstate_;
        return code.empty() || code.starts_with("08") || code.starts_with("28") || code.starts_with("57P") ||
               code == "53300" || code == "3D000";
    }

    // A table, function, column or schema is not there.
    bool schema_missing() const {
        return sqlstate_ == "42P01" || sqlstate_ == "42883" || sqlstate_ == "42703" || sqlstate_ == "3F000";
    }

private:
    std::string sqlstate_;
};

}  // namespace outbox
