// What was written where: every option as the operator gave it, with its origin, before anybody judged it.
// Sources, later ones win: the file, the environment, --set. Pure but for reading the file; any thread.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace outbox {

using Environment = std::map<std::string, std::string, std::less<>>;

struct ConfigProblem {
    std::string origin;  // "relay.toml:12", "--set", "environment OUTBOX_RELAY_…"
    std::string text;    // names the key, what was given and what is allowed
};

enum class RawSource { file, environment, command_line };

// The type it was written with. Text from the environment and from --set has none: it is what its key wants.
enum class RawKind { untyped, string, integer, boolean, array, table, other };

struct RawMember;

struct RawValue {
    RawKind kind = RawKind::untyped;
    std::string text;                // of a scalar
    std::vector<RawMember> members;  // of an array or a table
};

struct RawMember {
    std::string key;  // empty in an array
    RawValue value;
};

struct RawOption {
    std::string section;
    std::string key;  // empty where something else than a section was written at the top of the file
    RawValue value;
    RawSource source = RawSource::file;
    std::string origin;
};

struct RawOptions {
    std::vector<RawOption> options;        // lowest precedence first
    std::vector<ConfigProblem> problems;   // what could not even be read as section.key = value
    std::string origin = "configuration";  // of what is missing: the file, where there is one
    bool complete = true;                  // false when the file could not be read: then nothing counts as missing
};

// Each adds to `raw`; call them in this order, so that the later ones win.
void read_toml_file(RawOptions& raw, const std::string& path);
void read_toml_text(RawOptions& raw, std::string_view text, const std::string& name);
void read_environment(RawOptions& raw, const Environment& environment);
void read_assignment(RawOptions& raw, std::string_view assignment);  // section.key=value, from --set

// An array or a table given as text, as in --set 'relay.poll_interval={ min = "1ms", max = "5ms" }'; untyped when it is
// neither.
RawValue structured(const std::string& text);

}  // namespace outbox
