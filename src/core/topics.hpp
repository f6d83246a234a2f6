// The topics seen so far, each with the state of its own small circuit: a topic that cannot be written stops only its
// own rows. Those are not held in memory: the lowest id is remembered, and when the topic may go on, its rows are read
// again from there.
//
//   open ─ a row failed ─► settling ─ nothing in flight ─► waiting ─ retry_at ─► behind ─ caught up to `low` ─► open
//
// Coming back, a topic sends one row alone until the broker takes one. Rows that were rejected in the company of others
// are sent one at a time as well, which tells the culprit from the innocent.
// Pure. Owned by Relay; the worker's thread.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/backoff.hpp"
#include "core/row.hpp"
#include "core/time.hpp"

namespace outbox {

class Topics {
public:
    enum class State : std::uint8_t { open, settling, waiting, behind };

    struct Topic {
        std::string name;
        std::string_view refusal;  // why its rows can never be published; empty: they can
        State state = State::open;
        RowId resume_after;
        RowId careful_upto;  // rows up to here go one at a time
        Instant retry_at{};
        std::uint32_t failures = 0;  // in a row
        std::uint32_t in_flight = 0;
        Instant busy_since{};         // when in_flight last rose from 0
        bool solo_in_flight = false;  // the one row in flight must stay alone
        bool proven = false;          // the broker has taken a row since the producer was opened
        bool alone = false;           // coming back after a failure: one row at a time until one is taken
    };

    Topics(std::vector<std::string> allow, std::uint64_t seed) : allow_(std::move(allow)), jitter_(seed) {}

    TopicIndex index_of(std::string_view name);
    const Topic& operator[](TopicIndex topic) const { return topics_[static_cast<std::size_t>(topic)]; }
    std::size_t size() const { return topics_.size(); }

    void admitted(TopicIndex topic, bool solo, Instant now);
    void left_flight(TopicIndex topic);
    void taken(TopicIndex topic);                                  // the broker acknowledged a row
    void fail(TopicIndex topic, RowId resume_after, Instant now);  // the topic cannot be written: back off
    void suspect(TopicIndex topic, RowId id);    // a row was rejected in company: sort it out, no wait
    void pass_over(TopicIndex topic, RowId id);  // a row of a topic that is not open was seen
    void advance(TopicIndex topic, RowId to);
    void caught_up(TopicIndex topic);
    void producer_opened();  // what the broker thinks is unknown again

    // Moves topics whose moment has come: settling -> waiting -> behind. `parked` lists all that are not open.
    void turn(Instant now);
    std::span<const TopicIndex> parked() const { return parked_; }
    Instant retry_at() const;

    // One row at a time: after a failure until a row was taken, and through the rows that are under suspicion.
    bool one_at_a_time(TopicIndex topic, RowId row) const;
    void hold(TopicIndex topic, RowId resume_after) { park(topic, resume_after); }  // a row waits for another of it

private:
    Topic& at(TopicIndex topic) { return topics_[static_cast<std::size_t>(topic)]; }
    std::string_view refusal_of(std::string_view name) const;
    void park(TopicIndex topic, RowId resume_after);

    struct Hash {
        using is_transparent = void;
        std::size_t operator()(std::string_view text) const { return std::hash<std::string_view>{}(text); }
    };

    std::vector<std::string> allow_;
    Jitter jitter_;
    std::vector<Topic> topics_;
    std::unordered_map<std::string, TopicIndex, Hash, std::equal_to<>> by_name_;
    std::vector<TopicIndex> parked_;
    TopicIndex last_{};  // rows of one topic tend to come together
};

// Kafka's rules for a topic name (org.apache.kafka.common.internals.Topic), and ours: names that begin with __ are
// Kafka's own. `allow` holds exact names, and prefixes that end in *.
bool is_topic_name(std::string_view name);
bool is_allowed_topic(std::string_view name, std::span<const std::string> allow);

}  // namespace outbox
