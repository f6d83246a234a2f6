#include "config/rendering.hpp"

#include <toml++/toml.h>

#include <algorithm>
#include <sstream>
#include <utility>
#include <vector>

#include "config/secrets.hpp"
#include "config/values.hpp"

namespace outbox {

namespace {

std::string toml_text(const std::string& text) {
    // No literal and no multi-line strings: one line each, so that a comment may follow.
    std::ostringstream out;
    out << toml::toml_formatter(toml::value<std::string>(text), toml::format_flags::none);
    return out.str();
}

std::string toml_texts(const std::vector<std::string>& texts) {
    std::string result = "[";
    for (const std::string& text : texts) result += (result.size() > 1 ? ", " : "") + toml_text(text);
    return result + "]";
}

std::string_view name_of(LogLevel level) {
    switch (level) {
        case LogLevel::debug:
            return "debug";
        case LogLevel::info:
            return "info";
        case LogLevel::warn:
            return "warn";
        case LogLevel::error:
            return "error";
    }
    return "info";
}

std::string_view name_of(LogFormat format) {
    switch (format) {
        case LogFormat::automatic:
            return "auto";
        case LogFormat::text:
            return "text";
        case LogFormat::json:
            return "json";
    }
    return "auto";
}

std::string_view name_of(PoisonPolicy policy) {
    switch (policy) {
        case PoisonPolicy::dead_letter:
            return "dead-letter";
        case PoisonPolicy::block_key:
            return "block-key";
    }
    return "dead-letter";
}

class Renderer {
public:
    Renderer(const Config& config, Origins origins) : config_(config), origins_(origins) {}

    std::string render() {
        render_postgres();
        render_kafka();
        render_relay();
        begin("topics");
        add("allow", toml_texts(config_.topics().allow));
        begin("pacing");
        add("max_rows_per_second", std::to_string(config_.pacing().max_rows_per_second));
        add("max_bytes_per_second", std::to_string(config_.pacing().max_bytes_per_second));
        add("recovery_rows_per_second", std::to_string(config_.pacing().recovery_rows_per_second));
        begin("poison");
        add("policy", toml_text(std::string(name_of(config_.poison().policy))));
        begin("http");
        add("listen", toml_text(config_.http().listen));
        begin("log");
        add("level", toml_text(std::string(name_of(config_.log().level))));
        add("format", toml_text(std::string(name_of(config_.log().format))));
        return std::move(result_);
    }

private:
    void render_postgres() {
        const PostgresSettings& postgres = config_.postgres();
        begin("postgres");
        if (!postgres.dsn.empty()) add("dsn", toml_text(redact_dsn(postgres.dsn)));
        if (postgres.password_file) add("password_file", toml_text(postgres.password_file->origin));
    }

    void render_kafka() {
        const KafkaSettings& kafka = config_.kafka();
        begin("kafka");
        for (const auto& [name, value] : kafka.properties) {
            add(name, toml_text(is_secret_kafka_property(name) ? std::string(redacted) : value));
        }
        if (kafka.files.empty()) return;
        begin("kafka_files");
        for (const auto& [name, file] : kafka.files) add(name, toml_text(file.origin));
    }

    void render_relay() {
        const RelaySettings& relay = config_.relay();
        begin("relay");
        add("claim", toml_text(relay.claim == ClaimMode::rows ? "rows" : "lanes"));
        add("workers", std::to_string(relay.workers));
        add("lease_ttl", toml_text(duration_text(relay.lease_ttl)));
        add("batch_rows", std::to_string(relay.batch_rows));
        add("in_flight_rows", std::to_string(relay.in_flight_rows));
        add("in_flight_bytes", toml_text(size_text(relay.in_flight_bytes)));
        add("poll_interval", "{ min = " + toml_text(duration_text(relay.poll_min)) +
                                 ", max = " + toml_text(duration_text(relay.poll_max)) + " }");
        add("drain_timeout", toml_text(duration_text(relay.drain_timeout)));
    }

    void begin(const std::string& section) {
        section_ = section;
        result_ += (result_.empty() ? "[" : "\n[") + section + "]\n";
    }

    void add(const std::string& key, const std::string& value) {
        result_ += key_text(key) + " = " + value;
        // A path may hold anything, also what would end the comment.
        if (origins_ == Origins::as_comments) result_ += "  # " + one_line(config_.origin_of(section_ + "." + key));
        result_ += '\n';
    }

    // Bare, as librdkafka's names are written in the manual; quoted where TOML would take a.b and a.b.c for a conflict.
    std::string key_text(const std::string& key) const {
        const bool odd = key.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-") !=
                             std::string::npos ||
                         key.empty() || key.front() == '.' || key.back() == '.' || key.find("..") != std::string::npos;
        const auto conflicts = [&key](const std::string& other) {
            return other.starts_with(key + ".") || key.starts_with(other + ".");
        };
        const auto& properties = config_.kafka().properties;
        const auto& files = config_.kafka().files;
        const bool conflict =
            std::any_of(properties.begin(), properties.end(),
                        [&](const auto& other) { return conflicts(other.name); }) ||
            std::any_of(files.begin(), files.end(), [&](const auto& other) { return conflicts(other.name); });
        return odd || conflict ? toml_text(key) : key;
    }

    static std::string one_line(std::string text) {
        for (char& letter : text) {
            if (static_cast<unsigned char>(letter) < 0x20 || letter == 0x7f) letter = '?';
        }
        return text;
    }

    const Config& config_;
    Origins origins_;
    std::string section_;
    std::string result_;
};

}  // namespace

std::string render(const Config& config, Origins origins) {
    return Renderer(config, origins).render();
}

}  // namespace outbox
