#include "config/config.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <utility>

#include "config/reader.hpp"
#include "config/secrets.hpp"
#include "config/values.hpp"

namespace outbox {

namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;

constexpr std::uint64_t mebibyte = std::uint64_t{1} << 20U;
constexpr std::uint64_t rows_per_second_max = 1'000'000'000;
constexpr std::size_t secret_bytes_max = std::size_t{1} << 16U;
constexpr std::string_view credential_prefix = "credential:";
constexpr std::string_view allowed_file = "a path, or \"credential:NAME\" for $CREDENTIALS_DIRECTORY/NAME";

std::string summary(const std::vector<ConfigProblem>& problems) {
    std::string text = "the configuration is not valid";
    for (const ConfigProblem& problem : problems) text += "\n" + problem.origin + ": " + problem.text;
    return text;
}

bool is_file_name(std::string_view name) {
    return !name.empty() && name.size() <= 255 && name != "." && name != ".." &&
           name.find_first_of(std::string_view("/\0", 2)) == std::string_view::npos;
}

struct SecretContent {
    std::string text;
    std::string problem;  // empty when there is none
};

SecretContent read_secret(const std::string& path) {
    std::error_code error;
    const auto status = std::filesystem::status(path, error);
    if (error) return {"", error.message()};
    if (!std::filesystem::is_regular_file(status)) return {"", "not a regular file"};
    errno = 0;
    std::ifstream file(path, std::ios::binary);
    if (!file) return {"", std::generic_category().message(errno)};
    std::string text(secret_bytes_max + 1, '\0');
    file.read(text.data(), static_cast<std::streamsize>(text.size()));
    text.resize(static_cast<std::size_t>(file.gcount()));
    if (text.empty()) return {"", "it is empty"};
    if (text.size() > secret_bytes_max) return {"", "it is larger than 64 KiB"};
    return {text.substr(0, text.find_last_not_of("\r\n") + 1), ""};
}

}  // namespace

ConfigError::ConfigError(std::vector<ConfigProblem> all) : std::runtime_error(summary(all)), problems(std::move(all)) {}

class ConfigReader {
public:
    ConfigReader(const RawOptions& raw, const ConfigContext& context) : raw_(raw), context_(context), read_(raw) {}

    Config read() {
        read_postgres();
        read_kafka();
        read_relay();
        read_topics();
        read_pacing_and_poison();
        read_http_and_log();
        read_.refuse_unknown();
        if (!read_.problems().empty()) throw ConfigError(read_.problems());
        config_.origins_ = read_.origins();
        return std::move(config_);
    }

private:
    void read_postgres() {
        const RawOption* const dsn = read_.take("postgres.dsn");
        constexpr std::string_view allowed =
            "libpq's connection string, as in \"host=/run/postgresql dbname=shop user=outbox_relay\"";
        if (dsn == nullptr) {
            missing(context_.needs != Needs::nothing, "postgres.dsn", allowed);
        } else if (auto text = read_.plain_text(*dsn, allowed)) {
            if (text->empty()) read_.refuse(*dsn, allowed);
            if (has_secret(*text)) refuse_secret_argument(*dsn, "postgres.password_file");
            config_.postgres_.dsn = std::move(*text);
        }
        if (const RawOption* const file = read_.take("postgres.password_file")) {
            config_.postgres_.password_file = secret_file(*file);
            if (config_.postgres_.password_file && context_.needs != Needs::nothing) {
                static_cast<void>(content(*file, *config_.postgres_.password_file));
            }
        }
    }

    void read_kafka() {
        for (const RawOption* option : read_.take_section("kafka")) {
            const RawValue& value = option->value;
            const bool scalar =
                value.kind != RawKind::array && value.kind != RawKind::table && value.kind != RawKind::other;
            if (!scalar || value.text.find('\0') != std::string::npos) {
                read_.refuse(*option, "a string, a whole number, true or false");
                continue;
            }
            if (is_secret_kafka_property(option->key)) refuse_secret_argument(*option, "[kafka_files]");
            check_property(*option, value.text);
            config_.kafka_.properties.push_back({option->key, value.text});
        }
        for (const RawOption* option : read_.take_section("kafka_files")) read_kafka_file(*option);
        missing(context_.needs == Needs::postgres_and_kafka && !names_brokers(), "kafka.bootstrap.servers",
                "a list of brokers, as in \"k1:9092,k2:9092\"");
    }

