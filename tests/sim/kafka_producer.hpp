// The client's half of the Kafka model: what librdkafka does between publish() and its reports, as an idempotent
// producer with five batches in flight per partition. It sends a batch again until it gets an answer; after a batch was
// turned down it lets the others come home, and sends what was behind it anew. What waits to be sent again is given for
// delivered, without an offset, when a later batch is acknowledged. What was sent may reach the broker late, also after
// the process has died. As kafka/producer.cpp it asks FirstContact which rows may go. The interface is that of
// kafka/producer.hpp. One thread.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "core/first_contact.hpp"
#include "core/messages.hpp"
#include "sim/kafka_cluster.hpp"
#include "sim/schedule.hpp"

namespace outbox::sim {

struct ProducerReports {
    std::vector<Slot> delivered;
    std::vector<FailedRow> failed;
    std::vector<std::uint64_t> in_doubt;  // events that may get into the log twice by this
    std::vector<TopicLimitsRead> limits;
    bool all_brokers_down = false;
    bool throttled = false;
    bool empty() const {
        return delivered.empty() && failed.empty() && limits.empty() && !all_brokers_down && !throttled;
    }
};

class KafkaProducer : public std::enable_shared_from_this<KafkaProducer> {
public:
    struct Traits {
        std::uint32_t batch_rows = 50;
        bool fatal_on_gap = false;  // as some versions are, after a batch was turned down with others behind it
        bool limits_told = false;
        bool knows_topics = true;  // refuses rows of a missing topic by itself
        Duration linger = std::chrono::milliseconds(2);
    };

    KafkaProducer(KafkaCluster& cluster, Schedule& schedule, Random random, Traits traits, std::uint64_t id,
                  std::function<void()> wake);

    void start();
    std::optional<Failure> publish(std::uint32_t topic, const Record& record, Slot slot);
    void collect(ProducerReports& reports);
    void ask_limits(TopicIndex index, std::uint32_t topic);
    void purge_unsent();
    void purge();
    bool connected() const { return connected_; }
    bool fatal() const { return fatal_; }
    bool has_reports() const { return !reports_.empty() || news_; }

    // ---- what happens to it ----
    void cut(std::uint32_t broker);  // the connection breaks: answers are lost, and so is a part of what was sent
    void broker_changed(std::uint32_t broker);
    void set_reachable(bool reachable);  // the network between this host and all brokers
    void fail_fatally();
    void fill_queue(bool full) { queue_full_ = full; }
    void fail_oddly() { odd_error_due_ = true; }  // the next batch's answer is an error nobody knows
    // The process dies. Up to `late_by` later, a part of what is on the wire still arrives.
    void die(Duration late_by);

private:
    struct Message {
        Slot slot{};
        Record record;
    };
    struct Batch {
        std::shared_ptr<const ProduceRequest> request;
        std::vector<Slot> slots;
        bool on_the_wire = false;
        std::uint32_t broker = 0;  // the last it was sent to
        std::uint32_t attempts = 0;
    };
    struct Returned {
        std::uint64_t sequence = 0;
        std::vector<Message> messages;
    };
    struct Partition {
        std::uint32_t topic = 0;
        std::uint32_t partition = 0;
        std::deque<Message> unsent;
        std::deque<Batch> batches;       // sent, and not answered; some wait to be sent again
        std::vector<Returned> returned;  // turned down for what was before them: to be sent anew
        std::uint64_t sequence = 0;
        std::uint32_t epoch = 0;
    };
    struct Wire {
        bool lost = false;
        Duration delay{};
    };
    struct Connection {
        std::uint32_t generation = 0;
        Instant last_arrival{};
        Instant last_answer{};
        bool open = false;
        bool opening = false;
        std::vector<std::weak_ptr<Wire>> on_the_wire;
    };

    Partition& partition_of(std::uint32_t topic, std::uint32_t partition);
    void wake_soon();
    void pump_in(Duration delay);
    void pump();
    void pump(Partition& partition);
    bool may_connect(std::uint32_t broker) const;
    void connect(std::uint32_t broker);
    void look_at_brokers();
    void send(Batch& batch, std::uint32_t broker);
    void arrive(const std::shared_ptr<Wire>& wire, const std::shared_ptr<const ProduceRequest>& request,
                std::uint32_t broker, std::uint32_t generation);
    void time_out(const std::shared_ptr<const ProduceRequest>& request, std::uint32_t broker, std::uint32_t generation);
    void answered(std::uint32_t broker, std::uint32_t generation, const std::shared_ptr<const ProduceRequest>& request,
                  Produced produced);
    void tell_overtaken(const ProduceRequest& request);
    void turned_down(Partition& partition, std::size_t place, const Failure& failure);
    void send_anew(Partition& partition, std::size_t place);
    void acknowledged(Partition& partition, std::size_t place);
    void persisted(Partition& partition, const Batch& batch, std::int64_t offset);
    void send_held(const std::vector<Slot>& waiting);
    void fail(Partition& partition, Slot slot, const Record& record, const Failure& failure, bool in_doubt);
    void fail_held();
    void end_drain();

    KafkaCluster& cluster_;
    Schedule& schedule_;
    Random random_;
    const Traits traits_;
    const std::uint64_t id_;
    const std::function<void()> wake_;
    std::uint32_t epoch_ = 0;
    bool draining_ = false;  // after a batch was turned down: nothing new is sent until all have been answered
    bool fatal_ = false;
    bool dead_ = false;
    bool reachable_ = true;
    bool connected_ = false;
    bool news_ = false;  // connected_ or fatal_ changed
    bool pump_due_ = false;
    bool queue_full_ = false;
    bool odd_error_due_ = false;
    std::deque<Partition> partitions_;
    FirstContact contact_;
    struct Held {
        std::uint32_t topic = 0;
        Record record;
    };
    std::unordered_map<std::uint32_t, Held> held_;  // by slot: what contact_ has waiting
    std::vector<Connection> connections_;
    ProducerReports reports_;
};

}  // namespace outbox::sim
