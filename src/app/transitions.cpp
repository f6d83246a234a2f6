#include "app/transitions.hpp"

#include <algorithm>

#include "telemetry/log.hpp"

namespace outbox {

namespace {

double seconds(Duration duration) {
    return std::chrono::duration<double>(std::max(duration, Duration::zero())).count();
}

}  // namespace

void Transitions::look(const Relay& relay, Instant now) {
    look_at_cluster(relay, now);
    look_at_topics(relay, now);
    look_at_control(relay.control());
    look_at_claims(relay);
    if (relay.crash_guard().active() != careful_) {
        careful_ = relay.crash_guard().active();
        if (careful_)
            log(LogLevel::error, "crash_loop",
                "earlier processes ended abruptly soon after their start: rows are read a few at a time for now, so "
                "that "
                "a row that causes it is found and isolated",
                {{"worker", worker_}});
        else
            log(LogLevel::info, "crash_loop_over", "the rows under suspicion are dealt with: full speed again",
                {{"worker", worker_}});
    }
}

void Transitions::look_at_cluster(const Relay& relay, Instant now) {
    const Circuit& circuit = relay.cluster().circuit();
    if (circuit.state() == cluster_) return;
    cluster_ = circuit.state();
    metrics_.circuit_moved(CircuitKind::cluster, cluster_);
    const std::uint32_t in_flight = relay.window().rows_in_flight();
    switch (cluster_) {
        case Circuit::State::open:
            log(LogLevel::warn, "circuit_open",
                in_flight > 0 ? "Kafka takes nothing: reading stops, nothing is lost; what is in flight stays with the "
                                "producer, and its first acknowledgement closes the circuit"
                              : "Kafka takes nothing: reading stops, nothing is lost; a small batch is tried when a "
                                "broker is reachable",
                {{"worker", worker_},
                 {"circuit", "cluster"},
                 {"reason", circuit.reason()},
                 {"rows_in_flight", in_flight},
                 {"retry_in_seconds", seconds(circuit.retry_at() - now)}});
            break;
        case Circuit::State::half_open:
            log(LogLevel::info, "circuit_half_open", "trying one small batch",
                {{"worker", worker_}, {"circuit", "cluster"}, {"rows", Cluster::probe_rows}});
            break;
        case Circuit::State::closed:
            log(LogLevel::info, "circuit_closed",
                relay.pacing().recovery_rate() > 0
                    ? "Kafka takes rows again: the rate doubles every second while it keeps up"
                    : "Kafka takes rows again",
                {{"worker", worker_}, {"circuit", "cluster"}, {"rows_per_second", relay.pacing().recovery_rate()}});
            break;
    }
}

Transitions::Seen& Transitions::seen(TopicIndex topic) {
    const auto index = static_cast<std::size_t>(topic);
    if (index >= topics_.size()) topics_.resize(index + 1);
    return topics_[index];
}

// Only parked topics and those that were unusual can have changed.
void Transitions::look_at_topics(const Relay& relay, Instant now) {
    const Topics& topics = relay.topics();
    if (unusual_.empty() && topics.parked().empty()) return;
    std::vector<TopicIndex> candidates(topics.parked().begin(), topics.parked().end());
    for (const TopicIndex topic : unusual_)
        if (std::find(candidates.begin(), candidates.end(), topic) == candidates.end()) candidates.push_back(topic);
    unusual_.clear();
    open_topic_circuits_ = 0;
    for (const TopicIndex index : candidates) {
        look_at(index, topics[index], now);
        if (!seen(index).usual()) unusual_.push_back(index);
        if (seen(index).circuit == Circuit::State::open) ++open_topic_circuits_;
    }
}

void Transitions::look_at(TopicIndex index, const Topics::Topic& topic, Instant now) {
    Seen& before = seen(index);
    if (topic.paused != before.paused) {
        before.paused = topic.paused;
        log(LogLevel::info, topic.paused ? "paused" : "resumed",
            topic.paused ? "an operator paused a topic: its rows wait, others go on"
                         : "an operator resumed a topic: its rows are relayed again",
            {{"worker", worker_}, {"topic", topic.name}});
    }
    if (topic.circuit.state() == before.circuit) return;
    before.circuit = topic.circuit.state();
    metrics_.circuit_moved(CircuitKind::topic, before.circuit);
    switch (before.circuit) {
        case Circuit::State::open:
            log(LogLevel::warn, "circuit_open", "a topic cannot be written: its rows wait, others go on",
                {{"worker", worker_},
                 {"circuit", topic.name},
                 {"reason", topic.circuit.reason()},
                 {"rows_in_flight", topic.in_flight},
                 {"retry_in_seconds", seconds(topic.circuit.retry_at() - now)}});
            break;
        case Circuit::State::half_open:
            log(LogLevel::info, "circuit_half_open", "trying one row of the topic",
                {{"worker", worker_}, {"circuit", topic.name}});
            break;
        case Circuit::State::closed:
            log(LogLevel::info, "circuit_closed", "the topic can be written again: its rows are read from the first on",
                {{"worker", worker_}, {"circuit", topic.name}});
            break;
    }
}

void Transitions::look_at_control(const Control& control) {
    if (!control.known()) return;
    if (control.paused() != paused_) {
        paused_ = control.paused();
        log(LogLevel::info, paused_ ? "paused" : "resumed",
            paused_ ? "an operator paused everything: nothing is read, what is in flight is finished"
                    : "an operator resumed everything",
            {{"worker", worker_}, {"revision", control.revision()}});
    }
    if (control.max_rows_per_second() != rate_) {
        rate_ = control.max_rows_per_second();
        log(LogLevel::info, "rate_changed",
            rate_ ? "an operator set the ceiling for all relays together" : "the ceiling is the configured one again",
            {{"worker", worker_}, {"rows_per_second", rate_.value_or(0)}});
    }
    if (control.blocked_keys() < blocked_keys_)
        log(LogLevel::info, "key_released", "keys are released: their rows are read again, from the one that blocked",
            {{"worker", worker_}, {"keys", blocked_keys_ - control.blocked_keys()}});
    blocked_keys_ = control.blocked_keys();
}

void Transitions::look_at_claims(const Relay& relay) {
    if (relay.claim().outlasted() != claims_outlasted_) {
        claims_outlasted_ = relay.claim().outlasted();
        log(LogLevel::warn, "claim_expired",
            "Kafka took longer than a claim may last: rows in flight are let go, and another worker may send them as "
            "well",
            {{"worker", worker_}, {"rows_in_flight", relay.window().rows_in_flight()}});
    }
    if (relay.leased_by_others().empty() == leased_by_others_) {
        leased_by_others_ = !leased_by_others_;
        if (leased_by_others_)
            log(LogLevel::warn, "claims_wait",
                "workers with relay.claim = \"lanes\" are at work on this outbox, and claims would break their order: "
                "nothing is claimed until they are gone",
                {{"worker", worker_}, {"lanes", relay.leased_by_others().size()}});
        else
            log(LogLevel::info, "claims_go_on", "nobody leases lanes any more: rows are claimed",
                {{"worker", worker_}});
    }
}

}  // namespace outbox