    void read_kafka_file(const RawOption& option) {
        const auto same = [&option](const KafkaProperty& property) { return property.name == option.key; };
        const auto& properties = config_.kafka_.properties;
        if (std::any_of(properties.begin(), properties.end(), same)) {
            read_.problem(option, "given in [kafka] as well (" + read_.origin("kafka." + option.key) +
                                      "), allowed: one of the two");
        }
        const auto file = secret_file(option);
        if (!file) return;
        if (context_.needs == Needs::postgres_and_kafka) {
            if (const auto text = content(option, *file)) check_property(option, *text);
        }
        config_.kafka_.files.push_back({option.key, *file});
    }

    // librdkafka's mock cluster brings its own brokers.
    bool names_brokers() {
        constexpr std::array<std::string_view, 3> names{"bootstrap.servers", "metadata.broker.list",
                                                        "test.mock.num.brokers"};
        return std::any_of(names.begin(), names.end(), [this](std::string_view name) {
            const RawOption* const property = read_.take("kafka." + std::string(name));
            // One of the wrong type has been refused already.
            const bool given =
                property != nullptr && !(property->value.text.empty() && property->value.members.empty());
            return given || read_.take("kafka_files." + std::string(name)) != nullptr;
        });
    }

    void check_property(const RawOption& option, const std::string& value) {
        if (!context_.check_property) return;
        auto problem = context_.check_property(option.key, value);
        if (!problem) return;
        // Only a text that does not depend on the value is sure not to repeat it.
        const bool secret = option.section == "kafka_files" || is_secret_kafka_property(option.key);
        if (secret && context_.check_property(option.key, "") != problem)
            problem = "librdkafka does not accept the value";
        const auto& names = context_.property_names;
        if (!names.empty() && std::find(names.begin(), names.end(), option.key) == names.end()) {
            if (const auto near = nearest(option.key, names)) *problem += ", did you mean \"" + *near + "\"?";
        }
        read_.problem(option, *problem);
    }

