// docs/metrics.md and a live scrape say the same: names, types and labels.
#include <doctest/doctest.h>

#include <array>
#include <fstream>
#include <map>
#include <regex>
#include <set>
#include <sstream>
#include <string>

#include "telemetry/metrics.hpp"

using namespace outbox;

namespace {

struct Described {
    std::string type;
    std::set<std::string> labels;
    bool operator==(const Described&) const = default;
};
using Catalogue = std::map<std::string, Described>;

std::set<std::string> all_matches(const std::string& text, const std::regex& pattern) {
    std::set<std::string> result;
    for (std::sregex_iterator at(text.begin(), text.end(), pattern), end; at != end; ++at) result.insert((*at)[1]);
    return result;
}

Catalogue documented() {
    std::ifstream page(OUTBOX_SOURCE_DIR "/docs/metrics.md");
    REQUIRE(page);
    const std::regex row(R"(\| `([a-z_]+)` \| ([a-z]+) \| ([^|]*) \| [^|]+ \|)");
    Catalogue result;
    std::smatch found;
    for (std::string line; std::getline(page, line);) {
        if (line.rfind("| `", 0) != 0) continue;
        REQUIRE_MESSAGE(std::regex_match(line, found, row), line);
        const bool is_new =
            result.emplace(found[1], Described{found[2], all_matches(found[3], std::regex("`([a-z_]+)`"))}).second;
        CHECK_MESSAGE(is_new, line);
    }
    return result;
}

std::string family_of(const std::string& series, const Catalogue& known) {
    for (const std::string& suffix : {std::string("_bucket"), std::string("_sum"), std::string("_count")}) {
        if (series.size() <= suffix.size() || series.substr(series.size() - suffix.size()) != suffix) continue;
        std::string family = series.substr(0, series.size() - suffix.size());
        if (known.contains(family)) return family;
    }
    return series;
}

Catalogue exported(const std::string& scrape) {
    const std::regex type_line("# TYPE ([a-z_]+) ([a-z]+)");
    const std::regex series_line(R"(([a-z_]+)(\{.*\})? .*)");
    Catalogue result;
    std::istringstream lines(scrape);
    std::smatch found;
    for (std::string line; std::getline(lines, line);) {
        if (std::regex_match(line, found, type_line)) result[found[1]].type = found[2];
        if (line.empty() || line.front() == '#') continue;
        REQUIRE_MESSAGE(std::regex_match(line, found, series_line), line);
        auto labels = all_matches(found[2], std::regex(R"rx(([a-z_]+)=")rx"));
        labels.erase("le");
        result[family_of(found[1], result)].labels.merge(labels);
    }
    return result;
}

}  // namespace

TEST_CASE("every exported metric is documented and every documented one is exported") {
    Metrics metrics({"0", "0", "0", 1, 1}, 1);
    // These two families have no series before their first label value is known.
    metrics.worker(0).topic_named(TopicIndex{0}, "orders");
    const std::array row{DeliveredRow{TopicIndex{0}, 1, 0, 0}};
    metrics.worker(0).delivered({row, 1});
    metrics.worker(0).dead_letter("MSG_SIZE_TOO_LARGE");

    const Catalogue page = documented();
    const Catalogue live = exported(metrics.scrape(1));
    CHECK(page.size() > 30);
    for (const auto& entry : page) CHECK_MESSAGE(live.contains(entry.first), entry.first, " is not exported");
    for (const auto& entry : live) {
        const auto found = page.find(entry.first);
        REQUIRE_MESSAGE(found != page.end(), entry.first, " is not documented");
        CHECK_MESSAGE(found->second.type == entry.second.type, entry.first);
        CHECK_MESSAGE(found->second.labels == entry.second.labels, entry.first);
    }
}
