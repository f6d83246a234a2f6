#include "postgres/connection.hpp"

#include <doctest/doctest.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <optional>

using outbox::connection_parameters;
using outbox::ConnectionParameters;
using outbox::describe_target;
using outbox::PostgresError;
using outbox::PostgresSettings;
using outbox::SecretFile;

namespace {

std::optional<std::string> value(const ConnectionParameters& parameters, std::string_view keyword) {
    const auto same = [&](const auto& entry) { return entry.first == keyword; };
    REQUIRE(std::count_if(parameters.begin(), parameters.end(), same) <= 1);
    const auto found = std::find_if(parameters.begin(), parameters.end(), same);
    if (found == parameters.end()) return std::nullopt;
    return found->second;
}

std::string failure(const PostgresSettings& settings) {
    try {
        connection_parameters(settings, "x");
    } catch (const PostgresError& error) {
        return error.what();
    }
    return {};
}

class PasswordFile {
public:
    explicit PasswordFile(const std::string& content) { write(content); }
    ~PasswordFile() { unlink(path_.c_str()); }
    PasswordFile(const PasswordFile&) = delete;
    PasswordFile& operator=(const PasswordFile&) = delete;
    void write(const std::string& content) const { std::ofstream(path_, std::ios::binary) << content; }
    PostgresSettings settings(const std::string& dsn = "host=h") const {
        return {dsn, SecretFile{path_, "credential:pw"}};
    }

private:
    std::string path_ = "/tmp/outbox-password-" + std::to_string(getpid());
};

}  // namespace

TEST_CASE("defaults are added where the dsn says nothing") {
    const auto parameters = connection_parameters({"host=db user=u", {}}, "outbox-relay");
    CHECK(value(parameters, "host") == "db");
    CHECK(value(parameters, "connect_timeout") == "10");
    CHECK(value(parameters, "target_session_attrs") == "read-write");
    CHECK(value(parameters, "keepalives_idle") == "10");
    CHECK(value(parameters, "tcp_user_timeout") == "15000");
    CHECK(value(parameters, "fallback_application_name") == "outbox-relay");
    CHECK(value(parameters, "client_encoding") == "UTF8");
    CHECK_FALSE(value(parameters, "password"));
}

TEST_CASE("what the dsn says is kept") {
    const auto parameters = connection_parameters(
        {"postgresql://u@db:5433/shop?connect_timeout=3&target_session_attrs=any&application_name=mine", {}}, "x");
    CHECK(value(parameters, "port") == "5433");
    CHECK(value(parameters, "dbname") == "shop");
    CHECK(value(parameters, "connect_timeout") == "3");
    CHECK(value(parameters, "target_session_attrs") == "any");
    CHECK(value(parameters, "application_name") == "mine");
}

TEST_CASE("the encoding is UTF-8 even when the dsn asks for another") {
    CHECK(value(connection_parameters({"client_encoding=LATIN1", {}}, "x"), "client_encoding") == "UTF8");
}

TEST_CASE("an environment variable of libpq counts as the operator's word") {
    setenv("PGCONNECT_TIMEOUT", "77", 1);
    const auto parameters = connection_parameters({"host=db", {}}, "x");
    unsetenv("PGCONNECT_TIMEOUT");
    CHECK_FALSE(value(parameters, "connect_timeout"));
}

TEST_CASE("the password file is read again at every connect and loses one newline") {
    const PasswordFile file("first\n");
    const PostgresSettings settings = file.settings();
    CHECK(value(connection_parameters(settings, "x"), "password") == "first");
    file.write("second\n\n");
    CHECK(value(connection_parameters(settings, "x"), "password") == "second\n");
}

TEST_CASE("a password file that cannot be one is refused by its name") {
    CHECK(failure({"host=h", SecretFile{"/nonexistent/pw", "credential:pw"}}).find("credential:pw") !=
          std::string::npos);
    CHECK(failure(PasswordFile("\n").settings()).find("is empty") != std::string::npos);
    CHECK(failure(PasswordFile(std::string(5000, 'x')).settings()).find("longer") != std::string::npos);
    CHECK(failure(PasswordFile(std::string("a\0b", 3)).settings()).find("zero byte") != std::string::npos);
}

TEST_CASE("an unreadable dsn is not repeated, because it may hold a password") {
    for (const char* dsn : {"password=s3cret s3cret2 host=h", "postgresql://u:s3cret@h:x/d?s3cret", "s3cret",
                            "postgresql://u:s3cret@[::1", "host=h passwort=s3cret", "password='s3cret",
                            "postgresql://u:p@s3cret@host/db", "postgresql://u:s3\"cret@[::1 \"s3cret"}) {
        CAPTURE(dsn);
        const std::string text = failure({dsn, {}});
        CHECK(text.find("postgres.dsn") != std::string::npos);
        CHECK(text.find("cret") == std::string::npos);
        CHECK_THROWS_AS(describe_target({dsn, {}}), PostgresError);
    }
}

TEST_CASE("the target is described without secrets") {
    const PasswordFile file("s3cret");
    CHECK(describe_target(file.settings("host=db port=5433 dbname=shop user=u password=s3cret sslkey=/k")) ==
          "host=db port=5433 dbname=shop user=u");
}
