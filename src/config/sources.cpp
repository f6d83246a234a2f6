#include "config/sources.hpp"

#include <toml++/toml.h>

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <fstream>
#include <set>
#include <system_error>
#include <utility>

#include "config/values.hpp"

namespace outbox {

namespace {

constexpr std::uintmax_t file_bytes_max = 1U << 20U;
constexpr std::string_view environment_prefix = "OUTBOX_RELAY_";

bool holds_kafka_names(std::string_view section) {
    return section == "kafka" || section == "kafka_files";
}

RawValue raw_value(const toml::node& node) {
    RawValue value;
    if (const auto* text = node.as_string()) {
        value = {RawKind::string, text->get(), {}};
    } else if (const auto* integer = node.as_integer()) {
        value = {RawKind::integer, std::to_string(integer->get()), {}};
    } else if (const auto* boolean = node.as_boolean()) {
        value = {RawKind::boolean, boolean->get() ? "true" : "false", {}};
    } else if (const auto* array = node.as_array()) {
        value.kind = RawKind::array;
        for (const toml::node& element : *array) value.members.push_back({"", raw_value(element)});
    } else if (const auto* table = node.as_table()) {
        value.kind = RawKind::table;
        for (const auto& [key, element] : *table) value.members.push_back({std::string(key.str()), raw_value(element)});
    } else {
        value.kind = RawKind::other;
    }
    return value;
}

class TomlReader {
public:
    TomlReader(RawOptions& raw, std::string name) : raw_(raw), name_(std::move(name)) {}

    void read(const toml::table& document) {
        for (const auto& [section, node] : document) {
            const std::string section_name(section.str());
            if (const auto* table = node.as_table()) {
                read_section(section_name, *table);
            } else {
                add(section_name, "", node, section);
            }
        }
        // toml++ sorts by name; people read from top to bottom.
        std::stable_sort(found_.begin(), found_.end(), [](const Found& a, const Found& b) { return a.line < b.line; });
        for (Found& found : found_) raw_.options.push_back(std::move(found.option));
    }

private:
    struct Found {
        std::uint32_t line;
        RawOption option;
    };

    void read_section(const std::string& section, const toml::table& table) {
        if (holds_kafka_names(section)) {
            flatten(section, "", table);
            return;
        }
        for (const auto& [key, node] : table) add(section, std::string(key.str()), node, key);
    }

    // TOML reads a.b.c = 1 as tables within tables; for librdkafka it is one name.
    void flatten(const std::string& section, const std::string& prefix, const toml::table& table) {
        for (const auto& [key, node] : table) {
            const std::string name = std::string(prefix).append(key.str());
            if (const auto* inner = node.as_table()) {
                flatten(section, std::string(name).append("."), *inner);
            } else if (!kafka_names_.emplace(section, name).second) {
                raw_.problems.push_back({origin(key), "[" + section + "]: given " + printable(name) + " twice"});
            } else {
                add(section, name, node, key);
            }
        }
    }

    void add(const std::string& section, std::string key, const toml::node& node, const toml::key& written) {
        found_.push_back({written.source().begin.line,
                          {section, std::move(key), raw_value(node), RawSource::file, origin(written)}});
    }

    std::string origin(const toml::key& key) const { return name_ + ":" + std::to_string(key.source().begin.line); }

