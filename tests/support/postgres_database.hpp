// A fresh database for one test case, with the schema already in it, dropped at the end of the scope. The server is the
// one tests/support/with-postgres started; the tests fail when there is none. Test threads only.
#pragma once

#include <string>
#include <string_view>

#include "postgres/client.hpp"

namespace outbox::testing {

enum class Schema { migrated, none };

class PostgresDatabase {
public:
    explicit PostgresDatabase(Schema schema = Schema::migrated);
    ~PostgresDatabase();
    PostgresDatabase(const PostgresDatabase&) = delete;
    PostgresDatabase& operator=(const PostgresDatabase&) = delete;

    const std::string& name() const { return name_; }

    // As the owner of everything, or as a role that create_role() made.
    PostgresSettings settings(std::string_view user = {}) const;
    Client connect(std::string_view user = {}) const;

    // A role that exists as long as this database; returns its name.
    std::string create_role(std::string_view purpose);

private:
    std::string name_;
    std::string roles_;  // to drop, separated by ", "
};

}  // namespace outbox::testing
