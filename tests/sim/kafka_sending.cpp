// KafkaProducer's second part: what it sends, and what becomes of it.
#include <algorithm>
#include <utility>

#include "sim/kafka_producer.hpp"

namespace outbox::sim {

namespace {

using namespace std::chrono_literals;

constexpr std::size_t batches_in_flight = 5;
constexpr Duration socket_timeout = 10s;
constexpr Duration request_fastest = 300us;
constexpr Duration request_slowest = 20ms;

constexpr Failure rejected{FailureKind::row, "INVALID_RECORD", "rejected by the model"};
constexpr Failure denied{FailureKind::topic, "TOPIC_AUTHORIZATION_FAILED", "denied by the model"};
constexpr Failure unknown_topic{FailureKind::topic, "UNKNOWN_TOPIC_OR_PART", "missing in the model"};
constexpr Failure odd{FailureKind::in_doubt, "UNKNOWN", "an error nobody knows"};

bool turns_down(Produced produced) {
    return produced == Produced::rejected || produced == Produced::denied || produced == Produced::unknown_topic;
}

}  // namespace

void KafkaProducer::pump_in(Duration delay) {
    if (std::exchange(pump_due_, true)) return;
    schedule_.in(delay, [self = weak_from_this()] {
        const auto producer = self.lock();
        if (!producer) return;
        producer->pump_due_ = false;
        producer->pump();
    });
}

void KafkaProducer::pump() {
    if (dead_ || fatal_) return;
    bool waiting = false;
    for (Partition& partition : partitions_) {
        pump(partition);
        waiting = waiting || !partition.unsent.empty() ||
                  std::any_of(partition.batches.begin(), partition.batches.end(),
                              [](const Batch& batch) { return !batch.on_the_wire; });
    }
    if (waiting) pump_in(random_.between(Duration(50ms), Duration(200ms)));
}

void KafkaProducer::pump(Partition& partition) {
    const std::uint32_t broker = cluster_.leader(partition.topic, partition.partition);
    if (!connections_[broker].open) return;
    for (Batch& batch : partition.batches)
        if (!batch.on_the_wire) send(batch, broker);
    while (!draining_ && !partition.unsent.empty() && partition.batches.size() < batches_in_flight) {
        auto request = std::make_shared<ProduceRequest>();
        *request = {id_, partition.epoch, partition.topic, partition.partition, partition.sequence, {}};
        Batch batch;
        while (!partition.unsent.empty() && batch.slots.size() < traits_.batch_rows) {
            batch.slots.push_back(partition.unsent.front().slot);
            request->records.push_back(partition.unsent.front().record);
            partition.unsent.pop_front();
        }
        partition.sequence += batch.slots.size();
        batch.request = std::move(request);
        partition.batches.push_back(std::move(batch));
        send(partition.batches.back(), broker);
    }
}

void KafkaProducer::send(Batch& batch, std::uint32_t broker) {
    Connection& connection = connections_[broker];
    const auto wire = std::make_shared<Wire>();
    std::erase_if(connection.on_the_wire, [](const auto& one) { return one.expired(); });
    connection.on_the_wire.push_back(wire);
    batch.on_the_wire = true;
    batch.broker = broker;
    ++batch.attempts;
    connection.last_arrival =
        std::max(connection.last_arrival + 1ns, schedule_.now() + random_.latency(request_fastest, request_slowest));
    schedule_.at(connection.last_arrival,
                 [self = shared_from_this(), wire, request = batch.request, broker,
                  generation = connection.generation] { self->arrive(wire, request, broker, generation); });
    schedule_.in(socket_timeout,
                 [self = weak_from_this(), request = batch.request, broker, generation = connection.generation] {
                     if (const auto producer = self.lock()) producer->time_out(request, broker, generation);
                 });
}

// A dead producer lives on here for as long as something of it is under way.
void KafkaProducer::arrive(const std::shared_ptr<Wire>& wire, const std::shared_ptr<const ProduceRequest>& request,
                           std::uint32_t broker, std::uint32_t generation) {
    if (wire->lost) return;
    if (wire->delay > Duration::zero())
        return schedule_.in(std::exchange(wire->delay, {}),
                            [self = shared_from_this(), wire, request, broker, generation] {
                                self->arrive(wire, request, broker, generation);
                            });
    cluster_.arrive(broker, *request, [self = shared_from_this(), request, broker, generation](Produced produced) {
        if (turns_down(produced)) self->tell_overtaken(*request);
        if (self->dead_) return;
        Connection& back = self->connections_[broker];
        back.last_answer =
            std::max(back.last_answer + 1ns, self->schedule_.now() + self->cluster_.slowness +
                                                 self->random_.latency(request_fastest, request_slowest));
        self->schedule_.at(back.last_answer, [self, broker, generation, request, produced] {
            self->answered(broker, generation, request, produced);
        });
    });
}

void KafkaProducer::time_out(const std::shared_ptr<const ProduceRequest>& request, std::uint32_t broker,
                             std::uint32_t generation) {
    if (dead_ || connections_[broker].generation != generation) return;
    const Partition& of = partition_of(request->topic, request->partition);
    if (std::any_of(of.batches.begin(), of.batches.end(),
                    [&](const Batch& one) { return one.request == request && one.on_the_wire; }))
        cut(broker);
}

void KafkaProducer::answered(std::uint32_t broker, std::uint32_t generation,
                             const std::shared_ptr<const ProduceRequest>& request, Produced produced) {
    if (dead_ || connections_[broker].generation != generation) return;
    Partition& partition = partition_of(request->topic, request->partition);
    const auto found = std::find_if(partition.batches.begin(), partition.batches.end(),
                                    [&](const Batch& one) { return one.request == request; });
    if (found == partition.batches.end()) return;  // purged meanwhile
    const auto place = static_cast<std::size_t>(found - partition.batches.begin());
    if (std::exchange(odd_error_due_, false)) {
        for (const Record& record : request->records) reports_.in_doubt.push_back(record.event);
        turned_down(partition, place, odd);
        end_drain();
        wake_soon();
        return pump_in(Duration(1ms));
    }
    switch (produced) {
        case Produced::appended:
        case Produced::duplicate:
            acknowledged(partition, place);
            break;
        case Produced::rejected:
            turned_down(partition, place, rejected);
            break;
        case Produced::denied:
            turned_down(partition, place, denied);
            break;
        case Produced::unknown_topic:
            turned_down(partition, place, unknown_topic);
            break;
        case Produced::not_leader:
        case Produced::too_few_replicas:
            found->on_the_wire = false;
            break;
        case Produced::out_of_order:
            if (draining_)
                send_anew(partition, place);
            else if (place > 0)
                found->on_the_wire = false;  // what is before it has not been answered yet: again, after it
            else
                fail_fatally();
            break;
        case Produced::fenced:
            fail_fatally();
            break;
    }
    end_drain();
    if (!reports_.empty()) wake_soon();
    const bool home = produced == Produced::appended || produced == Produced::duplicate || turns_down(produced);
    pump_in(home ? Duration(100us) : Duration(100ms));
}

// What is before it and waits to be sent again counts as delivered, too, as nobody says where: a broker that knows the
// producer would not have taken this one otherwise.
void KafkaProducer::acknowledged(Partition& partition, std::size_t place) {
    const auto begin = partition.batches.begin();
    const std::vector<Batch> home(begin, begin + static_cast<std::ptrdiff_t>(place) + 1);
    std::size_t index = 0;
    std::erase_if(partition.batches, [&](const Batch& one) {
        const std::size_t number = index++;
        return number == place || (number < place && !one.on_the_wire);
    });
    for (const Batch& batch : home)
        if (&batch == &home.back() || !batch.on_the_wire) persisted(partition, batch, &batch == &home.back() ? 0 : -1);
}

// At once, whether or not the answer is ever seen: its process may be dead, or stand still.
void KafkaProducer::tell_overtaken(const ProduceRequest& request) {
    const Partition& partition = partition_of(request.topic, request.partition);
    const bool others_behind = dead_ || !partition.unsent.empty() || !partition.returned.empty() ||
                               std::any_of(partition.batches.begin(), partition.batches.end(),
                                           [&](const Batch& one) { return one.request->sequence > request.sequence; });
    if (!others_behind) return;
    for (const Record& record : request.records) cluster_.overtaken(record.event);
}

void KafkaProducer::turned_down(Partition& partition, std::size_t place, const Failure& failure) {
    const Batch batch = std::move(partition.batches[place]);
    partition.batches.erase(partition.batches.begin() + static_cast<std::ptrdiff_t>(place));
    for (std::size_t i = 0; i < batch.slots.size(); ++i)
        fail(partition, batch.slots[i], batch.request->records[i], failure, batch.attempts > 1);
    tell_overtaken(*batch.request);
    if (traits_.fatal_on_gap && place < partition.batches.size()) return fail_fatally();
    draining_ = true;
}

void KafkaProducer::send_anew(Partition& partition, std::size_t place) {
    const Batch batch = std::move(partition.batches[place]);
    partition.batches.erase(partition.batches.begin() + static_cast<std::ptrdiff_t>(place));
    Returned returned{batch.request->sequence, {}};
    for (std::size_t i = 0; i < batch.slots.size(); ++i) {
        const Record& record = batch.request->records[i];
        returned.messages.push_back({batch.slots[i], record});
        if (batch.attempts > 1) reports_.in_doubt.push_back(record.event);
    }
    partition.returned.push_back(std::move(returned));
}

void KafkaProducer::end_drain() {
    if (!draining_) return;
    for (const Partition& partition : partitions_)
        if (!partition.batches.empty()) return;
    draining_ = false;
    ++epoch_;
    for (Partition& partition : partitions_) {
        std::sort(partition.returned.begin(), partition.returned.end(),
                  [](const Returned& a, const Returned& b) { return a.sequence > b.sequence; });
        for (Returned& returned : partition.returned)
            partition.unsent.insert(partition.unsent.begin(), returned.messages.begin(), returned.messages.end());
        partition.returned.clear();
        partition.epoch = epoch_;
        partition.sequence = 0;
    }
}

}  // namespace outbox::sim