    RawOptions& raw_;
    std::string name_;
    std::set<std::pair<std::string, std::string>> kafka_names_;
    std::vector<Found> found_;
};

// Kubernetes gives every container variables about the services around it, and a service may well be called
// outbox-relay: OUTBOX_RELAY_SERVICE_HOST, OUTBOX_RELAY_PORT=tcp://…, OUTBOX_RELAY_METRICS_PORT_9464_TCP_ADDR.
bool is_service_link(std::string_view name, std::string_view value) {
    if (name.find("__") != std::string_view::npos) return false;
    const auto contains = [name](std::string_view part) { return name.find(part) != std::string_view::npos; };
    if (contains("_SERVICE_HOST") || contains("_SERVICE_PORT")) return true;
    for (const std::string_view protocol : {"TCP", "UDP", "SCTP"}) {
        if (contains("_PORT_") && contains("_" + std::string(protocol))) return true;
    }
    return name.substr(name.size() - std::min<std::size_t>(name.size(), 5)) == "_PORT" &&
           value.find("://") != std::string_view::npos;
}

std::string lower(std::string_view text) {
    std::string result(text);
    for (char& letter : result) letter = static_cast<char>(std::tolower(static_cast<unsigned char>(letter)));
    return result;
}

bool is_variable_name(std::string_view name) {
    return std::all_of(name.begin(), name.end(), [](unsigned char letter) {
        return (letter >= 'A' && letter <= 'Z') || (letter >= '0' && letter <= '9') || letter == '_';
    });
}

}  // namespace

void read_toml_file(RawOptions& raw, const std::string& path) {
    raw.origin = path;
    const auto refuse = [&](const std::string& why) {
        raw.problems.push_back({path, "the configuration file cannot be read: " + why});
        raw.complete = false;
    };
    std::error_code error;
    const auto status = std::filesystem::status(path, error);
    if (!std::filesystem::exists(status)) return refuse(error ? error.message() : "no such file");
    // Also through a pipe, as in --config <(…); a folder opens but does not read.
    if (std::filesystem::is_directory(status)) return refuse("it is a directory");
    std::ifstream file(path, std::ios::binary);
    if (!file) return refuse("permission denied");
    std::string text(file_bytes_max + 1, '\0');
    file.read(text.data(), static_cast<std::streamsize>(text.size()));
    if (file.bad()) return refuse("reading it failed");
    if (file.gcount() > static_cast<std::streamsize>(file_bytes_max)) return refuse("it is larger than 1 MiB");
    text.resize(static_cast<std::size_t>(file.gcount()));
    read_toml_text(raw, text, path);
}

void read_toml_text(RawOptions& raw, std::string_view text, const std::string& name) {
    raw.origin = name;
    try {
        TomlReader(raw, name).read(toml::parse(text));
    } catch (const toml::parse_error& error) {
        raw.problems.push_back({name + ":" + std::to_string(error.source().begin.line),
                                "not valid TOML: " + one_line(error.description())});
        raw.complete = false;
    }
}

void read_environment(RawOptions& raw, const Environment& environment) {
    for (const auto& [name, value] : environment) {
        if (!std::string_view(name).starts_with(environment_prefix) || is_service_link(name, value)) continue;
        const std::string shown = printable_name(name);
        const std::string origin = "environment " + shown;
        const std::string_view rest = std::string_view(name).substr(environment_prefix.size());
        const std::size_t split = rest.find("__");
        if (split == std::string_view::npos || split == 0 || split + 2 == rest.size() || !is_variable_name(rest)) {
            raw.problems.push_back(
                {origin, shown + ": names no option, allowed: OUTBOX_RELAY_<SECTION>__<KEY> in capitals"});
            continue;
        }
        std::string section = lower(rest.substr(0, split));
        std::string key = lower(rest.substr(split + 2));
        if (holds_kafka_names(section)) std::replace(key.begin(), key.end(), '_', '.');
        raw.options.push_back(
            {std::move(section), std::move(key), {RawKind::untyped, value, {}}, RawSource::environment, origin});
    }
}

void read_assignment(RawOptions& raw, std::string_view assignment) {
    const std::size_t equals = assignment.find('=');
    const std::string_view name = assignment.substr(0, equals);
    const std::size_t dot = name.find('.');
    if (equals == std::string_view::npos || dot == std::string_view::npos || dot == 0 || dot + 1 == name.size()) {
        raw.problems.push_back({"--set", "given " + printable(name) + ", allowed: section.key=value"});
        return;
    }
    raw.options.push_back({std::string(name.substr(0, dot)),
                           std::string(name.substr(dot + 1)),
                           {RawKind::untyped, std::string(assignment.substr(equals + 1)), {}},
                           RawSource::command_line,
                           "--set"});
}

RawValue structured(const std::string& text) {
    try {
        const toml::table document = toml::parse("value = " + text);
        const toml::node* node = document.get("value");
        if (document.size() == 1 && node != nullptr && (node->is_array() || node->is_table())) return raw_value(*node);
    } catch (const toml::parse_error&) {  // the caller says what is allowed
    }
    return {RawKind::untyped, text, {}};
}

}  // namespace outbox
