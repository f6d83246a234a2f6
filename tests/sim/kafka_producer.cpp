#include "sim/kafka_producer.hpp"

#include <algorithm>
#include <utility>

namespace outbox::sim {

namespace {

using namespace std::chrono_literals;

constexpr Failure unknown_topic{FailureKind::topic, "UNKNOWN_TOPIC_OR_PART", "missing in the model"};
constexpr Failure full{FailureKind::back_pressure, "_QUEUE_FULL", "full by order of the model"};
constexpr Failure broken{FailureKind::fatal, "_FATAL", "the model's producer failed"};
constexpr Failure unproven{FailureKind::in_doubt, "FIRST_CONTACT", "acknowledged without an offset"};
constexpr Failure purged{FailureKind::in_doubt, "_PURGE_QUEUE", "purged"};
constexpr Failure purged_in_flight{FailureKind::in_doubt, "_PURGE_INFLIGHT", "purged in flight"};

}  // namespace

KafkaProducer::KafkaProducer(KafkaCluster& cluster, Schedule& schedule, Random random, Traits traits, std::uint64_t id,
                             std::function<void()> wake)
    : cluster_(cluster),
      schedule_(schedule),
      random_(random),
      traits_(traits),
      id_(id),
      wake_(std::move(wake)),
      connections_(cluster.brokers()) {}

void KafkaProducer::start() {
    for (std::uint32_t broker = 0; broker < cluster_.brokers(); ++broker) connect(broker);
}

KafkaProducer::Partition& KafkaProducer::partition_of(std::uint32_t topic, std::uint32_t partition) {
    const auto found = std::find_if(partitions_.begin(), partitions_.end(), [&](const Partition& one) {
        return one.topic == topic && one.partition == partition;
    });
    if (found != partitions_.end()) return *found;
    Partition fresh;
    fresh.topic = topic;
    fresh.partition = partition;
    fresh.epoch = epoch_;
    return partitions_.emplace_back(std::move(fresh));
}

void KafkaProducer::wake_soon() {
    if (!dead_) wake_();
}

// ---- the worker's side -----------------------------------------------------------------------------------------

std::optional<Failure> KafkaProducer::publish(std::uint32_t topic, const Record& record, Slot slot) {
    if (fatal_) return broken;
    if (queue_full_ && random_.percent(30)) return full;
    if (traits_.knows_topics && connected_ && !cluster_.topic(topic).exists && random_.percent(70))
        return unknown_topic;
    const std::uint32_t partition = cluster_.partition_of(topic, record.key, random_);
    const TopicIndex index{topic};
    const auto number = static_cast<std::int32_t>(partition);
    if (record.key >= 0 && !contact_.may_send(index, number)) {
        held_.emplace(static_cast<std::uint32_t>(slot), Held{topic, record});
        contact_.hold(index, number, slot);
        return std::nullopt;
    }
    if (record.key >= 0)
        contact_.sent(index, number, slot);
    else
        contact_.sent_without_key(slot);
    partition_of(topic, partition).unsent.push_back({slot, record});
    pump_in(traits_.linger);
    return std::nullopt;
}

void KafkaProducer::collect(ProducerReports& reports) {
    reports = std::exchange(reports_, {});
    reports.throttled = cluster_.throttling && !reports.delivered.empty();
    news_ = false;
}

void KafkaProducer::ask_limits(TopicIndex index, std::uint32_t topic) {
    const Duration delay = traits_.limits_told   ? random_.between(Duration(1ms), Duration(20ms))
                           : random_.percent(95) ? random_.latency(1ms, 200ms)
                                                 : Duration(5s);
    schedule_.in(delay, [self = weak_from_this(), index, topic] {
        const auto producer = self.lock();
        if (!producer || producer->dead_) return;
        const KafkaCluster::Topic& one = producer->cluster_.topic(topic);
        const bool known =
            producer->traits_.limits_told || (producer->connected_ && one.exists && producer->random_.percent(90));
        producer->reports_.limits.push_back({index, known, known ? one.batch_bytes_max : UINT32_MAX, one.compacted});
        producer->wake_soon();
    });
}

void KafkaProducer::persisted(Partition& partition, const Batch& batch, std::int64_t offset) {
    const TopicIndex topic{partition.topic};
    const auto number = static_cast<std::int32_t>(partition.partition);
    for (std::size_t i = 0; i < batch.slots.size(); ++i) {
        if (!contact_.proven(topic, number, batch.slots[i], offset)) {
            fail(partition, batch.slots[i], batch.request->records[i], unproven, true);
            continue;
        }
        reports_.delivered.push_back(batch.slots[i]);
        send_held(contact_.take_waiting(topic, number, batch.slots[i]));
    }
}

void KafkaProducer::send_held(const std::vector<Slot>& waiting) {
    std::optional<Failure> refused;
    for (const Slot slot : waiting) {
        const auto node = held_.extract(static_cast<std::uint32_t>(slot));
        if (!refused) refused = publish(node.mapped().topic, node.mapped().record, slot);
        if (refused) reports_.failed.push_back({slot, *refused, true});
    }
}

void KafkaProducer::fail(Partition& partition, Slot slot, const Record& record, const Failure& failure, bool in_doubt) {
    reports_.failed.push_back({slot, failure, false});
    if (in_doubt) reports_.in_doubt.push_back(record.event);
    for (const Slot behind :
         contact_.take_waiting(TopicIndex{partition.topic}, static_cast<std::int32_t>(partition.partition), slot)) {
        held_.erase(static_cast<std::uint32_t>(behind));
        reports_.failed.push_back({behind, failure, false});
    }
}

void KafkaProducer::fail_held() {
    for (const Slot slot : contact_.take_all_waiting()) reports_.failed.push_back({slot, purged, false});
    held_.clear();
}

void KafkaProducer::purge_unsent() {
    fail_held();
    for (Partition& partition : partitions_) {
        for (const Returned& returned : std::exchange(partition.returned, {}))
            for (const Message& message : returned.messages)
                fail(partition, message.slot, message.record, purged, false);
        for (const Message& message : std::exchange(partition.unsent, {}))
            fail(partition, message.slot, message.record, purged, false);
    }
    if (!reports_.failed.empty()) wake_soon();
}

void KafkaProducer::purge() {
    fail_held();
    for (Partition& partition : partitions_)
        for (const Batch& batch : std::exchange(partition.batches, {}))
            for (std::size_t i = 0; i < batch.slots.size(); ++i)
                fail(partition, batch.slots[i], batch.request->records[i], purged_in_flight, true);
    purge_unsent();
}

// ---- connections -----------------------------------------------------------------------------------------------

bool KafkaProducer::may_connect(std::uint32_t broker) const {
    return reachable_ && cluster_.broker(broker) == KafkaCluster::Broker::up;
}

void KafkaProducer::connect(std::uint32_t broker) {
    Connection& connection = connections_[broker];
    if (connection.open || connection.opening || dead_) return;
    connection.opening = true;
    schedule_.in(random_.between(Duration(5ms), Duration(300ms)), [self = weak_from_this(), broker] {
        const auto producer = self.lock();
        if (!producer || producer->dead_) return;
        Connection& one = producer->connections_[broker];
        one.opening = false;
        one.open = producer->may_connect(broker);
        producer->look_at_brokers();
        if (!one.open) return producer->connect(broker);
        producer->pump();
    });
}

void KafkaProducer::look_at_brokers() {
    const bool any = std::any_of(connections_.begin(), connections_.end(), [](const auto& one) { return one.open; });
    if (any == connected_) return;
    connected_ = any;
    reports_.all_brokers_down = !any;
    news_ = true;
    wake_soon();
}

void KafkaProducer::cut(std::uint32_t broker) {
    Connection& connection = connections_[broker];
    ++connection.generation;
    const std::uint64_t reached = random_.below(connection.on_the_wire.size() + 1);
    for (std::size_t i = reached; i < connection.on_the_wire.size(); ++i)
        if (const auto wire = connection.on_the_wire[i].lock()) wire->lost = true;
    connection.on_the_wire.clear();
    connection.open = false;
    for (Partition& partition : partitions_)
        for (Batch& batch : partition.batches)
            if (batch.broker == broker) batch.on_the_wire = false;
    look_at_brokers();
    connect(broker);
    pump_in(random_.between(Duration(10ms), Duration(300ms)));
}

void KafkaProducer::broker_changed(std::uint32_t broker) {
    if (cluster_.broker(broker) == KafkaCluster::Broker::down && connections_[broker].open) cut(broker);
}

void KafkaProducer::set_reachable(bool reachable) {
    reachable_ = reachable;
    if (reachable) return;
    for (std::uint32_t broker = 0; broker < connections_.size(); ++broker)
        if (connections_[broker].open) cut(broker);
}

void KafkaProducer::fail_fatally() {
    fatal_ = news_ = true;
    wake_soon();
}

void KafkaProducer::die(Duration late_by) {
    dead_ = true;
    for (Connection& connection : connections_) {
        const std::uint64_t reached = random_.below(connection.on_the_wire.size() + 1);
        const Duration delay = random_.between(Duration::zero(), late_by);
        std::size_t place = 0;
        for (const auto& one : connection.on_the_wire)
            if (const auto wire = one.lock()) {
                wire->lost = wire->lost || place++ >= reached;
                wire->delay = delay;
            }
    }
}

}  // namespace outbox::sim
