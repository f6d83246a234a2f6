#include "config/rendering.hpp"

#include <doctest/doctest.h>

#include "config/loading.hpp"

namespace outbox {

namespace {

bool has_line(const std::string& text, const std::string& line) {
    return ("\n" + text).find("\n" + line + "\n") != std::string::npos;
}

}  // namespace

TEST_CASE("the configuration is written with its defaults") {
    const std::string text = render(load({minimal_toml}), Origins::left_out);
    for (const std::string line :
         {"[postgres]", "dsn = \"host=/run/postgresql dbname=shop\"", "bootstrap.servers = \"k1:9092\"",
          "claim = \"lanes\"", "workers = 1", "lease_ttl = \"3s\"", "batch_rows = 1000", "in_flight_rows = 20000",
          "in_flight_bytes = \"32MiB\"", "poll_interval = { min = \"1ms\", max = \"50ms\" }", "drain_timeout = \"20s\"",
          "allow = [\"*\"]", "max_rows_per_second = 0", "max_bytes_per_second = 0", "recovery_rows_per_second = 1000",
          "policy = \"dead-letter\"", "listen = \"127.0.0.1:9464\"", "level = \"info\"", "format = \"auto\""}) {
        CHECK_MESSAGE(has_line(text, line), line);
    }
}

TEST_CASE("what is written reads back as the same configuration") {
    const std::string odd = R"([postgres]
dsn = "host=db dbname='a \"b\"' user=ü"
[kafka]
bootstrap.servers = "k1:9092,k2:9092"
linger.ms = 5
compression.type = """two
lines # no comment"""
[relay]
lease_ttl = "90s"
in_flight_bytes = "1GiB"
poll_interval = { max = "75ms" }
[topics]
allow = ["orders", "a-*"]
[pacing]
max_bytes_per_second = "64MiB"
recovery_rows_per_second = 50
[poison]
policy = "block-key"
[http]
listen = ""
[log]
level = "debug"
format = "json"
)";
    for (const Origins origins : {Origins::left_out, Origins::as_comments}) {
        const std::string once = render(load({odd}), origins);
        const Config again = load({once});
        CHECK(again.postgres().dsn == "host=db dbname='a \"b\"' user=ü");
        CHECK(again.kafka().properties.at(1).value == "two\nlines # no comment");
        CHECK(again.pacing().max_bytes_per_second == 64U << 20U);
        CHECK(again.pacing().recovery_rows_per_second == 50);
        CHECK(again.poison().policy == PoisonPolicy::block_key);
        CHECK(render(again, Origins::left_out) == render(load({odd}), Origins::left_out));
    }
}

TEST_CASE("names that TOML would nest into each other are quoted") {
    RawOptions raw;
    read_toml_text(raw, minimal_toml + "\"max.in.flight\" = 5\n\"max.in.flight.requests.per.connection\" = 5\n",
                   "relay.toml");
    const std::string text = render(Config::from(raw, {}), Origins::left_out);
    CHECK(has_line(text, "\"max.in.flight\" = \"5\""));
    RawOptions again;
    read_toml_text(again, text, "again.toml");
    CHECK(again.problems.empty());
    CHECK(Config::from(again, {}).kafka().properties.size() == 3);
}

TEST_CASE("each value's origin can be shown") {
    const Config config = load({minimal_toml, {{"OUTBOX_RELAY_LOG__LEVEL", "warn"}}, {"relay.workers=2"}});
    const std::string text = render(config, Origins::as_comments);
    CHECK(has_line(text, "dsn = \"host=/run/postgresql dbname=shop\"  # relay.toml:2"));
    CHECK(has_line(text, "bootstrap.servers = \"k1:9092\"  # relay.toml:4"));
    CHECK(has_line(text, "workers = 2  # --set"));
    CHECK(has_line(text, "level = \"warn\"  # environment OUTBOX_RELAY_LOG__LEVEL"));
    CHECK(has_line(text, "format = \"auto\"  # default"));
}

TEST_CASE("secrets are left out, files named as they were given") {
    const Config config = load({R"([postgres]
dsn = "host=db user=u password=sesame"
password_file = "credential:pg"
[kafka]
bootstrap.servers = "k1:9092"
sasl.password = "sesame"
[kafka_files]
ssl.ca.pem = "/etc/ca.pem"
)",
                                {},
                                {},
                                Needs::nothing,
                                {}});
    const std::string text = render(config, Origins::as_comments);
    CHECK(text.find("sesame") == std::string::npos);
    CHECK(text.find("dsn = \"host=db user=u password=<redacted>\"") != std::string::npos);
    CHECK(text.find("sasl.password = \"<redacted>\"") != std::string::npos);
    CHECK(text.find("password_file = \"credential:pg\"") != std::string::npos);
    CHECK(text.find("[kafka_files]\nssl.ca.pem = \"/etc/ca.pem\"") != std::string::npos);
}

}  // namespace outbox
