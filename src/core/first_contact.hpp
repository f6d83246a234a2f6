// Which partitions have acknowledged a record of this producer, and which rows wait for that.
//
// On first contact brokers do not see to the order. Where they have nothing of a producer id, any sequence number is
// taken for the first (ProducerAppendInfo.checkSequence): of two requests on their way the first may be turned down for
// the moment, NOT_ENOUGH_REPLICAS say, and the second taken. It has overtaken the first one; and librdkafka, trusting
// that brokers refuse what does not follow, gives the first one's records for acknowledged, without an offset
// (rd_kafka_dr_implicit_ack). So, until a partition has acknowledged a record by an offset,
// - of rows with a key one goes there alone, and those behind it wait for what becomes of it;
// - an acknowledgement without an offset proves nothing, now or later, of rows sent by then. Those without a key do not
//   wait, and may meet one.
//
// Brokers forget producers they have not heard of for producer.id.expiration.ms, a day by default: after an hour or two
// without an acknowledgement contact begins anew.
//
// Pure. Owned by Producer; the worker's thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/row.hpp"
#include "core/time.hpp"

namespace outbox {

class FirstContact {
public:
    // The partition of a row whose topic is not known yet: no other row of that topic goes before its report.
    static constexpr std::int32_t not_known = -1;

    // Whether a row with a key may go to the partition now: then it is sent(), else it has to hold().
    bool may_send(TopicIndex topic, std::int32_t partition) const;
    void sent(TopicIndex topic, std::int32_t partition, Slot slot);
    void sent_without_key(Slot slot);
    void hold(TopicIndex topic, std::int32_t partition, Slot slot);

    // A row was acknowledged, below zero without an offset. False: it may be lost all the same.
    bool proven(TopicIndex topic, std::int32_t partition, Slot slot, std::int64_t offset);
    // There is a report on the row. Those that waited for it, in order: they go where it went.
    std::vector<Slot> take_waiting(TopicIndex topic, std::int32_t partition, Slot slot);
    // All that wait, for whatever.
    std::vector<Slot> take_all_waiting();

    void turn(Instant now);  // time passes

private:
    struct Contact {
        bool under_way = false;  // by this row
        Slot slot{};
        std::vector<Slot> waiting;
    };
    struct Partition {
        std::uint32_t acknowledged_in = 0;  // the last period
        std::uint64_t sent_before = 0;      // rows, when contact was made
        Contact contact;
    };
    struct Topic {
        Contact contact;  // that tells what partitions it has
        std::vector<Partition> partitions;
    };

    bool known(const Partition& partition) const { return partition.acknowledged_in + 1 >= period_; }
    Partition& at(TopicIndex topic, std::int32_t partition);
    Topic& at(TopicIndex topic);

    static constexpr std::uint32_t first_period = 2;
    std::uint32_t period_ = first_period;
    std::size_t under_way_ = 0;  // contacts: mostly none, and then there is nothing to look up
    std::uint64_t sent_ = 0;
    std::vector<std::uint64_t> numbers_;  // by slot: how many rows had been sent before
    std::vector<Topic> topics_;           // by TopicIndex
};

}  // namespace outbox
