// The daemon's configuration, typed and valid: only Config::from makes one, and it reports every problem at once.
// Immutable afterwards; any thread.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "config/sources.hpp"
#include "core/settings.hpp"
#include "kafka/settings.hpp"
#include "postgres/settings.hpp"
#include "telemetry/settings.hpp"

namespace outbox {

class ConfigError : public std::runtime_error {
public:
    explicit ConfigError(std::vector<ConfigProblem> all);
    std::vector<ConfigProblem> problems;
};

// What the caller is about to use: what is not needed may be absent, what is given must be right in any case.
enum class Needs { postgres_and_kafka, postgres, nothing };

// What validation asks of the world, handed in so that it can be tested and so that config/ knows no librdkafka.
struct ConfigContext {
    // Why this librdkafka property may not be set so; nothing when it may.
    using PropertyCheck = std::function<std::optional<std::string>(const std::string& name, const std::string& value)>;

    Needs needs = Needs::postgres_and_kafka;
    std::optional<std::string> credentials_directory;  // $CREDENTIALS_DIRECTORY
    PropertyCheck check_property;                      // empty: any property will do
    std::vector<std::string> property_names;           // for "did you mean"
};

class Config {
public:
    // Throws ConfigError with all problems.
    static Config from(const RawOptions& raw, const ConfigContext& context);

    const PostgresSettings& postgres() const { return postgres_; }
    const KafkaSettings& kafka() const { return kafka_; }
    const RelaySettings& relay() const { return relay_; }
    const TopicSettings& topics() const { return topics_; }
    const PacingSettings& pacing() const { return pacing_; }
    const PoisonSettings& poison() const { return poison_; }
    const HttpSettings& http() const { return http_; }
    const LogSettings& log() const { return log_; }

    // Where a "section.key" was set; "default" when nowhere.
    std::string origin_of(const std::string& option) const;

private:
    Config() = default;
    friend class ConfigReader;  // config.cpp

    PostgresSettings postgres_;
    KafkaSettings kafka_;
    RelaySettings relay_;
    TopicSettings topics_;
    PacingSettings pacing_;
    PoisonSettings poison_;
    HttpSettings http_;
    LogSettings log_;
    std::map<std::string, std::string> origins_;
};

}  // namespace outbox