    void read_relay() {
        RelaySettings& relay = config_.relay_;
        read_.choice<ClaimMode>("relay.claim", relay.claim, {{"lanes", ClaimMode::lanes}, {"rows", ClaimMode::rows}});
        read_.count("relay.workers", relay.workers, 1, 64);
        read_.duration("relay.lease_ttl", relay.lease_ttl, seconds(1), hours(1));
        const std::size_t problems_before = read_.problems().size();
        read_.count("relay.batch_rows", relay.batch_rows, 1, 100'000);
        read_.count("relay.in_flight_rows", relay.in_flight_rows, 2, 1'000'000);
        const bool counts_hold = read_.problems().size() == problems_before;
        read_.size("relay.in_flight_bytes", relay.in_flight_bytes, mebibyte, mebibyte * 1024 * 8);
        read_.duration_range("relay.poll_interval", relay.poll_min, relay.poll_max, milliseconds(1), minutes(1));
        read_.duration("relay.drain_timeout", relay.drain_timeout, seconds(1), hours(1));
        if (counts_hold && relay.batch_rows > relay.in_flight_rows / 2) {
            const bool batch_given = read_.take("relay.batch_rows") != nullptr;
            const std::string_view name = batch_given ? "relay.batch_rows" : "relay.in_flight_rows";
            read_.problem(read_.origin(name),
                          std::string(name) + ": given relay.batch_rows = " + std::to_string(relay.batch_rows) +
                              " and relay.in_flight_rows = " + std::to_string(relay.in_flight_rows) +
                              ", allowed: in_flight_rows at least twice batch_rows");
        }
    }

    void read_topics() {
        constexpr std::string_view allowed =
            "topic names or prefixes ending in *, of letters, digits, '.', '_' and '-', none beginning with __";
        TopicSettings& topics = config_.topics_;
        read_.texts("topics.allow", topics.allow, allowed);
        const RawOption* const option = read_.take("topics.allow");
        if (option == nullptr) return;
        if (topics.allow.empty()) read_.refuse_part(*option, "an empty list", R"(at least one, as in ["*"])");
        if (topics.allow.size() > 10'000) read_.refuse_part(*option, "more than 10000 of them", "fewer, with prefixes");
        for (const std::string& pattern : topics.allow) {
            if (!is_topic_pattern(pattern)) read_.refuse_part(*option, printable(pattern), allowed);
        }
    }

    void read_pacing_and_poison() {
        PacingSettings& pacing = config_.pacing_;
        read_.rate("pacing.max_rows_per_second", pacing.max_rows_per_second, rows_per_second_max, false);
        read_.rate("pacing.max_bytes_per_second", pacing.max_bytes_per_second, mebibyte * 1024 * 1024, true);
        read_.rate("pacing.recovery_rows_per_second", pacing.recovery_rows_per_second, rows_per_second_max, false);
        read_.choice<PoisonPolicy>(
            "poison.policy", config_.poison_.policy,
            {{"dead-letter", PoisonPolicy::dead_letter}, {"block-key", PoisonPolicy::block_key}});
        if (config_.relay_.claim == ClaimMode::rows && config_.poison_.policy == PoisonPolicy::block_key)
            read_.problem(read_.origin("poison.policy"),
                          "poison.policy: given \"block-key\" with relay.claim = \"rows\", which keeps no order that a "
                          "blocked key could save, allowed: \"dead-letter\", or relay.claim = \"lanes\"");
    }

    void read_http_and_log() {
        constexpr std::string_view allowed =
            R"(HOST:PORT, as in "127.0.0.1:9464" or "[::]:9464", or "" to turn it off)";
        read_.text("http.listen", config_.http_.listen, allowed);
        if (const RawOption* const option = read_.take("http.listen")) {
            const std::string& listen = config_.http_.listen;
            if (!listen.empty() && !is_listen_address(listen)) read_.refuse(*option, allowed);
        }
        read_.choice<LogLevel>("log.level", config_.log_.level,
                               {{"debug", LogLevel::debug},
                                {"info", LogLevel::info},
                                {"warn", LogLevel::warn},
                                {"error", LogLevel::error}});
        read_.choice<LogFormat>("log.format", config_.log_.format,
                                {{"auto", LogFormat::automatic}, {"text", LogFormat::text}, {"json", LogFormat::json}});
    }

    void missing(bool is_missing, std::string_view name, std::string_view allowed) {
        if (!is_missing || !raw_.complete) return;
        read_.problem(raw_.origin, std::string(name) + ": missing, allowed: " + std::string(allowed));
    }

    // Every user of the machine may read another process's arguments.
    void refuse_secret_argument(const RawOption& option, std::string_view instead) {
        if (option.source != RawSource::command_line) return;
        read_.problem(option, "given a secret on the command line, which others can see, allowed: " +
                                  std::string(instead) + ", the environment or the configuration file");
    }

    std::optional<SecretFile> secret_file(const RawOption& option) {
        const auto text = read_.plain_text(option, allowed_file);
        if (!text) return std::nullopt;
        if (text->empty()) {
            read_.refuse(option, allowed_file);
            return std::nullopt;
        }
        if (!text->starts_with(credential_prefix)) return SecretFile{*text, *text};
        const std::string name = text->substr(credential_prefix.size());
        if (!is_file_name(name)) {
            read_.refuse_part(option, printable(*text), "credential:NAME, with a plain file name and no /");
            return std::nullopt;
        }
        const auto& directory = context_.credentials_directory;
        if (directory && !directory->empty()) return SecretFile{*directory + "/" + name, *text};
        const bool needed = option.section == "postgres" ? context_.needs != Needs::nothing
                                                         : context_.needs == Needs::postgres_and_kafka;
        if (needed) {
            read_.problem(option, "given " + printable(*text) +
                                      ", but CREDENTIALS_DIRECTORY is not set, allowed: a path outside "
                                      "a systemd service with LoadCredential");
            return std::nullopt;
        }
        return SecretFile{"", *text};
    }

    std::optional<std::string> content(const RawOption& option, const SecretFile& file) {
        auto [text, problem] = read_secret(file.path);
        if (problem.empty()) return std::move(text);
        read_.problem(option, "the file " + printable(file.path) + " cannot be used: " + problem +
                                  ", allowed: " + std::string(allowed_file));
        return std::nullopt;
    }

    const RawOptions& raw_;
    const ConfigContext& context_;
    OptionReader read_;
    Config config_;
};

Config Config::from(const RawOptions& raw, const ConfigContext& context) {
    return ConfigReader(raw, context).read();
}

std::string Config::origin_of(const std::string& option) const {
    const auto found = origins_.find(option);
    return found == origins_.end() ? "default" : found->second;
}

}  // namespace outbox
