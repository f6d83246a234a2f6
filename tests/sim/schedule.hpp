// Virtual time: what is to happen, and when. Nothing passes between two events, so that hours take milliseconds; events
// of one instant happen in the order they were scheduled. One thread.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <utility>
#include <vector>

#include "core/time.hpp"

namespace outbox::sim {

class Schedule {
public:
    using Event = std::function<void()>;

    Instant now() const { return now_; }
    std::uint64_t steps() const { return steps_; }

    void at(Instant when, Event what) {
        events_.push_back({std::max(when, now_), next_++, std::move(what)});
        std::push_heap(events_.begin(), events_.end(), later);
    }
    void in(Duration delay, Event what) { at(now_ + delay, std::move(what)); }

    // The next event, unless it is due after `end`: then time moves there.
    bool step(Instant end) {
        if (events_.empty() || events_.front().at > end) {
            now_ = end;
            return false;
        }
        std::pop_heap(events_.begin(), events_.end(), later);
        Entry entry = std::move(events_.back());
        events_.pop_back();
        now_ = entry.at;
        ++steps_;
        entry.what();
        return true;
    }

private:
    struct Entry {
        Instant at;
        std::uint64_t order;
        Event what;
    };
    static bool later(const Entry& a, const Entry& b) { return std::pair(a.at, a.order) > std::pair(b.at, b.order); }

    Instant now_{std::chrono::seconds(1000)};
    std::uint64_t next_ = 0;
    std::uint64_t steps_ = 0;
    std::vector<Entry> events_;
};

}  // namespace outbox::sim
