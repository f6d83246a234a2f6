// The simulated worker's Kafka side, as app/worker_kafka.cpp has it: the producer's life, and what the relay is told.
#include "core/backoff.hpp"
#include "sim/worker.hpp"

namespace outbox::sim {

namespace {

using namespace std::chrono_literals;

constexpr Backoff producer_backoff{100ms, 5s};
constexpr Duration limits_interval = 60s;
constexpr Duration fatal_patience = 1s;

}  // namespace

void Worker::serve_producer(Instant now) {
    if (!producer_) {
        if (now < producer_retry_at_ || drain_requested_) return;
        producer_ = std::make_shared<KafkaProducer>(world_.cluster, world_.schedule, random_.fork(), world_.producer,
                                                    ++world_.producers, [self = weak_from_this()] {
                                                        if (const auto worker = self.lock()) worker->wake();
                                                    });
        producer_announced_ = producer_dying_ = connected_ = false;
        if (!host_.kafka_reachable) producer_->set_reachable(false);
        producer_->start();
    }
    if (producer_dying_) finish_retiring(now);
    if (!producer_ || !producer_->has_reports()) return;
    ++done_;
    producer_->collect(reports_);
    for (const std::uint64_t event : reports_.in_doubt) world_.ledger.may_come_again(event);
    for (const Slot slot : reports_.delivered) acknowledged(slot);
    for (const FailedRow& row : reports_.failed) {
        trace("row ", relay_.window().entry(row.slot).id.value, " failed: ", row.failure.code);
        released(row.slot);
    }
    if (!reports_.delivered.empty()) {
        producer_failures_ = 0;
        relay_.on(Delivered{reports_.delivered}, now);
    }
    if (!reports_.failed.empty()) relay_.on(Failed{reports_.failed}, now);
    if (producer_->connected() && !producer_announced_ && !producer_->fatal()) {
        producer_announced_ = true;
        limits_asked_ = 0;
        relay_.on(ProducerOpened{}, now);
    }
    tell_of_cluster(now);
    if (producer_->fatal()) lose_producer(now);
}

void Worker::tell_of_cluster(Instant now) {
    for (const TopicLimitsRead& limits : reports_.limits) relay_.on(limits, now);
    if (reports_.throttled) relay_.on(ClusterThrottled{}, now);
    if (reports_.all_brokers_down) relay_.on(ClusterUnreachable{}, now);
    if (producer_->connected() == connected_) return;
    connected_ = producer_->connected();
    if (connected_)
        relay_.on(ClusterReachable{}, now);
    else
        relay_.on(ClusterUnreachable{}, now);
}

void Worker::ask_limits(Instant now) {
    if (!producer_ || producer_dying_ || !producer_announced_) return;
    const bool again = now >= limits_again_at_;
    if (again) limits_again_at_ = now + limits_interval;
    const Topics& topics = std::as_const(relay_).topics();
    for (std::size_t i = again ? 0 : limits_asked_; i < topics.size(); ++i) {
        const TopicIndex topic{static_cast<std::uint32_t>(i)};
        if (!topics[topic].refusal.empty()) continue;
        producer_->ask_limits(topic, static_cast<std::uint32_t>(world_.postgres.topic_named(topics[topic].name)));
        if (i >= limits_asked_) relay_.on(TopicLimitsAsked{topic}, now);
    }
    limits_asked_ = topics.size();
}

void Worker::lose_producer(Instant now) {
    if (producer_dying_) return;
    ++producer_failures_;
    producer_dying_ = true;
    trace("loses its producer");
    producer_patience_until_ = now + fatal_patience;
    relay_.on(ProducerLost{}, now);
    finish_retiring(now);
}

void Worker::finish_retiring(Instant now) {
    if (relay_.window().rows_in_flight() > 0) {
        if (now < producer_patience_until_)
            producer_->purge_unsent();
        else
            producer_->purge();
        return;
    }
    producer_->die({});
    producer_.reset();
    producer_announced_ = producer_dying_ = false;
    producer_retry_at_ =
        now + producer_backoff.delay(producer_failures_, static_cast<double>(random_.below(1000)) / 1000);
}

}  // namespace outbox::sim
