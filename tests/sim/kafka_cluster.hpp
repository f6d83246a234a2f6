// The brokers' half of the Kafka model: topics with partitions, their leaders, and what a broker does with a batch. A
// batch is appended whole or not at all, only in the sequence of its producer: one that was appended before is
// acknowledged again and not appended, one with a gap before it is refused; but of a producer nothing is known of, any
// batch is taken for the first. The log outlives its leader (acks=all).
// Requests that reach a broker that stands still wait in its socket until it goes on. One thread.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/time.hpp"
#include "sim/random.hpp"

namespace outbox::sim {

// What the brokers see of a row.
struct Record {
    std::uint64_t event = 0;
    std::int32_t key = 0;  // below 0: none
    std::uint32_t bytes = 0;
    bool poison = false;  // no broker ever takes it
};

struct ProduceRequest {
    std::uint64_t producer = 0;
    std::uint32_t epoch = 0;  // of the producer
    std::uint32_t topic = 0;
    std::uint32_t partition = 0;
    std::uint64_t sequence = 0;  // of the first record
    std::vector<Record> records;
};

enum class Produced : std::uint8_t {
    appended,
    duplicate,     // appended before
    out_of_order,  // a gap before it
    rejected,      // for a record in it
    denied,        // the topic may not be written
    unknown_topic,
    not_leader,
    too_few_replicas,  // for the moment
    fenced,            // of an epoch that is over
};

class KafkaCluster {
public:
    struct Topic {
        std::string name;
        bool exists = true;
        bool denied = false;
        bool compacted = false;  // a record without a key is rejected
        std::uint32_t batch_bytes_max = 1'000'000;
        std::vector<std::uint32_t> leaders;  // by partition
    };
    enum class Broker : std::uint8_t { up, down, standing_still };

    KafkaCluster(Random random, std::uint32_t brokers) : random_(random), brokers_(brokers, Broker::up) {}

    std::uint32_t add_topic(std::string name, std::uint32_t partitions);
    Topic& topic(std::uint32_t index) { return topics_.at(index); }
    const std::vector<Topic>& topics() const { return topics_; }
    std::uint32_t partition_of(std::uint32_t topic, std::int32_t key, Random& random) const;
    std::uint32_t leader(std::uint32_t topic, std::uint32_t partition) const {
        return topics_.at(topic).leaders.at(partition);
    }

    Broker broker(std::uint32_t broker) const { return brokers_.at(broker); }
    std::uint32_t brokers() const { return static_cast<std::uint32_t>(brokers_.size()); }
    void set_broker(std::uint32_t broker, Broker state);
    // The partitions of brokers that are not up go to others, as far as there are any.
    void elect();

    // A request reaches the broker: `handled` is called with its answer, at once or when the broker goes on; never when
    // the broker dies before.
    void arrive(std::uint32_t broker, const ProduceRequest& request, const std::function<void(Produced)>& handled);

    Duration slowness{};  // of every answer
    bool throttling = false;
    std::uint32_t short_of_replicas_percent = 0;                        // of the requests
    std::function<void(const Record&, std::uint32_t topic)> persisted;  // called for each record appended
    std::function<void(std::uint32_t broker)> broker_changed;
    // Called for each event of a batch that is turned down with others behind it, which may get into the log before:
    // librdkafka sends those on, and the relay cannot help it. It sees to it that rows a broker may well reject go
    // alone.
    std::function<void(std::uint64_t event)> overtaken;

private:
    struct Sequence {
        std::uint32_t epoch = 0;
        std::uint64_t first = 0;  // what was taken for the first
        std::uint64_t next = 0;
    };
    struct Waiting {
        ProduceRequest request;
        std::function<void(Produced)> handled;
    };

    Produced produce(std::uint32_t broker, const ProduceRequest& request);

    Random random_;
    std::vector<Topic> topics_;
    std::vector<Broker> brokers_;
    std::map<std::uint32_t, std::deque<Waiting>> waiting_;  // by broker that stands still
    std::map<std::tuple<std::uint64_t, std::uint32_t, std::uint32_t>, Sequence> sequences_;
};

}  // namespace outbox::sim
