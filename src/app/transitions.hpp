// Says every change of state once, with what happens next: circuits that open and close, what operators change, the
// care after a crash loop. It compares what the relay is with what it was; the relay knows nothing of it. The worker's
// thread.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "core/relay.hpp"
#include "telemetry/worker_metrics.hpp"

namespace outbox {

class Transitions {
public:
    Transitions(std::size_t worker, WorkerMetrics& metrics)
        : worker_(static_cast<std::int64_t>(worker)), metrics_(metrics) {}

    void look(const Relay& relay, Instant now);

    std::uint32_t open_topic_circuits() const { return open_topic_circuits_; }

private:
    struct Seen {
        Circuit::State circuit = Circuit::State::closed;
        bool paused = false;
        bool usual() const { return circuit == Circuit::State::closed && !paused; }
    };

    void look_at_cluster(const Relay& relay, Instant now);
    void look_at_topics(const Relay& relay, Instant now);
    void look_at(TopicIndex index, const Topics::Topic& topic, Instant now);
    void look_at_control(const Control& control);
    void look_at_claims(const Relay& relay);
    Seen& seen(TopicIndex topic);

    const std::int64_t worker_;
    WorkerMetrics& metrics_;
    Circuit::State cluster_ = Circuit::State::closed;
    std::vector<Seen> topics_;         // by TopicIndex
    std::vector<TopicIndex> unusual_;  // not closed, or paused, when last looked at
    std::uint32_t open_topic_circuits_ = 0;
    bool paused_ = false;
    bool leased_by_others_ = false;
    std::uint64_t claims_outlasted_ = 0;
    std::optional<std::uint64_t> rate_;
    std::size_t blocked_keys_ = 0;
    bool careful_ = false;
};

}  // namespace outbox
