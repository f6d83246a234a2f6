// Worker's Kafka side: the producer's life, and what the relay is told of the cluster.
#include <chrono>
#include <utility>
#include <vector>

#include "app/boot_clock.hpp"
#include "app/worker.hpp"
#include "telemetry/log.hpp"

namespace outbox {

namespace {

using namespace std::chrono_literals;

constexpr Backoff producer_backoff{100ms, 5s};
constexpr Duration secrets_interval = 1s;
constexpr Duration look_length_max = 50ms;  // at both clocks: a process that is stopped in between sees no step
constexpr Duration rouse_for = 3s;
constexpr Duration rouse_interval = 500ms;
constexpr Duration limits_interval = 60s;
constexpr Duration retire_patience = 5s;  // for what an outgoing producer has sent to be acknowledged
constexpr Duration fatal_patience = 1s;   // the same where the producer has failed

}  // namespace

void Worker::open_producer(Instant now) {
    try {
        secrets_.emplace(settings_.kafka);
        producer_ = std::make_unique<Producer>(settings_.kafka, settings_.relay.relay);
        if (!linger_is_chosen(settings_.kafka)) flusher_.emplace(*producer_);
        producer_announced_ = producer_dying_ = connected_ = false;
    } catch (const std::exception& error) {
        producer_.reset();  // it may be there, without its flusher
        ++producer_failures_;
        producer_retry_at_ = now + producer_backoff.delay(producer_failures_, jitter());
        if (troubles().kafka != error.what())
            log(LogLevel::warn, "kafka_waiting", std::string(error.what()) + ", trying again");
        trouble(&WorkerTroubles::kafka, error.what());
    }
}

void Worker::serve_producer(bool readable, Instant now) {
    look_at_clock(now);
    if (!producer_) {
        if (now < producer_retry_at_ || drain_requested_) return;
        open_producer(now);
        if (!producer_) return;
    }
    if (producer_dying_) finish_retiring(now);
    if (producer_) look_at_secrets(now);
    if (!producer_ || !readable) return;
    reports_.clear();
    producer_->collect(reports_, now);
    observer_.noticed(reports_.notices);
    if (!reports_.delivered.empty()) {
        producer_failures_ = 0;
        observer_.delivered(reports_.delivered, relay_, now);
        relay_.on(Delivered{reports_.delivered}, now);
    }
    if (!reports_.failed.empty()) {
        observer_.failed(reports_.failed);
        relay_.on(Failed{reports_.failed}, now);
    }
    if (producer_->connected() && !producer_announced_ && !producer_->fatal()) {
        producer_announced_ = true;
        log(LogLevel::info, "kafka_connected", "Kafka is reachable", {{"worker", static_cast<std::int64_t>(index_)}});
        limits_asked_ = 0;  // the last one's questions went with it
        relay_.on(ProducerOpened{}, now);
    }
    tell_of_cluster(now);
    if (producer_->fatal()) lose_producer(now);
}

// Of topics that are new to the producer, whose rows wait for the answer, and of all once in a while: an operator may
// change them.
void Worker::ask_limits(Instant now) {
    if (!producer_ || producer_dying_ || !producer_announced_) return;
    const bool again = now >= limits_again_at_;
    if (again) limits_again_at_ = now + limits_interval;
    const Topics& topics = std::as_const(relay_).topics();
    std::vector<NamedTopic> asked;
    for (std::size_t i = again ? 0 : limits_asked_; i < topics.size(); ++i) {
        const TopicIndex topic{static_cast<std::uint32_t>(i)};
        if (!topics[topic].refusal.empty()) continue;
        asked.push_back({topic, topics[topic].name});
        if (i >= limits_asked_) relay_.on(TopicLimitsAsked{topic}, now);
    }
    limits_asked_ = topics.size();
    if (!asked.empty()) producer_->ask_limits(asked);
}

void Worker::tell_of_cluster(Instant now) {
    for (const TopicLimits& limits : reports_.limits)
        relay_.on(TopicLimitsRead{limits.topic, limits.known, limits.batch_bytes_max, limits.keys_required}, now);
    if (reports_.epoch_bumped)
        log(LogLevel::info, "producer_epoch_bumped",
            "librdkafka began a new epoch of its producer id, after a request that a broker turned down: what other "
            "partitions have taken and not acknowledged may be written twice",
            {{"worker", static_cast<std::int64_t>(index_)},
             {"rows_in_flight", static_cast<std::int64_t>(relay_.window().rows_in_flight())}});
    if (reports_.throttled) relay_.on(ClusterThrottled{}, now);
    if (reports_.cluster_failure) relay_.on(ClusterFailed{reports_.cluster_failure->code}, now);
    if (reports_.all_brokers_down) relay_.on(ClusterUnreachable{}, now);
    if (producer_->connected() != connected_) {
        connected_ = producer_->connected();
        if (connected_)
            relay_.on(ClusterReachable{}, now);
        else
            relay_.on(ClusterUnreachable{}, now);
    }
}

void Worker::judge_kafka() {
    if (!producer_ || producer_dying_) return;  // that was said where it began
    const Circuit& circuit = relay_.cluster().circuit();
    std::string text;
    if (!producer_->connected())
        text = producer_->trouble().empty() ? "no broker is reachable" : producer_->trouble();
    else if (circuit.state() == Circuit::State::open)
        text = circuit.reason();
    metrics_.producer(producer_->connected());
    if (text != troubles().kafka) trouble(&WorkerTroubles::kafka, std::move(text));
}

// Rotated credentials: a name and a password serve the living producer's next connection; anything else needs a new
// one.
void Worker::look_at_secrets(Instant now) {
    if (producer_dying_ || now < secrets_at_) return;
    secrets_at_ = now + secrets_interval;
    const SecretWatch::Change change = secrets_->look();
    if (change == SecretWatch::Change::nothing) return;
    const bool renewed = change == SecretWatch::Change::login && producer_->renew_credentials(settings_.kafka);
    log(LogLevel::info, "credentials_changed",
        renewed ? "the files with Kafka's credentials have changed: new connections use them"
                : "the files with Kafka's credentials have changed: the producer is replaced",
        {{"worker", static_cast<std::int64_t>(index_)}});
    if (!renewed) retire_producer(now + retire_patience, now);
}

// A question gives librdkafka's main thread something to do, which ends its wait; it sees to the others. Asked again
// for a while, as a thread may just have been about to wait until a time of before.
void Worker::look_at_clock(Instant now) {
    const WallTime wall = wall_now();
    if (boot_now() - now > look_length_max) return;
    if (const auto by = clock_watch_.set_back(wall, now)) {
        rouse_at_ = now;
        rouse_until_ = now + rouse_for;
        log(LogLevel::warn, "clock_set_back",
            "the wall clock was set back: librdkafka's threads are woken, which would wait for as much longer",
            {{"worker", static_cast<std::int64_t>(index_)}, {"seconds", std::chrono::duration<double>(*by).count()}});
    }
    if (now >= rouse_until_ || now < rouse_at_) return;
    rouse_at_ = now + rouse_interval;
    limits_again_at_ = now;
}

void Worker::lose_producer(Instant now) {
    if (producer_dying_) return;
    ++producer_failures_;
    log(LogLevel::warn, "producer_replaced",
        "the Kafka producer is beyond repair: it is replaced, what it held is sent again",
        {{"worker", static_cast<std::int64_t>(index_)},
         {"rows_in_flight", static_cast<std::int64_t>(relay_.window().rows_in_flight())}});
    retire_producer(now + fatal_patience, now);
}

void Worker::retire_producer(Instant patience_until, Instant now) {
    producer_dying_ = true;
    producer_patience_until_ = patience_until;
    metrics_.producer_replaced();
    metrics_.producer(false);
    trouble(&WorkerTroubles::kafka, "the producer is being replaced");
    relay_.on(ProducerLost{}, now);
    finish_retiring(now);
}

// Everything it still holds comes back as failed first: only then may another producer send those rows again.
void Worker::finish_retiring(Instant now) {
    if (relay_.window().rows_in_flight() > 0) {
        if (now < producer_patience_until_)
            producer_->purge_unsent();
        else
            producer_->purge();
        return;
    }
    flusher_.reset();
    producer_.reset();
    producer_announced_ = producer_dying_ = false;
    producer_retry_at_ = now + producer_backoff.delay(producer_failures_, jitter());
}

}  // namespace outbox
