#include "kafka/secret_watch.hpp"

#include <doctest/doctest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "kafka/secrets.hpp"

namespace outbox {

namespace {

using Change = SecretWatch::Change;

struct Folder {
    Folder() { REQUIRE(mkdtemp(path.data()) != nullptr); }
    ~Folder() { std::filesystem::remove_all(path); }
    Folder(const Folder&) = delete;
    Folder& operator=(const Folder&) = delete;

    std::string write(const std::string& name, std::string_view content) const {
        std::ofstream(path + "/" + name, std::ios::binary) << content;
        return path + "/" + name;
    }

    std::string path = "/tmp/outbox-test-XXXXXX";
};

SecretFile file(const std::string& path) {
    return {path, path};
}

// A login by name and password, a key in a file, and a CA by path.
struct Settings : KafkaSettings {
    explicit Settings(const Folder& folder) {
        files = {{"sasl.username", file(folder.write("name", "relay\n"))},
                 {"sasl.password", file(folder.write("password", "old"))},
                 {"ssl.key.pem", file(folder.write("key", "key"))}};
        properties = {{"bootstrap.servers", "127.0.0.1:9092"}, {"ssl.ca.location", folder.write("ca", "ca")}};
    }
};

}  // namespace

TEST_CASE("files that stay as they are change nothing, however often they are written") {
    const Folder folder;
    SecretWatch watch{Settings(folder)};
    CHECK(watch.look() == Change::nothing);
    folder.write("password", "old");
    folder.write("password", "old\n");  // the line's end is not part of it
    CHECK(watch.look() == Change::nothing);
}

TEST_CASE("a new name or password is a change of the login, told once") {
    const Folder folder;
    SecretWatch watch{Settings(folder)};
    folder.write("password", "new");
    CHECK(watch.look() == Change::login);
    CHECK(watch.look() == Change::nothing);
    folder.write("name", "relay2");
    CHECK(watch.look() == Change::login);
}

TEST_CASE("any other file, be it named by path, needs another producer, whatever else has changed") {
    const Folder folder;
    SecretWatch watch{Settings(folder)};
    folder.write("key", "key 2");
    CHECK(watch.look() == Change::other);
    folder.write("ca", "ca 2");
    folder.write("password", "new");
    CHECK(watch.look() == Change::other);
    CHECK(watch.look() == Change::nothing);
}

TEST_CASE("a swapped link is noticed as an orchestrator makes it") {
    const Folder folder;
    folder.write("v1", "old");
    folder.write("v2", "new");
    const std::filesystem::path link = folder.path + "/link";
    std::filesystem::create_symlink("v1", link);
    KafkaSettings settings;
    settings.files = {{"sasl.password", file(link)}};
    SecretWatch watch(settings);
    std::filesystem::create_symlink("v2", folder.path + "/next");
    std::filesystem::rename(folder.path + "/next", link);
    CHECK(watch.look() == Change::login);
}

TEST_CASE("a file that is gone or empty for a while is no change, and what it says afterwards is") {
    const Folder folder;
    SecretWatch watch{Settings(folder)};
    folder.write("password", "");
    CHECK(watch.look() == Change::nothing);
    std::filesystem::remove(folder.path + "/key");
    CHECK(watch.look() == Change::nothing);
    folder.write("password", "new");
    folder.write("key", "key");
    CHECK(watch.look() == Change::login);
}

TEST_CASE("a file that was not there at the start counts when it comes") {
    const Folder folder;
    KafkaSettings settings;
    settings.files = {{"ssl.key.pem", file(folder.path + "/late")}};
    settings.properties = {{"ssl.ca.location", folder.path}};  // a folder of certificates: not watched
    SecretWatch watch(settings);
    CHECK(watch.look() == Change::nothing);
    folder.write("late", "key");
    CHECK(watch.look() == Change::other);
}

TEST_CASE("a login is read from files and from the configuration, and none is none") {
    const Folder folder;
    const Settings settings(folder);
    const auto login = read_credentials(settings);
    REQUIRE(login);
    CHECK(login->name == "relay");
    CHECK(login->password == "old");

    KafkaSettings plain;
    plain.properties = {{"sasl.username", "relay"}};
    CHECK_FALSE(read_credentials(plain));
    plain.files = {{"sasl.password", file(folder.path + "/password")}};
    CHECK(read_credentials(plain)->name == "relay");
    plain.files = {{"sasl.password", file(folder.path + "/missing")}};
    CHECK_THROWS_WITH(read_credentials(plain), doctest::Contains("missing"));
}

}  // namespace outbox
