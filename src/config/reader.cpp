#include "config/reader.hpp"

#include <algorithm>
#include <set>

#include "config/secrets.hpp"
#include "config/values.hpp"

namespace outbox {

namespace {

// A secret is not repeated in a message, and neither is what may be one under a name we do not know.
bool may_show(const RawOption& option) {
    if (option.section == "postgres" || option.section == "kafka_files") return false;
    return option.section != "kafka" || (!option.key.empty() && !is_secret_kafka_property(option.key));
}

std::string given(const RawOption& option) {
    const RawValue& value = option.value;
    switch (value.kind) {
        case RawKind::array:
            return "an array";
        case RawKind::table:
            return "a table";
        case RawKind::other:
            return "a value of another type";
        case RawKind::integer:
        case RawKind::boolean:
            return may_show(option) ? value.text : "a value of another type";
        case RawKind::string:
        case RawKind::untyped:
            return may_show(option) ? printable(value.text) : (value.text.empty() ? "\"\"" : std::string(redacted));
    }
    return "nothing";
}

bool is_text(const RawValue& value) {
    return value.kind == RawKind::string || value.kind == RawKind::untyped;
}
bool may_be_count(const RawValue& value) {
    return value.kind == RawKind::integer || value.kind == RawKind::untyped;
}

std::string joined(const std::vector<std::string>& names) {
    std::string result;
    for (const std::string& name : names) result += (result.empty() ? "\"" : ", \"") + name + "\"";
    return result;
}

std::vector<std::string> split_at_commas(std::string_view text) {
    std::vector<std::string> parts;
    while (true) {
        const std::size_t comma = text.find(',');
        std::string_view part = text.substr(0, comma);
        while (part.starts_with(' ')) part.remove_prefix(1);
        while (part.ends_with(' ')) part.remove_suffix(1);
        parts.emplace_back(part);
        if (comma == std::string_view::npos) return parts;
        text.remove_prefix(comma + 1);
    }
}

std::string section_of(std::string_view name) {
    return std::string(name.substr(0, name.find('.')));
}

}  // namespace

std::string name_of(const RawOption& option) {
    return option.key.empty() ? option.section : option.section + "." + option.key;
}

OptionReader::OptionReader(const RawOptions& raw) : raw_(raw), problems_(raw.problems) {
    for (const RawOption& option : raw.options) winners_[name_of(option)] = &option;
}

void OptionReader::text(std::string_view name, std::string& target, std::string_view allowed) {
    const RawOption* const option = take(name);
    if (option == nullptr) return;
    if (auto text = plain_text(*option, allowed)) target = std::move(*text);
}

void OptionReader::count(std::string_view name, std::uint32_t& target, std::uint32_t least, std::uint32_t most) {
    const RawOption* const option = take(name);
    if (option == nullptr) return;
    const auto value = may_be_count(option->value) ? parse_count(option->value.text) : std::nullopt;
    if (value && *value >= least && *value <= most) {
        target = static_cast<std::uint32_t>(*value);
    } else {
        refuse(*option, "a whole number from " + std::to_string(least) + " to " + std::to_string(most));
    }
}

void OptionReader::rate(std::string_view name, std::uint64_t& target, std::uint64_t most, bool in_bytes) {
    const RawOption* const option = take(name);
    if (option == nullptr) return;
    std::optional<std::uint64_t> value;
    if (may_be_count(option->value)) value = parse_count(option->value.text);
    if (!value && in_bytes && is_text(option->value)) value = parse_size(option->value.text);
    if (value && *value <= most) {
        target = *value;
    } else if (in_bytes) {
        refuse(*option,
               "a number of bytes or a size such as \"64MiB\", at most " + size_text(most) + "; 0 turns it off");
    } else {
        refuse(*option, "a whole number from 0 to " + std::to_string(most) + "; 0 turns it off");
    }
}

void OptionReader::size(std::string_view name, std::uint64_t& target, std::uint64_t least, std::uint64_t most) {
    const RawOption* const option = take(name);
    if (option == nullptr) return;
    const auto value = is_text(option->value) ? parse_size(option->value.text) : std::nullopt;
    if (value && *value >= least && *value <= most) {
        target = *value;
    } else {
        refuse(*option, "a size such as \"32MiB\", from " + size_text(least) + " to " + size_text(most));
    }
}

void OptionReader::duration(std::string_view name, Duration& target, Duration least, Duration most) {
    const RawOption* const option = take(name);
    if (option == nullptr) return;
    const auto value = is_text(option->value) ? parse_duration(option->value.text) : std::nullopt;
    if (value && *value >= least && *value <= most) {
        target = *value;
    } else {
        refuse(*option, R"(a duration such as "20ms", "3s" or "1m", from )" + duration_text(least) + " to " +
                            duration_text(most));
    }
}

void OptionReader::duration_range(std::string_view name, Duration& low, Duration& high, Duration least, Duration most) {
    const RawOption* const option = take(name);
    if (option == nullptr) return;
    const RawValue value = option->value.kind == RawKind::untyped ? structured(option->value.text) : option->value;
    const std::string allowed = R"({ min = "2ms", max = "50ms" }, each from )" + duration_text(least) + " to " +
                                duration_text(most) + " and min not above max";
    if (value.kind != RawKind::table) return refuse(*option, allowed);
    Duration new_low = low;
    Duration new_high = high;
    for (const RawMember& member : value.members) {
        const Duration parsed = member.value.kind == RawKind::string
                                    ? parse_duration(member.value.text).value_or(Duration(-1))
                                    : Duration(-1);
        if (member.key != "min" && member.key != "max") {
            return refuse_part(*option, "the key " + printable(member.key), allowed);
        }
        if (parsed < least || parsed > most) {
            return refuse_part(*option, member.key + " = " + printable(member.value.text), allowed);
        }
        (member.key == "min" ? new_low : new_high) = parsed;
    }
    if (new_low > new_high) {
        return refuse_part(*option, "min = " + duration_text(new_low) + ", max = " + duration_text(new_high), allowed);
    }
    low = new_low;
    high = new_high;
}

void OptionReader::texts(std::string_view name, std::vector<std::string>& target, std::string_view allowed) {
    const RawOption* const option = take(name);
    if (option == nullptr) return;
    const bool untyped = option->value.kind == RawKind::untyped;
    const RawValue value = untyped ? structured(option->value.text) : option->value;
    std::vector<std::string> result;
    if (value.kind == RawKind::untyped) {
        result = split_at_commas(value.text);
    } else if (value.kind == RawKind::array) {
        for (const RawMember& element : value.members) {
            if (element.value.kind != RawKind::string)
                return refuse_part(*option, "an element that is no string", allowed);
            result.push_back(element.value.text);
        }
    } else {
        return refuse(*option, allowed);
    }
    target = std::move(result);
}

const std::string* OptionReader::choose(std::string_view name, const std::vector<std::string>& allowed) {
    const RawOption* const option = take(name);
    if (option == nullptr) return nullptr;
    if (!is_text(option->value) || std::find(allowed.begin(), allowed.end(), option->value.text) == allowed.end()) {
        refuse(*option, joined(allowed));
        return nullptr;
    }
    return &option->value.text;
}

const RawOption* OptionReader::take(std::string_view name) {
    if (std::find(known_names_.begin(), known_names_.end(), name) == known_names_.end())
        known_names_.emplace_back(name);
    const auto found = winners_.find(name);
    return found == winners_.end() ? nullptr : found->second;
}

std::vector<const RawOption*> OptionReader::take_section(std::string_view section) {
    known_sections_.emplace_back(section);
    std::vector<const RawOption*> result;
    for (const auto& [name, option] : winners_) {
        if (option->section == section && !option->key.empty()) result.push_back(option);
    }
    return result;
}

std::optional<std::string> OptionReader::plain_text(const RawOption& option, std::string_view allowed) {
    if (!is_text(option.value) || option.value.text.find('\0') != std::string::npos) {
        refuse(option, allowed);
        return std::nullopt;
    }
    return option.value.text;
}

void OptionReader::refuse_unknown() {
    std::set<std::string> unique(known_sections_.begin(), known_sections_.end());
    for (const std::string& name : known_names_) unique.insert(section_of(name));
    const std::vector<std::string> sections(unique.begin(), unique.end());
    for (const RawOption& option : raw_.options) {
        if (!unique.contains(option.section)) {
            const auto near = nearest(option.section, sections);
            problem(option,
                    (option.key.empty() ? "unknown key" : "unknown section [" + printable_name(option.section) + "]") +
                        (near ? ", did you mean [" + *near + "]?" : "") + ", allowed: " + joined(sections));
        } else if (option.key.empty()) {
            refuse(option, "a section [" + option.section + "]");
        } else if (std::find(known_sections_.begin(), known_sections_.end(), option.section) == known_sections_.end() &&
                   std::find(known_names_.begin(), known_names_.end(), name_of(option)) == known_names_.end()) {
            std::vector<std::string> keys;
            for (const std::string& name : known_names_) {
                if (section_of(name) == option.section) keys.push_back(name.substr(option.section.size() + 1));
            }
            const auto near = nearest(option.key, keys);
            problem(option, "unknown key" + (near ? ", did you mean \"" + *near + "\"?" : "") + ", allowed in [" +
                                option.section + "]: " + joined(keys));
        }
    }
}

void OptionReader::refuse(const RawOption& option, std::string_view allowed) {
    refuse_part(option, given(option), allowed);
}

void OptionReader::refuse_part(const RawOption& option, std::string_view given, std::string_view allowed) {
    problem(option, "given " + std::string(given) + ", allowed: " + std::string(allowed));
}

void OptionReader::problem(const RawOption& option, const std::string& text) {
    problems_.push_back({option.origin, printable_name(name_of(option)) + ": " + text});  // a key may be any text
}

std::string OptionReader::origin(std::string_view name) const {
    const auto found = winners_.find(name);
    return found == winners_.end() ? raw_.origin : found->second->origin;
}

std::map<std::string, std::string> OptionReader::origins() const {
    std::map<std::string, std::string> result;
    for (const auto& [name, option] : winners_) result[name] = option->origin;
    return result;
}

}  // namespace outbox
