#include "support/postgres_database.hpp"

#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <stdexcept>

#include "postgres/migrations.hpp"

namespace outbox::testing {

namespace {

std::string unique_name(std::string_view purpose) {
    static std::atomic<int> count{0};
    return "test_" + std::to_string(getpid()) + "_" + std::to_string(++count) + "_" + std::string(purpose);
}

Client connect_to(const std::string& database) {
    if (std::getenv("PGHOST") == nullptr)
        throw std::runtime_error("no Postgres to test with: run this under tests/support/with-postgres");
    return Client({"dbname=" + database, {}}, "outbox-tests", Role::relay);
}

// Copying a migrated database takes a third of the time of migrating one.
const std::string& migrated_template() {
    static const std::string name = [] {
        std::string created = unique_name("template");
        connect_to("postgres").execute("CREATE DATABASE " + created);
        Client client = connect_to(created);
        migrate_up(client);
        return created;
    }();
    return name;
}

}  // namespace

PostgresDatabase::PostgresDatabase(Schema schema) : name_(unique_name("db")) {
    const std::string from = schema == Schema::migrated ? migrated_template() : std::string("template1");
    connect_to("postgres").execute("CREATE DATABASE " + name_ + " TEMPLATE " + from, {}, std::chrono::seconds(60));
}

PostgresDatabase::~PostgresDatabase() {
    try {
        Client client = connect_to("postgres");
        client.execute("DROP DATABASE " + name_ + " WITH (FORCE)", {}, std::chrono::seconds(60));
        if (!roles_.empty()) client.execute("DROP ROLE " + roles_);
    } catch (...) {
        // The whole server is thrown away after the tests.
    }
}

PostgresSettings PostgresDatabase::settings(std::string_view user) const {
    return {"dbname=" + name_ + (user.empty() ? "" : " user=" + std::string(user)), {}};
}

Client PostgresDatabase::connect(std::string_view user) const {
    return {settings(user), "outbox-tests", Role::relay};
}

std::string PostgresDatabase::create_role(std::string_view purpose) {
    std::string role = unique_name(purpose);
    connect_to("postgres").execute("CREATE ROLE " + role + " LOGIN");
    roles_ += (roles_.empty() ? "" : ", ") + role;
    return role;
}

}  // namespace outbox::testing
