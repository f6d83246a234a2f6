// Takes options out of the raw ones, one by one, and gathers what is wrong with them. What nobody took is unknown.
// Used by config.cpp alone, on the stack.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "config/sources.hpp"
#include "core/time.hpp"

namespace outbox {

class OptionReader {
public:
    explicit OptionReader(const RawOptions& raw);

    // Each leaves its target alone when the option is not there or not right.
    void text(std::string_view name, std::string& target, std::string_view allowed);
    void count(std::string_view name, std::uint32_t& target, std::uint32_t least, std::uint32_t most);
    // A rate: a whole number, or a size where bytes are counted. 0 turns off what it limits.
    void rate(std::string_view name, std::uint64_t& target, std::uint64_t most, bool in_bytes);
    void size(std::string_view name, std::uint64_t& target, std::uint64_t least, std::uint64_t most);
    void duration(std::string_view name, Duration& target, Duration least, Duration most);
    // A table { min = …, max = … }; either may be left out.
    void duration_range(std::string_view name, Duration& low, Duration& high, Duration least, Duration most);
    void texts(std::string_view name, std::vector<std::string>& target, std::string_view allowed);
    template <class Choice>
    void choice(std::string_view name, Choice& target, const std::vector<std::pair<std::string, Choice>>& choices);

    // The option that counts, and known from now on.
    const RawOption* take(std::string_view name);
    // All that count of a section whose keys are not ours to know.
    std::vector<const RawOption*> take_section(std::string_view section);
    // A plain string; nothing, and a problem, when it is something else.
    std::optional<std::string> plain_text(const RawOption& option, std::string_view allowed);

    // Every option nobody took, of every source: also where a later source outdoes it.
    void refuse_unknown();

    void refuse(const RawOption& option, std::string_view allowed);
    void refuse_part(const RawOption& option, std::string_view given, std::string_view allowed);
    void problem(std::string origin, std::string text) { problems_.push_back({std::move(origin), std::move(text)}); }
    void problem(const RawOption& option, const std::string& text);
    // The origin of a name, for messages about combinations.
    std::string origin(std::string_view name) const;

    const std::vector<ConfigProblem>& problems() const { return problems_; }
    std::map<std::string, std::string> origins() const;

private:
    const std::string* choose(std::string_view name, const std::vector<std::string>& allowed);

    const RawOptions& raw_;
    std::map<std::string, const RawOption*, std::less<>> winners_;
    std::vector<std::string> known_names_;
    std::vector<std::string> known_sections_;  // those taken whole
    std::vector<ConfigProblem> problems_;
};

std::string name_of(const RawOption& option);

template <class Choice>
void OptionReader::choice(std::string_view name, Choice& target,
                          const std::vector<std::pair<std::string, Choice>>& choices) {
    std::vector<std::string> names;
    names.reserve(choices.size());
    for (const auto& [text, value] : choices) names.push_back(text);
    const std::string* const chosen = choose(name, names);
    if (chosen == nullptr) return;
    for (const auto& [text, value] : choices) {
        if (text == *chosen) target = value;
    }
}

}  // namespace outbox
