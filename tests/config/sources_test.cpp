#include "config/sources.hpp"

#include <doctest/doctest.h>

#include "config/loading.hpp"

namespace outbox {

TEST_CASE("--set wins over the environment, the environment over the file, the file over the default") {
    Given given{minimal_toml + "[relay]\nworkers = 2\n", {}, {}};
    CHECK(load({minimal_toml}).relay().workers == 1);
    CHECK(load(given).relay().workers == 2);
    CHECK(load(given).origin_of("relay.workers") == "relay.toml:6");
    given.environment["OUTBOX_RELAY_RELAY__WORKERS"] = "3";
    CHECK(load(given).relay().workers == 3);
    CHECK(load(given).origin_of("relay.workers") == "environment OUTBOX_RELAY_RELAY__WORKERS");
    given.assignments = {"relay.workers=4", "relay.workers=5"};
    CHECK(load(given).relay().workers == 5);
    CHECK(load(given).origin_of("relay.workers") == "--set");
    CHECK(load(given).origin_of("relay.lease_ttl") == "default");
}

TEST_CASE("the environment and --set alone make a configuration") {
    const Config config = load({"",
                                {{"OUTBOX_RELAY_POSTGRES__DSN", "dbname=shop password=x"},
                                 {"OUTBOX_RELAY_KAFKA__BOOTSTRAP_SERVERS", "k1:9092"},
                                 {"OUTBOX_RELAY_TOPICS__ALLOW", "orders, payments.*"},
                                 {"OUTBOX_RELAY_HTTP__LISTEN", ""}},
                                {"kafka.linger.ms=5", R"(relay.poll_interval={ min = "1ms", max = "9ms" })"}});
    CHECK(config.postgres().dsn == "dbname=shop password=x");
    REQUIRE(config.kafka().properties.size() == 2);
    CHECK(config.kafka().properties[0].name == "bootstrap.servers");
    CHECK(config.kafka().properties[1].name == "linger.ms");
    CHECK(config.kafka().properties[1].value == "5");
    CHECK(config.topics().allow == std::vector<std::string>{"orders", "payments.*"});
    CHECK(config.http().listen.empty());
    CHECK(config.relay().poll_max == std::chrono::milliseconds(9));
}

TEST_CASE("a list may be given to --set as TOML too") {
    CHECK(load({minimal_toml, {}, {R"(topics.allow=["a", "b*"])"}}).topics().allow ==
          std::vector<std::string>{"a", "b*"});
}

TEST_CASE("dotted, quoted and nested names in [kafka] are one name each, of any scalar type") {
    const Config config = load({R"([postgres]
dsn = "dbname=shop"
[kafka]
bootstrap.servers = "k1:9092"
"linger.ms" = 5
[kafka.compression]
type = "lz4"
)"});
    REQUIRE(config.kafka().properties.size() == 3);
    CHECK(config.kafka().properties[1].name == "compression.type");
    CHECK(config.kafka().properties[2].value == "5");
    CHECK(config.origin_of("kafka.compression.type") == "relay.toml:7");
}

TEST_CASE("a Kafka property written in two ways is refused") {
    CHECK(problem_of({minimal_toml + "\"bootstrap.servers\" = \"k2:9092\"\n"})
              .find("given \"bootstrap.servers\" twice") != std::string::npos);
}

TEST_CASE("a variable that names no option is refused by name") {
    for (const std::string name :
         {"OUTBOX_RELAY_WORKERS", "OUTBOX_RELAY_RELAY__", "OUTBOX_RELAY___WORKERS", "OUTBOX_RELAY_relay__workers"}) {
        const std::string problem = problem_of({minimal_toml, {{name, "7"}}, {}});
        CHECK(problem == "environment " + name + ": " + name +
                             ": names no option, allowed: OUTBOX_RELAY_<SECTION>__<KEY> in capitals");
    }
}

TEST_CASE("variables of Kubernetes about a service called outbox-relay are left alone, other programs' as well") {
    CHECK(problem_of({minimal_toml,
                      {{"OUTBOX_RELAY_SERVICE_HOST", "10.0.0.1"},
                       {"OUTBOX_RELAY_SERVICE_PORT", "9464"},
                       {"OUTBOX_RELAY_SERVICE_PORT_METRICS", "9464"},
                       {"OUTBOX_RELAY_PORT", "tcp://10.0.0.1:9464"},
                       {"OUTBOX_RELAY_PORT_9464_TCP", "tcp://10.0.0.1:9464"},
                       {"OUTBOX_RELAY_METRICS_PORT_9464_TCP_ADDR", "10.0.0.1"},
                       {"OUTBOX_RELAYED", "x"},
                       {"PATH", "/bin"}},
                      {}}) == "");
    CHECK(problem_of({minimal_toml, {{"OUTBOX_RELAY_PORT", "9464"}}, {}}) != "");
}

TEST_CASE("--set without section, key or = is refused, and what may be a secret is not repeated") {
    for (const std::string text : {"workers=1", "relay.=1", ".workers=1", "relay.workers"}) {
        const std::string shown = text.substr(0, text.find('='));
        CHECK(problem_of({minimal_toml, {}, {text}}) == "--set: given \"" + shown + "\", allowed: section.key=value");
    }
}

TEST_CASE("broken TOML is one problem with its line, and what could not be read does not count as missing") {
    const auto problems = problems_of({"[postgres]\ndsn = \n", {}, {"relay.workers=0"}});
    REQUIRE(problems.size() == 2);
    CHECK(problems[0].find("relay.toml:2: not valid TOML: ") == 0);
    CHECK(problems[1].find("--set: relay.workers: given \"0\"") == 0);
}

TEST_CASE("broken TOML does not repeat an unquoted secret") {
    const std::string problem = problem_of({"[kafka]\nsasl.password = hunter2sesame\n"});
    CHECK(problem.find("relay.toml:2: not valid TOML") == 0);
    CHECK(problem.find("hunter2sesame") == std::string::npos);
}

TEST_CASE("no name from outside starts a line of its own or steers a terminal") {
    for (const Given& given : {Given{minimal_toml + "[\"re\\u001blay\"]\nworkers = 1\n"},
                               Given{minimal_toml + "[relay]\n\"wor\\u001bkers\" = 1\n"},
                               Given{minimal_toml, {{"OUTBOX_RELAY_LOG\n\x1b[2J", "debug"}}},
                               Given{minimal_toml + "[relay]\nworkers = t\x1b\n"}}) {
        const auto problems = problems_of(given);
        REQUIRE(problems.size() == 1);
        CHECK_MESSAGE(problems[0].find_first_of("\n\x1b") == std::string::npos, problems[0]);
        CHECK_MESSAGE(problems[0].find('?') != std::string::npos, problems[0]);
    }
}

TEST_CASE("a configuration file that is not there or no file is a problem") {
    RawOptions raw;
    read_toml_file(raw, "/nonexistent/relay.toml");
    read_toml_file(raw, "/");
    REQUIRE(raw.problems.size() == 2);
    CHECK(raw.problems[0].origin == "/nonexistent/relay.toml");
    CHECK(raw.problems[0].text.find("cannot be read") != std::string::npos);
    CHECK(raw.problems[1].text.find("directory") != std::string::npos);
    CHECK_FALSE(raw.complete);
}

TEST_CASE("text is taken for an array or a table only where it is exactly one") {
    CHECK(structured("[1, 2]").kind == RawKind::array);
    CHECK(structured("{ a = 1 }").kind == RawKind::table);
    for (const std::string text : {"[1", "1", "[1]\nother = 2", ""}) {
        CHECK(structured(text).kind == RawKind::untyped);
    }
}

}  // namespace outbox
