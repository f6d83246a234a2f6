#include <doctest/doctest.h>

#include <array>

#include "postgres/migrations.hpp"

using outbox::AppliedMigration;
using outbox::Migration;
using outbox::pending_migrations;
using outbox::SchemaError;

namespace {

constexpr std::array known{Migration{"outbox", 1, "init", "aaaa", "…"}, Migration{"outbox", 2, "more", "bbbb", "…"}};

std::string refusal(const std::vector<AppliedMigration>& applied) {
    try {
        pending_migrations(known, applied);
    } catch (const SchemaError& error) {
        return error.what();
    }
    return {};
}

}  // namespace

TEST_CASE("what was not applied is pending, in order") {
    CHECK(pending_migrations(known, {}).size() == 2);
    const std::vector<AppliedMigration> one{{"outbox", 1, "aaaa", ""}};
    REQUIRE(pending_migrations(known, one).size() == 1);
    CHECK(pending_migrations(known, one).front().version == 2);
    const std::vector<AppliedMigration> both{{"outbox", 1, "aaaa", ""}, {"outbox", 2, "bbbb", ""}};
    CHECK(pending_migrations(known, both).empty());
}

TEST_CASE("a migration that was edited after it was applied is refused") {
    CHECK(refusal({{"outbox", 1, "cccc", ""}}).find("another text") != std::string::npos);
}

TEST_CASE("a database newer than the program is refused") {
    CHECK(refusal({{"outbox", 1, "aaaa", ""}, {"outbox", 3, "dddd", ""}}).find("newer") != std::string::npos);
}

TEST_CASE("a module this program does not know is left alone") {
    CHECK(refusal({{"inbox", 7, "eeee", ""}}).empty());
}

TEST_CASE("the embedded migrations are numbered from 1 and carry a SHA-256") {
    const auto embedded = outbox::embedded_migrations();
    REQUIRE_FALSE(embedded.empty());
    CHECK(embedded.front().module == "outbox");
    CHECK(embedded.front().version == 1);
    CHECK(embedded.front().checksum.size() == 64);
    CHECK(embedded.front().text.find("CREATE TABLE outbox.message") != std::string_view::npos);
}
