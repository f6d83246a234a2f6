#include "kafka/statistics.hpp"

#include <algorithm>
#include <charconv>

namespace outbox {

namespace {

using std::string_view;

// The number behind the first `"max":` of the object that begins here.
std::int64_t max_of(string_view object) {
    constexpr string_view mark = R"("max":)";
    object = object.substr(0, object.find('}'));
    const auto at = object.find(mark);
    if (at == string_view::npos) return 0;
    object.remove_prefix(at + mark.size());
    object.remove_prefix(std::min(object.find_first_not_of(' '), object.size()));
    std::int64_t number = 0;
    std::from_chars(object.data(), object.data() + object.size(), number);
    return number;
}

}  // namespace

BrokerStatistics broker_statistics(string_view document) {
    constexpr string_view throttle = R"("throttle":)";
    // The brokers come before the topics, which are nearly all of the document.
    document = document.substr(0, document.find(R"("topics":)"));
    constexpr std::int64_t most_ms = std::chrono::milliseconds(std::chrono::hours(24)).count();
    BrokerStatistics result;
    result.any_up = document.find(R"("state":"UP")") != string_view::npos;
    for (auto at = document.find(throttle); at != string_view::npos; at = document.find(throttle, at + 1)) {
        const std::int64_t told_ms = std::clamp<std::int64_t>(max_of(document.substr(at)), 0, most_ms);
        result.throttled = std::max<Duration>(result.throttled, std::chrono::milliseconds(told_ms));
    }
    return result;
}

}  // namespace outbox
