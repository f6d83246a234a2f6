#include "sim/kafka_cluster.hpp"

#include <algorithm>
#include <tuple>
#include <utility>

namespace outbox::sim {

namespace {

constexpr std::uint32_t record_overhead = 70;
constexpr std::uint32_t batch_overhead = 61;

}  // namespace

std::uint32_t KafkaCluster::add_topic(std::string name, std::uint32_t partitions) {
    Topic topic;
    topic.name = std::move(name);
    for (std::uint32_t i = 0; i < partitions; ++i) topic.leaders.push_back(i % brokers());
    topics_.push_back(std::move(topic));
    return static_cast<std::uint32_t>(topics_.size() - 1);
}

std::uint32_t KafkaCluster::partition_of(std::uint32_t topic, std::int32_t key, Random& random) const {
    const std::size_t partitions = topics_.at(topic).leaders.size();
    if (key < 0) return static_cast<std::uint32_t>(random.below(partitions));
    return static_cast<std::uint32_t>(static_cast<std::uint32_t>(key) * 2654435761U % partitions);
}

void KafkaCluster::set_broker(std::uint32_t broker, Broker state) {
    brokers_.at(broker) = state;
    std::deque<Waiting> waiting = std::exchange(waiting_[broker], {});
    if (state == Broker::up)
        for (const Waiting& one : waiting) one.handled(produce(broker, one.request));
    if (broker_changed) broker_changed(broker);
}

void KafkaCluster::elect() {
    std::vector<std::uint32_t> up;
    for (std::uint32_t i = 0; i < brokers(); ++i)
        if (brokers_[i] == Broker::up) up.push_back(i);
    if (up.empty()) return;
    for (Topic& topic : topics_)
        for (std::size_t partition = 0; partition < topic.leaders.size(); ++partition)
            if (brokers_[topic.leaders[partition]] != Broker::up) topic.leaders[partition] = up[partition % up.size()];
}

void KafkaCluster::arrive(std::uint32_t broker, const ProduceRequest& request,
                          const std::function<void(Produced)>& handled) {
    if (brokers_.at(broker) == Broker::down) return;
    if (brokers_.at(broker) == Broker::standing_still)
        waiting_[broker].push_back({request, handled});
    else
        handled(produce(broker, request));
}

Produced KafkaCluster::produce(std::uint32_t broker, const ProduceRequest& request) {
    const Topic& topic = topics_.at(request.topic);
    if (!topic.exists) return Produced::unknown_topic;
    if (topic.leaders.at(request.partition) != broker) return Produced::not_leader;
    if (topic.denied) return Produced::denied;
    const std::tuple producer{request.producer, request.topic, request.partition};
    const auto known = sequences_.find(producer);
    const bool first = known == sequences_.end();
    const Sequence sequence = first ? Sequence{request.epoch, request.sequence, request.sequence} : known->second;
    if (request.epoch < sequence.epoch) return Produced::fenced;
    const bool new_epoch = request.epoch > sequence.epoch;
    const std::uint64_t expected = new_epoch ? 0 : sequence.next;
    if (request.sequence < expected)
        return request.sequence < sequence.first ? Produced::out_of_order : Produced::duplicate;
    std::uint64_t bytes = batch_overhead;
    for (const Record& record : request.records) {
        bytes += record.bytes + record_overhead;
        if (record.poison || (topic.compacted && record.key < 0)) return Produced::rejected;
    }
    if (bytes > topic.batch_bytes_max) return Produced::rejected;
    if (random_.percent(short_of_replicas_percent)) return Produced::too_few_replicas;
    if (request.sequence > expected) return Produced::out_of_order;
    sequences_[producer] = {request.epoch, new_epoch ? 0 : sequence.first, request.sequence + request.records.size()};
    for (const Record& record : request.records) persisted(record, request.topic);
    return Produced::appended;
}

}  // namespace outbox::sim
