#include "config/config.hpp"

#include <doctest/doctest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "config/loading.hpp"

namespace outbox {

namespace {

class TemporaryFolder {
public:
    TemporaryFolder() {
        std::string pattern = (std::filesystem::temp_directory_path() / "outbox-config-XXXXXX").string();
        REQUIRE(mkdtemp(pattern.data()) != nullptr);
        path_ = pattern;
    }
    ~TemporaryFolder() {
        std::error_code ignored;
        std::filesystem::remove_all(path_, ignored);
    }
    TemporaryFolder(const TemporaryFolder&) = delete;
    TemporaryFolder& operator=(const TemporaryFolder&) = delete;

    std::string path() const { return path_; }
    std::string add(const std::string& name, const std::string& content) const {
        std::ofstream(path_ + "/" + name) << content;
        return path_ + "/" + name;
    }

private:
    std::string path_;
};

// The problem with one option added to a configuration that is right otherwise.
std::string problem_with(const std::string& section, const std::string& option) {
    return problem_of({minimal_toml + "[" + section + "]\n" + option + "\n"});
}

bool contains(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("the documented example loads") {
    const TemporaryFolder credentials;
    credentials.add("postgres-password", "sesame\n");
    credentials.add("kafka-password", "sesame\n");
    const Config config = load({R"([postgres]
dsn           = "host=/run/postgresql dbname=shop user=outbox_relay"
password_file = "credential:postgres-password"

[kafka]
bootstrap.servers = "k1:9093,k2:9093"
compression.type  = "lz4"

[kafka_files]
sasl.password = "credential:kafka-password"

[relay]
claim = "lanes"
workers = 1
lease_ttl = "3s"
batch_rows = 1000
in_flight_rows = 20000
in_flight_bytes = "32MiB"
poll_interval = { min = "2ms", max = "50ms" }
drain_timeout = "20s"

[topics]
allow = ["*"]

[pacing]
max_rows_per_second  = 0
max_bytes_per_second = 0
recovery_rows_per_second = 1000

[poison]
policy = "dead-letter"

[http]
listen = "127.0.0.1:9464"

[log]
level = "info"
format = "auto"
)",
                                {},
                                {},
                                Needs::postgres_and_kafka,
                                credentials.path()});
    CHECK(config.postgres().dsn == "host=/run/postgresql dbname=shop user=outbox_relay");
    REQUIRE(config.postgres().password_file.has_value());
    CHECK(config.postgres().password_file->path == credentials.path() + "/postgres-password");
    CHECK(config.postgres().password_file->origin == "credential:postgres-password");
    REQUIRE(config.kafka().properties.size() == 2);
    CHECK(config.kafka().properties[0].name == "bootstrap.servers");
    CHECK(config.kafka().properties[0].value == "k1:9093,k2:9093");
    REQUIRE(config.kafka().files.size() == 1);
    CHECK(config.kafka().files[0].name == "sasl.password");
    CHECK(config.kafka().files[0].file.path == credentials.path() + "/kafka-password");
    CHECK(config.relay().lease_ttl == std::chrono::seconds(3));
    CHECK(config.relay().in_flight_bytes == 32U << 20U);
    CHECK(config.relay().poll_min == std::chrono::milliseconds(2));
    CHECK(config.log().format == LogFormat::automatic);
    CHECK(config.pacing().recovery_rows_per_second == 1000);
    CHECK(config.poison().policy == PoisonPolicy::dead_letter);
}

TEST_CASE("values of every kind arrive") {
    const Config config = load({minimal_toml + R"([relay]
workers = 64
lease_ttl = "1h"
batch_rows = 500000
in_flight_rows = 1000000
)",
                                {},
                                {"relay.batch_rows=100000", "relay.in_flight_bytes=8GiB", "relay.drain_timeout=1m",
                                 "pacing.max_rows_per_second=500", "pacing.max_bytes_per_second=1MiB",
                                 "pacing.recovery_rows_per_second=0", "poison.policy=block-key", "log.level=error",
                                 "log.format=text", "http.listen=[::]:80", "relay.poll_interval={ min = \"5ms\" }"}});
    CHECK(config.relay().workers == 64);
    CHECK(config.relay().lease_ttl == std::chrono::hours(1));
    CHECK(config.relay().batch_rows == 100'000);
    CHECK(config.relay().in_flight_rows == 1'000'000);
    CHECK(config.relay().in_flight_bytes == std::uint64_t{8} << 30U);
    CHECK(config.relay().drain_timeout == std::chrono::minutes(1));
    CHECK(config.relay().poll_min == std::chrono::milliseconds(5));
    CHECK(config.relay().poll_max == std::chrono::milliseconds(50));
    CHECK(config.pacing().max_rows_per_second == 500);
    CHECK(config.pacing().max_bytes_per_second == 1U << 20U);
    CHECK(config.pacing().recovery_rows_per_second == 0);
    CHECK(config.poison().policy == PoisonPolicy::block_key);
    CHECK(config.http().listen == "[::]:80");
    CHECK(config.log().level == LogLevel::error);
    CHECK(config.log().format == LogFormat::text);
}

TEST_CASE("all problems are reported at once, each with its place") {
    const auto problems = problems_of({R"([postgres]
user = "x"
[kafka]
compresion.type = "lz4"
linger.ms = 1.5
[relay]
claim = "columns"
workers = 100
lease_ttl = 3
worker = 2
[topics]
allow = ["orders", "__internal"]
[retention]
policy = "dead-letter"
)",
                                       {{"OUTBOX_RELAY_LOG__LEVEL", "loud"}},
                                       {"http.listen=everywhere"}});
    const std::vector<std::string> expected{
        "relay.toml: postgres.dsn: missing, allowed: libpq's connection string, as in \"host=/run/postgresql "
        "dbname=shop "
        "user=outbox_relay\"",
        "relay.toml:4: kafka.compresion.type: unknown to the stand-in, did you mean \"compression.type\"?",
        "relay.toml:5: kafka.linger.ms: given a value of another type, allowed: a string, a whole number, true or "
        "false",
        "relay.toml: kafka.bootstrap.servers: missing, allowed: a list of brokers, as in \"k1:9092,k2:9092\"",
        "relay.toml:7: relay.claim: given \"columns\", allowed: \"lanes\", \"rows\"",
        "relay.toml:8: relay.workers: given 100, allowed: a whole number from 1 to 64",
        "relay.toml:9: relay.lease_ttl: given 3, allowed: a duration such as \"20ms\", \"3s\" or \"1m\", from 1s to 1h",
        "relay.toml:12: topics.allow: given \"__internal\", allowed: topic names or prefixes ending in *, of letters, "
        "digits, '.', '_' and '-', none beginning with __",
        "--set: http.listen: given \"everywhere\", allowed: HOST:PORT, as in \"127.0.0.1:9464\" or \"[::]:9464\", or "
        "\"\" to "
        "turn it off",
        "environment OUTBOX_RELAY_LOG__LEVEL: log.level: given \"loud\", allowed: \"debug\", \"info\", \"warn\", "
        "\"error\"",
        "relay.toml:2: postgres.user: unknown key, allowed in [postgres]: \"dsn\", \"password_file\"",
        "relay.toml:10: relay.worker: unknown key, did you mean \"workers\"?, allowed in [relay]: \"claim\", "
        "\"workers\", "
        "\"lease_ttl\", \"batch_rows\", \"in_flight_rows\", \"in_flight_bytes\", \"poll_interval\", \"drain_timeout\"",
        "relay.toml:14: retention.policy: unknown section [retention], allowed: \"http\", \"kafka\", "
        "\"kafka_files\", \"log\", \"pacing\", \"poison\", \"postgres\", \"relay\", \"topics\"",
    };
    CHECK(problems.size() == expected.size());
    for (std::size_t i = 0; i < std::min(problems.size(), expected.size()); ++i) CHECK(problems[i] == expected[i]);
}

TEST_CASE("an unknown key is refused even where a later source names it too") {
    CHECK(problems_of({minimal_toml + "[relay]\nworkerz = 1\n", {}, {"relay.workerz=2"}}).size() == 2);
}

TEST_CASE("something else than a section at the top of the file is refused") {
    CHECK(contains(problem_of({"workers = 3\n" + minimal_toml}), "relay.toml:1: workers: unknown key"));
    CHECK(contains(problem_of({"relay = 3\n" + minimal_toml}),
                   "relay.toml:1: relay: given 3, allowed: a section [relay]"));
}

TEST_CASE("values out of bounds or of the wrong type are refused") {
    for (const std::string option : {"workers = 0",
                                     "workers = 65",
                                     "workers = -1",
                                     "workers = 1.5",
                                     "workers = \"2\"",
                                     "workers = true",
                                     "workers = [1]",
                                     "workers = 99999999999999999999",
                                     "lease_ttl = \"999ms\"",
                                     "lease_ttl = \"61m\"",
                                     "lease_ttl = true",
                                     "batch_rows = 0",
                                     "batch_rows = 100001",
                                     "in_flight_rows = 1",
                                     "in_flight_rows = 1000001",
                                     "in_flight_bytes = \"1023KiB\"",
                                     "in_flight_bytes = \"9GiB\"",
                                     "in_flight_bytes = 33554432",
                                     "drain_timeout = \"0s\"",
                                     "drain_timeout = \"2h\"",
                                     "drain_timeout = 1979-05-27",
                                     "claim = 1",
                                     "claim = \"Lanes\"",
                                     "poll_interval = \"5ms\"",
                                     "poll_interval = { min = \"9ms\", max = \"5ms\" }",
                                     "poll_interval = { min = 2 }",
                                     "poll_interval = { min = \"100us\" }",
                                     "poll_interval = { max = \"61s\" }",
                                     "poll_interval = { low = \"2ms\" }",
                                     "poll_interval = { min = \"51ms\" }"}) {
        const std::string problem = problem_with("relay", option);
        CHECK_MESSAGE(contains(problem, "relay.toml:6: "), option);
        CHECK_MESSAGE(problem.find('\n') == std::string::npos, option);
    }
    for (const std::string option : {"max_rows_per_second = -1", "max_rows_per_second = \"1MiB\"",
                                     "recovery_rows_per_second = -1", "recovery_rows_per_second = 1000000001",
                                     "max_bytes_per_second = \"fast\"", "max_bytes_per_second = 1099511627777"}) {
        CHECK_MESSAGE(contains(problem_with("pacing", option), "0 turns it off"), option);
    }
    for (const std::string option :
         {"allow = []", "allow = \"*\"", "allow = [1]", "allow = [\"__x\"]", "allow = [\"a*b\"]"}) {
        CHECK_MESSAGE(contains(problem_with("topics", option), "topics.allow: given "), option);
    }
    CHECK(contains(problem_with("http", "listen = 9464"), "http.listen: given 9464, allowed: HOST:PORT"));
    CHECK(contains(problem_with("poison", "policy = \"block_key\""), "allowed: \"dead-letter\", \"block-key\""));
    CHECK(contains(problem_with("log", "format = \"xml\""), "allowed: \"auto\", \"text\", \"json\""));
}

TEST_CASE("the window must hold two batches") {
    const std::string problem = problem_with("relay", "batch_rows = 1000\nin_flight_rows = 1999");
    CHECK(problem ==
          "relay.toml:6: relay.batch_rows: given relay.batch_rows = 1000 and relay.in_flight_rows = 1999, allowed: "
          "in_flight_rows at least twice batch_rows");
    CHECK(contains(problem_with("relay", "in_flight_rows = 1999"), "relay.toml:6: relay.in_flight_rows: given "));
    CHECK(problem_with("relay", "batch_rows = 1000\nin_flight_rows = 2000").empty());
}

TEST_CASE("what a command does not use may be missing, but not wrong") {
    CHECK(problem_of({"[postgres]\ndsn = \"dbname=shop\"\n", {}, {}, Needs::postgres, {}}).empty());
    CHECK(problem_of({"", {}, {}, Needs::nothing, {}}).empty());
    CHECK(contains(problem_of({"", {}, {}, Needs::postgres, {}}), "postgres.dsn: missing"));
    CHECK(contains(problem_of({"", {}, {"kafka.lingerms=1"}, Needs::nothing, {}}), "did you mean \"linger.ms\"?"));
    CHECK(contains(problem_of({"[postgres]\ndsn = \"\"\n[kafka]\nbootstrap.servers = \"\"\n"}),
                   "kafka.bootstrap.servers: missing"));
}

TEST_CASE("a secret's file must be there, be a file and hold something") {
    const TemporaryFolder folder;
    const std::string empty = folder.add("empty", "");
    const std::string large = folder.add("large", std::string(65537, 'x'));
    for (const std::string& path : {folder.path() + "/absent", folder.path(), empty, large}) {
        const std::string problem = problem_of({minimal_toml, {}, {"postgres.password_file=" + path}});
        CHECK_MESSAGE(contains(problem, "--set: postgres.password_file: the file \"" + path + "\" cannot be used: "),
                      problem);
        CHECK(contains(problem_of({minimal_toml, {}, {"kafka_files.sasl.password=" + path}}),
                       "kafka_files.sasl.password"));
    }
    const std::string good = folder.add("good", "sesame");
    CHECK(problem_of({minimal_toml, {}, {"postgres.password_file=" + good, "kafka_files.sasl.password=" + good}})
              .empty());
    CHECK(contains(problem_of({minimal_toml, {}, {"postgres.password_file="}}), "given \"\", allowed: a path"));
}

TEST_CASE("a credential is a plain file name in the credentials directory") {
    const TemporaryFolder folder;
    folder.add("pg", "sesame");
    const auto with = [&](const std::string& value, std::optional<std::string> directory) {
        return problem_of(
            {minimal_toml, {}, {"postgres.password_file=" + value}, Needs::postgres_and_kafka, std::move(directory)});
    };
    CHECK(with("credential:pg", folder.path()).empty());
    CHECK(contains(with("credential:other", folder.path()), "cannot be used: "));
    CHECK(contains(with("credential:pg", std::nullopt), "CREDENTIALS_DIRECTORY is not set"));
    CHECK(contains(with("credential:pg", ""), "CREDENTIALS_DIRECTORY is not set"));
    for (const std::string name : {"", ".", "..", "../pg", "a/b"}) {
        CHECK_MESSAGE(contains(with("credential:" + name, folder.path()), "with a plain file name and no /"), name);
    }
}

TEST_CASE("a Kafka property is given in one place only") {
    const TemporaryFolder folder;
    const std::string file = folder.add("password", "sesame");
    CHECK(problem_of({minimal_toml + "sasl.password = \"x\"\n[kafka_files]\nsasl.password = \"" + file + "\"\n"}) ==
          "relay.toml:7: kafka_files.sasl.password: given in [kafka] as well (relay.toml:5), allowed: one of the two");
}

TEST_CASE("a Kafka property's value is judged, from a file without its line end") {
    const TemporaryFolder folder;
    CHECK(problem_of({minimal_toml + "linger.ms = \"refused-value\"\n"}) ==
          "relay.toml:5: kafka.linger.ms: Invalid value \"refused-value\"");
    const std::string file = folder.add("ca", "refused-value\n");
    CHECK(problem_of({minimal_toml, {}, {"kafka_files.ssl.ca.pem=" + file}}) ==
          "--set: kafka_files.ssl.ca.pem: librdkafka does not accept the value");
    CHECK(contains(problem_of({minimal_toml, {}, {"kafka_files.ssl.ca.pme=" + file}}), "did you mean \"ssl.ca.pem\"?"));
}

TEST_CASE("no message repeats a secret") {
    CHECK(problem_of({minimal_toml + "sasl.password = \"refused-value\"\n"}) ==
          "relay.toml:5: kafka.sasl.password: librdkafka does not accept the value");
    const auto silent = [](const Given& given) {
        const std::string problem = problem_of(given);
        CHECK_FALSE(problem.empty());
        CHECK_MESSAGE(!contains(problem, "sesame"), problem);
    };
    silent({minimal_toml + "sasl.pasword = \"sesame\"\n"});
    silent({minimal_toml + "sasl.password = [\"sesame\"]\n"});
    silent({minimal_toml + "sasl.password = \"sesame\\u0000\"\n"});
    silent({"[postgres]\ndsn = \"password=sesame\\u0000\"\n[kafka]\nbootstrap.servers = \"k\"\n"});
    silent({"[postgres]\ndsn = \"dbname=x\"\npassword = \"sesame\"\n[kafka]\nbootstrap.servers = \"k\"\n"});
    silent({"password = \"sesame\"\n" + minimal_toml});
    silent({"postgres = \"password=sesame\"\n[kafka]\nbootstrap.servers = \"k\"\n"});
    silent({"kafka = \"sesame\"\n[postgres]\ndsn = \"dbname=x\"\n"});
    silent({minimal_toml, {{"OUTBOX_RELAY_PASSWORD", "sesame"}}, {}});
}

TEST_CASE("secrets are refused on the command line, where other users of the machine can read them") {
    for (const std::string assignment : {"kafka.sasl.password=sesame", "postgres.dsn=dbname=shop password=sesame"}) {
        const std::string problem = problem_of({minimal_toml, {}, {assignment}});
        CHECK_MESSAGE(contains(problem, "given a secret on the command line"), problem);
        CHECK_FALSE(contains(problem, "sesame"));
    }
    CHECK(problem_of({minimal_toml, {}, {"postgres.dsn=dbname=other"}}).empty());
    CHECK(problem_of({minimal_toml, {{"OUTBOX_RELAY_KAFKA__SASL_PASSWORD", "sesame"}}, {}}).empty());
}

}  // namespace outbox
