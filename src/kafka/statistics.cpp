#include "kafka/statistics.hpp"

#include <algorithm>
#include <charconv>

namespace outbox {

namespace {

using std::string_view;

// The number behind the first such mark of the object that begins here.
std::int64_t number_of(string_view object, string_view mark, std::int64_t otherwise) {
    object = object.substr(0, object.find('}'));
    const auto at = object.find(mark);
    if (at == string_view::npos) return otherwise;
    object.remove_prefix(at + mark.size());
    object.remove_prefix(std::min(object.find_first_not_of(' '), object.size()));
    std::int64_t number = otherwise;
    std::from_chars(object.data(), object.data() + object.size(), number);
    return number;
}

}  // namespace

ProducerStatistics producer_statistics(string_view document) {
    constexpr string_view throttle = R"("throttle":)";
    ProducerStatistics result;
    // Behind the topics, one of which may have the same name.
    if (const auto at = document.rfind(R"("eos":)"); at != string_view::npos) {
        result.producer_id = number_of(document.substr(at), R"("producer_id":)", -1);
        result.epoch = number_of(document.substr(at), R"("producer_epoch":)", -1);
    }
    // The brokers come before the topics, which are nearly all of the document.
    document = document.substr(0, document.find(R"("topics":)"));
    constexpr std::int64_t most_ms = std::chrono::milliseconds(std::chrono::hours(24)).count();
    result.any_up = document.find(R"("state":"UP")") != string_view::npos;
    for (auto at = document.find(throttle); at != string_view::npos; at = document.find(throttle, at + 1)) {
        const std::int64_t told_ms =
            std::clamp<std::int64_t>(number_of(document.substr(at), R"("max":)", 0), 0, most_ms);
        result.throttled = std::max<Duration>(result.throttled, std::chrono::milliseconds(told_ms));
    }
    return result;
}

}  // namespace outbox
