// The configuration as it comes from outside: a TOML file, then a line "=== set" and one --set per line, then a line
// "=== env" and one NAME=value per line.
//
// Holds: Config or problems, each of them named and fit for one line; no secret in a problem or in what is rendered;
// a credential stays in its directory; what is rendered says the same when it is read again.
#include <optional>
#include <string>
#include <vector>

#include "config/config.hpp"
#include "config/loading.hpp"
#include "config/rendering.hpp"
#include "config/secrets.hpp"
#include "fuzz/fuzzing.hpp"

namespace outbox::fuzzing {
namespace {

constexpr std::string_view canary = "canary";
constexpr std::string_view credentials = "/run/credentials";

RawOptions raw_of(Input input) {
    RawOptions raw;
    const std::string_view file = input.until("\n=== set\n");
    read_toml_text(raw, file, "relay.toml");
    const std::string_view settings = input.until("\n=== env\n");
    Environment environment;
    while (!input.empty()) {
        const std::string_view line = input.until("\n");
        const std::size_t equals = line.find('=');
        if (equals == std::string_view::npos) continue;
        environment.emplace(line.substr(0, equals), line.substr(equals + 1));
    }
    read_environment(raw, environment);
    Input lines(reinterpret_cast<const std::uint8_t*>(settings.data()), settings.size());
    while (!lines.empty()) read_assignment(raw, lines.until("\n"));
    return raw;
}

bool mentions_canary(const RawValue& value) {
    if (value.text.find(canary) != std::string::npos) return true;
    return std::any_of(value.members.begin(), value.members.end(), [](const RawMember& member) {
        return member.key.find(canary) != std::string::npos || mentions_canary(member.value);
    });
}

// Whether the canary is in a secret, and nowhere else.
bool canary_is_secret(const RawOptions& raw) {
    bool secret = false;
    for (const ConfigProblem& problem : raw.problems)
        if ((problem.origin + problem.text).find(canary) != std::string::npos) return false;
    for (const RawOption& option : raw.options) {
        const bool is_secret = option.section == "kafka" && is_secret_kafka_property(option.key);
        if (is_secret)
            secret = secret || mentions_canary(option.value);
        else if (mentions_canary(option.value))
            return false;
        if ((option.section + option.key + option.origin).find(canary) != std::string::npos) return false;
    }
    return secret;
}

// No fuzzer's path is opened: contents are not looked at where the caller needs nothing.
ConfigContext context_for(const RawOptions& raw) {
    ConfigContext context = stand_in_context();
    const bool files = std::any_of(raw.options.begin(), raw.options.end(), [](const RawOption& option) {
        return option.section == "kafka_files" || option.key == "password_file";
    });
    context.needs = files ? Needs::nothing : Needs::postgres_and_kafka;
    context.credentials_directory = std::string(credentials);
    context.check_property = [](const std::string& name, const std::string& value) -> std::optional<std::string> {
        // As with librdkafka, no name that exists has anything else in it.
        const bool plain = name.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789._-") == std::string::npos;
        if (!plain || name.starts_with('x')) return "unknown to the stand-in";
        if (value == "refused-value") return "Invalid value \"" + value + "\"";
        return std::nullopt;
    };
    return context;
}

void check_problems(const ConfigError& error, bool secret) {
    require(!error.problems.empty(), "what is refused has a problem");
    for (const ConfigProblem& problem : error.problems) {
        require(!problem.origin.empty() && !problem.text.empty(), "a problem says where and what");
        require(problem.text.size() < 4096, "a problem's text is bounded", problem.text);
        require(is_plain_line(problem.text), "a problem's text is one line", problem.text);
        require(is_plain_line(problem.origin), "a problem's origin is one line", problem.origin);
        require(!secret || problem.text.find(canary) == std::string::npos, "no secret in a problem", problem.text);
    }
}

void check_file(const SecretFile& file) {
    constexpr std::string_view prefix = "credential:";
    if (!file.origin.starts_with(prefix)) return require(file.path == file.origin, "a path is taken as it is");
    const std::string name = file.origin.substr(prefix.size());
    require(file.path == std::string(credentials) + "/" + name, "a credential is in its directory", file.path);
    require(name.find('/') == std::string::npos && name != ".." && name != "." && !name.empty(),
            "a credential's name is a file's", name);
}

// A file has to be, or it is not TOML; a variable and an argument may be any bytes, and those are not written back.
bool all_is_ascii(const RawOptions& raw) {
    return std::none_of(raw.options.begin(), raw.options.end(), [](const RawOption& option) {
        return std::any_of(option.value.text.begin(), option.value.text.end(), [](char c) { return c < 0; });
    });
}

void check_config(const Config& config, const ConfigContext& context, bool secret) {
    for (const auto& [name, file] : config.kafka().files) check_file(file);
    if (config.postgres().password_file) check_file(*config.postgres().password_file);
    require(config.relay().in_flight_rows >= 2 * config.relay().batch_rows, "the window holds two batches");

    const std::string text = render(config, Origins::left_out);
    require(!secret || text.find(canary) == std::string::npos, "no secret is rendered", text);
    RawOptions again;
    read_toml_text(again, text, "rendered.toml");
    try {
        const std::string second = render(Config::from(again, context), Origins::left_out);
        require(second == text, "what is rendered renders the same", text + "\n--- then\n" + second);
    } catch (const ConfigError& error) {
        require(false, "what is rendered is valid", text + error.what());
    }
    RawOptions commented;
    read_toml_text(commented, render(config, Origins::as_comments), "rendered.toml");
    require(commented.problems.empty() && commented.options.size() == again.options.size(),
            "origins are only comments");
}

}  // namespace
}  // namespace outbox::fuzzing

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace outbox;
    using namespace outbox::fuzzing;
    const RawOptions raw = raw_of(Input(data, size));
    const bool secret = canary_is_secret(raw);
    const ConfigContext context = context_for(raw);
    std::optional<Config> config;
    try {
        config = Config::from(raw, context);
    } catch (const ConfigError& error) {
        check_problems(error, secret);
    }
    if (config && all_is_ascii(raw)) check_config(*config, context, secret);
    return 0;
}
