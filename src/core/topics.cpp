#include "core/topics.hpp"

#include <algorithm>

namespace outbox {

namespace {

using namespace std::chrono_literals;

constexpr Backoff topic_backoff{200ms, 10s};

// Without an acknowledgement for the first, a topic makes room for others; for the second, its circuit is open, unless
// the cluster's own has opened before.
constexpr Duration hold_patience = 1s;
constexpr Duration circuit_patience = 4s;

// Without an answer about any topic for the first, or about this one for the second, a topic whose limits are awaited
// makes room as well. Brokers answer one request after the other, and a thousand topics read apart take far longer.
constexpr Duration limits_patience = 250ms;
constexpr Duration limits_patience_max = 2s;

constexpr Backoff no_backoff{Duration::zero(), Duration::zero()};

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
    topic.paused = std::binary_search(paused_.begin(), paused_.end(), name);
    topics_.push_back(std::move(topic));
    by_name_.emplace(name, last_);
    if (at(last_).paused) park(last_, no_row);  // none of its rows has been passed over yet
    return last_;
}

void Topics::park(TopicIndex topic, RowId resume_after) {
    Topic& one = at(topic);
    if (one.state == State::current) {
        parked_.push_back(topic);
        one.resume_after = resume_after;
    } else {
        one.resume_after = std::min(one.resume_after, resume_after);
    }
    one.state = State::settling;
}

void Topics::admitted(TopicIndex topic, std::uint32_t bytes, bool solo, Instant now) {
    Topic& one = at(topic);
    one.solo_in_flight = solo;
    one.bytes_in_flight += bytes;
    if (one.in_flight++ == 0) one.progress_at = now;
}

void Topics::left_flight(TopicIndex topic, std::uint32_t bytes) {
    Topic& one = at(topic);
    --one.in_flight;
    one.bytes_in_flight -= bytes;
    one.solo_in_flight = false;
}

void Topics::taken(TopicIndex topic, Instant now) {
    Topic& one = at(topic);
    one.progress_at = now;
    one.proven = true;
    one.circuit.close();
}

void Topics::fail(TopicIndex topic, std::string_view reason, RowId resume_after, Instant now) {
    // The rows of one failed batch, and of the batches behind it, count as one failure.
    at(topic).circuit.trip(reason, now, topic_backoff, jitter_.next());
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
    at(topic).state = State::current;
    std::erase(parked_, topic);
}

void Topics::answered(TopicIndex topic, Instant now) {
    at(topic).limits_awaited_since = never;
    limits_answered_at_ = now;
}

Instant Topics::limits_patience_ends(TopicIndex topic) const {
    const Instant since = (*this)[topic].limits_awaited_since;
    return std::min(std::max(since, limits_answered_at_) + limits_patience, since + limits_patience_max);
}

void Topics::limits(TopicIndex topic, std::uint32_t batch_bytes_max, bool keys_required) {
    Topic& one = at(topic);
    one.batch_bytes_max = batch_bytes_max;
    one.keys_required = keys_required;
}

void Topics::producer_opened() {
    for (Topic& topic : topics_) topic.proven = false;
}

void Topics::pause(std::span<const std::string_view> names, RowId low) {
    paused_.assign(names.begin(), names.end());
    std::sort(paused_.begin(), paused_.end());
    for (std::size_t i = 0; i < topics_.size(); ++i) {
        const bool was_paused = topics_[i].paused;
        topics_[i].paused = std::binary_search(paused_.begin(), paused_.end(), topics_[i].name);
        if (topics_[i].paused && !was_paused) park(TopicIndex{static_cast<std::uint32_t>(i)}, low);
    }
}

void Topics::hold_stalled(RowId low, Instant now) {
    for (std::size_t i = 0; i < topics_.size(); ++i) {
        const Topic& one = topics_[i];
        if (one.state != State::settling && one.in_flight > 0 && now >= one.progress_at + hold_patience)
            park(TopicIndex{static_cast<std::uint32_t>(i)}, low);
    }
}

void Topics::turn(bool cluster_well, Instant now) {
    for (const TopicIndex index : parked_) {
        Topic& topic = at(index);
        if (topic.state == State::settling && topic.in_flight > 0 && topic.circuit.closed() && cluster_well &&
            now >= topic.progress_at + circuit_patience)
            topic.circuit.trip("no acknowledgement for 4 s", now, no_backoff, 0);
        if (topic.state == State::settling && topic.in_flight == 0) topic.state = State::waiting;
        if (topic.state != State::waiting || topic.paused || topic.limits_awaited_since != never) continue;
        if (topic.circuit.state() == Circuit::State::open) {
            if (now < topic.circuit.retry_at()) continue;
            topic.circuit.try_again();
        }
        topic.state = State::behind;
    }
}

Instant Topics::wake_at(bool cluster_well) const {
    Instant first = never;
    for (const TopicIndex index : parked_) {
        const Topic& topic = (*this)[index];
        if (topic.state == State::waiting && !topic.paused && topic.limits_awaited_since == never)
            first = std::min(first, topic.circuit.retry_at());
        if (topic.state == State::settling && topic.in_flight > 0 && topic.circuit.closed() && cluster_well)
            first = std::min(first, topic.progress_at + circuit_patience);
    }
    return first;
}

std::uint32_t Topics::parked_in_flight() const {
    std::uint32_t rows = 0;
    for (const TopicIndex index : parked_) rows += (*this)[index].in_flight;
    return rows;
}

std::uint64_t Topics::parked_bytes_in_flight() const {
    std::uint64_t bytes = 0;
    for (const TopicIndex index : parked_) bytes += (*this)[index].bytes_in_flight;
    return bytes;
}

bool Topics::one_at_a_time(TopicIndex topic, RowId row) const {
    const Topic& one = (*this)[topic];
    return !one.circuit.closed() || row <= one.careful_upto;
}

}  // namespace outbox
