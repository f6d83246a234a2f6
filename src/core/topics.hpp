// The topics seen so far, each with a circuit of its own: a topic that cannot be written, or that an operator paused,
// stops only its own rows. Those are not held in memory: the lowest id is remembered, and when the topic may go on, its
// rows are read again from there.
//
//   current ─ must wait ─► settling ─ none in flight ─► waiting ─ may go on ─► behind ─ caught up ─► current
//
// A failure opens the circuit; half-open, coming back, a topic sends one row alone until the broker takes one. Rows
// that were rejected in the company of others are sent one at a time as well, which tells the culprit from the
// innocent. A topic whose acknowledgements fail to come is parked too, so that it does not keep the window from the
// others; what it has in flight stays there, and is what its return will be known by.
//
// Pure. Owned by Relay; the worker's thread.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/circuit.hpp"
#include "core/row.hpp"
#include "core/time.hpp"

namespace outbox {

class Topics {
public:
    enum class State : std::uint8_t { current, settling, waiting, behind };

    struct Topic {
        std::string name;
        std::string_view refusal;  // why its rows can never be published; empty: they can
        State state = State::current;
        Circuit circuit;
        RowId resume_after;
        RowId careful_upto;  // rows up to here go one at a time
        std::uint32_t in_flight = 0;
        std::uint64_t bytes_in_flight = 0;
        Instant progress_at{};                 // the last row taken, or when in_flight last rose from 0
        bool solo_in_flight = false;           // the one row in flight must stay alone
        bool proven = false;                   // the broker has taken a row since the producer was opened
        bool paused = false;                   // by an operator
        Instant limits_awaited_since = never;  // never: they are not awaited
        // What the brokers take of it, as far as they said.
        std::uint32_t batch_bytes_max = UINT32_MAX;
        bool keys_required = false;
    };

    Topics(std::vector<std::string> allow, std::uint64_t seed) : allow_(std::move(allow)), jitter_(seed) {}

    TopicIndex index_of(std::string_view name);
    const Topic& operator[](TopicIndex topic) const { return topics_[static_cast<std::size_t>(topic)]; }
    std::size_t size() const { return topics_.size(); }

    void admitted(TopicIndex topic, std::uint32_t bytes, bool solo, Instant now);
    void left_flight(TopicIndex topic, std::uint32_t bytes);
    void taken(TopicIndex topic, Instant now);  // the broker acknowledged a row
    // The topic cannot be written: back off.
    void fail(TopicIndex topic, std::string_view reason, RowId resume_after, Instant now);
    void suspect(TopicIndex topic, RowId id);    // a row was rejected in company: sort it out, no wait
    void pass_over(TopicIndex topic, RowId id);  // a row of a topic that is not current was seen
    void advance(TopicIndex topic, RowId to);
    void caught_up(TopicIndex topic);
    void await_limits(TopicIndex topic, Instant now) { at(topic).limits_awaited_since = now; }
    void answered(TopicIndex topic, Instant now);
    // How long others wait for a topic whose limits are awaited, so that it need not be read apart.
    Instant limits_patience_ends(TopicIndex topic) const;
    void limits(TopicIndex topic, std::uint32_t batch_bytes_max, bool keys_required);
    void producer_opened();  // what the broker thinks is unknown again
    // Exactly these are paused from now on. `low`: all rows of the topic up to here have been seen.
    void pause(std::span<const std::string_view> names, RowId low);
    // Parks every topic that has waited for an acknowledgement for too long.
    void hold_stalled(RowId low, Instant now);

    // Moves topics whose moment has come: settling -> waiting -> behind. `parked` lists all that are not current.
    // `cluster_well`: a topic that makes no progress does so by itself.
    void turn(bool cluster_well, Instant now);
    std::span<const TopicIndex> parked() const { return parked_; }
    Instant wake_at(bool cluster_well) const;
    std::uint32_t parked_in_flight() const;
    std::uint64_t parked_bytes_in_flight() const;

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
    std::vector<std::string> paused_;  // sorted
    Jitter jitter_;
    std::vector<Topic> topics_;
    std::unordered_map<std::string, TopicIndex, Hash, std::equal_to<>> by_name_;
    std::vector<TopicIndex> parked_;
    Instant limits_answered_at_{};  // of any topic
    TopicIndex last_{};             // rows of one topic tend to come together
};

// Kafka's rules for a topic name (org.apache.kafka.common.internals.Topic), and ours: names that begin with __ are
// Kafka's own. `allow` holds exact names, and prefixes that end in *.
bool is_topic_name(std::string_view name);
bool is_allowed_topic(std::string_view name, std::span<const std::string> allow);

}  // namespace outbox
