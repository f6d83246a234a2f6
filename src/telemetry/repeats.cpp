#include "telemetry/repeats.hpp"

#include <utility>

namespace outbox {

Repeats::Answer Repeats::seen(std::string_view event, Instant now) {
    auto found = minutes_.find(event);
    if (found == minutes_.end()) found = minutes_.emplace(std::string(event), Minute{now}).first;
    Minute& minute = found->second;
    if (now - minute.began >= window) {
        minute.began = now;
        minute.printed = 0;
    }
    if (minute.printed >= printed_max_) {
        ++minute.suppressed;
        return {false, 0};
    }
    ++minute.printed;
    return {true, std::exchange(minute.suppressed, 0)};
}

std::vector<Repeats::Suppressed> Repeats::ended(Instant now) {
    std::vector<Suppressed> result;
    for (auto at = minutes_.begin(); at != minutes_.end();) {
        auto& [event, minute] = *at;
        if (now - minute.began < window) {
            ++at;
            continue;
        }
        if (minute.suppressed > 0) result.push_back({event, minute.suppressed});
        at = minutes_.erase(at);
    }
    return result;
}

}  // namespace outbox
