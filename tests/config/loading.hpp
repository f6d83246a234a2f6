// What the tests of the configuration share: text in, Config or its problems out. No librdkafka: properties are
// checked by a stand-in that knows a few names.
#pragma once

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "config/config.hpp"

namespace outbox {

// The least that is complete.
inline const std::string minimal_toml = R"([postgres]
dsn = "host=/run/postgresql dbname=shop"
[kafka]
bootstrap.servers = "k1:9092"
)";

struct Given {
    std::string toml;
    Environment environment = {};
    std::vector<std::string> assignments = {};
    Needs needs = Needs::postgres_and_kafka;
    std::optional<std::string> credentials_directory = std::nullopt;
};

inline ConfigContext stand_in_context() {
    ConfigContext context;
    context.property_names = {"bootstrap.servers", "compression.type", "linger.ms", "sasl.password", "ssl.ca.pem"};
    context.check_property = [names = context.property_names](const std::string& name,
                                                              const std::string& value) -> std::optional<std::string> {
        if (std::find(names.begin(), names.end(), name) == names.end()) return "unknown to the stand-in";
        if (value == "refused-value") return "Invalid value \"" + value + "\"";
        return std::nullopt;
    };
    return context;
}

inline Config load(const Given& given) {
    RawOptions raw;
    read_toml_text(raw, given.toml, "relay.toml");
    read_environment(raw, given.environment);
    for (const std::string& assignment : given.assignments) read_assignment(raw, assignment);
    ConfigContext context = stand_in_context();
    context.needs = given.needs;
    context.credentials_directory = given.credentials_directory;
    return Config::from(raw, context);
}

// Each as "origin: text"; empty when there is none.
inline std::vector<std::string> problems_of(const Given& given) {
    try {
        static_cast<void>(load(given));
    } catch (const ConfigError& error) {
        std::vector<std::string> lines;
        for (const ConfigProblem& problem : error.problems) lines.push_back(problem.origin + ": " + problem.text);
        return lines;
    }
    return {};
}

// The one problem, or all of them where there is not exactly one.
inline std::string problem_of(const Given& given) {
    std::string text;
    for (const std::string& line : problems_of(given)) text += (text.empty() ? "" : "\n") + line;
    return text;
}

}  // namespace outbox
