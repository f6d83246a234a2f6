#include "core/topics.hpp"

#include <algorithm>

namespace outbox {

namespace {

using namespace std::chrono_literals;

constexpr Backoff topic_backoff{200ms, 10s};

}  // namespace

bool is_topic_name(std::string_view name) {
    const auto legal = [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' ||
               c == '-';
    };
    return !name.empty() && name.size() <= 249 && name != "." && name != ".." &&
           std::all_of(name.begin(), name.end(), legal);
}

bool is_allowed_topic(std::string_view name, std::span<const std::string> allow) {
    if (name.substr(0, 2) == "__") return false;
    return std::any_of(allow.begin(), allow.end(), [&](const std::string& pattern) {
        if (pattern.ends_with('*')) return name.starts_with(std::string_view(pattern).substr(0, pattern.size() - 1));
        return name == pattern;
    });
}

std::string_view Topics::refusal_of(std::string_view name) const {
    if (!is_topic_name(name)) return "TOPIC_INVALID";
    if (!is_allowed_topic(name, allow_)) return "TOPIC_NOT_ALLOWED";
    return {};
}

TopicIndex Topics::index_of(std::string_view name) {
    if (!topics_.empty() && at(last_).name == name) return last_;
    const auto found = by_name_.find(name);
    if (found != by_name_.end()) return last_ = found->second;
    last_ = TopicIndex{static_cast<std::uint32_t>(topics_.size())};
    Topic topic;
    topic.name = name;
    topic.refusal = refusal_of(name);
    topics_.push_back(std::move(topic));
    by_name_.emplace(name, last_);
    return last_;
}

void Topics::park(TopicIndex topic, RowId resume_after) {
    Topic& one = at(topic);
    if (one.state == State::open) {
        parked_.push_back(topic);
        one.resume_after = resume_after;
    } else {
        one.resume_after = std::min(one.resume_after, resume_after);
    }
    one.state = State::settling;
}

void Topics::admitted(TopicIndex topic, bool solo, Instant now) {
    Topic& one = at(topic);
    one.solo_in_flight = solo;
    if (one.in_flight++ == 0) one.busy_since = now;
}

void Topics::left_flight(TopicIndex topic) {
    Topic& one = at(topic);
    --one.in_flight;
    one.solo_in_flight = false;
}

void Topics::taken(TopicIndex topic) {
    Topic& one = at(topic);
    one.proven = true;
    one.alone = false;
    one.failures = 0;
}

void Topics::fail(TopicIndex topic, RowId resume_after, Instant now) {
    Topic& one = at(topic);
    // The rows of one failed batch, and of the batches behind it, count as one failure.
    if (one.state != State::settling || !one.alone) ++one.failures;
    one.alone = true;
    one.retry_at = now + topic_backoff.delay(one.failures, jitter_.next());
    park(topic, resume_after);
}

void Topics::suspect(TopicIndex topic, RowId id) {
    Topic& one = at(topic);
    one.careful_upto = std::max(one.careful_upto, id);
    park(topic, RowId{id.value - 1});
}

void Topics::pass_over(TopicIndex topic, RowId id) {
    Topic& one = at(topic);
    one.resume_after = std::min(one.resume_after, RowId{id.value - 1});
}

void Topics::advance(TopicIndex topic, RowId to) {
    Topic& one = at(topic);
    one.resume_after = std::max(one.resume_after, to);
}

void Topics::caught_up(TopicIndex topic) {
    at(topic).state = State::open;
    std::erase(parked_, topic);
}

void Topics::producer_opened() {
    for (Topic& topic : topics_) topic.proven = false;
}

void Topics::turn(Instant now) {
    for (const TopicIndex index : parked_) {
        Topic& topic = at(index);
        if (topic.state == State::settling && topic.in_flight == 0) topic.state = State::waiting;
        if (topic.state == State::waiting && now >= topic.retry_at) topic.state = State::behind;
    }
}

Instant Topics::retry_at() const {
    Instant first = never;
    for (const TopicIndex index : parked_)
        if ((*this)[index].state == State::waiting) first = std::min(first, (*this)[index].retry_at);
    return first;
}

bool Topics::one_at_a_time(TopicIndex topic, RowId row) const {
    const Topic& one = (*this)[topic];
    return one.alone || row <= one.careful_upto;
}

}  // namespace outbox
