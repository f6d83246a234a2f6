#include "core/first_contact.hpp"

#include <utility>

namespace outbox {

namespace {

constexpr Duration period = std::chrono::hours(1);

}  // namespace

FirstContact::Topic& FirstContact::at(TopicIndex topic) {
    const auto place = static_cast<std::size_t>(topic);
    if (place >= topics_.size()) topics_.resize(place + 1);
    return topics_[place];
}

FirstContact::Partition& FirstContact::at(TopicIndex topic, std::int32_t partition) {
    auto& partitions = at(topic).partitions;
    const auto place = static_cast<std::size_t>(partition);
    if (place >= partitions.size()) partitions.resize(place + 1);
    return partitions[place];
}

bool FirstContact::may_send(TopicIndex topic, std::int32_t partition) const {
    const auto row = static_cast<std::size_t>(topic);
    if (under_way_ == 0 || row >= topics_.size()) return true;
    if (topics_[row].contact.under_way) return false;
    const auto place = static_cast<std::size_t>(partition);
    if (partition < 0 || place >= topics_[row].partitions.size()) return true;
    return !topics_[row].partitions[place].contact.under_way;
}

void FirstContact::sent_without_key(Slot slot) {
    const auto place = static_cast<std::size_t>(slot);
    if (place >= numbers_.size()) numbers_.resize(place + 1);
    numbers_[place] = sent_++;
}

void FirstContact::sent(TopicIndex topic, std::int32_t partition, Slot slot) {
    sent_without_key(slot);
    if (partition >= 0 && known(at(topic, partition))) return;
    Contact& contact = partition < 0 ? at(topic).contact : at(topic, partition).contact;
    if (!contact.under_way) ++under_way_;
    contact.under_way = true;
    contact.slot = slot;
}

void FirstContact::hold(TopicIndex topic, std::int32_t partition, Slot slot) {
    Contact& contact = partition < 0 ? at(topic).contact : at(topic, partition).contact;
    contact.waiting.push_back(slot);
}

bool FirstContact::proven(TopicIndex topic, std::int32_t partition, Slot slot, std::int64_t offset) {
    if (partition < 0) return offset >= 0;
    Partition& one = at(topic, partition);
    if (offset < 0) return known(one) && numbers_[static_cast<std::size_t>(slot)] >= one.sent_before;
    if (!known(one)) one.sent_before = sent_;
    one.acknowledged_in = period_;
    return true;
}

std::vector<Slot> FirstContact::take_waiting(TopicIndex topic, std::int32_t partition, Slot slot) {
    if (under_way_ == 0) return {};
    Contact* contact = &at(topic).contact;
    if (!contact->under_way || contact->slot != slot) {
        if (partition < 0) return {};
        contact = &at(topic, partition).contact;
        if (!contact->under_way || contact->slot != slot) return {};
    }
    contact->under_way = false;
    --under_way_;
    return std::exchange(contact->waiting, {});
}

std::vector<Slot> FirstContact::take_all_waiting() {
    std::vector<Slot> all;
    const auto move_out = [&](std::vector<Slot>& waiting) {
        for (const Slot slot : std::exchange(waiting, {})) all.push_back(slot);
    };
    for (Topic& topic : topics_) {
        move_out(topic.contact.waiting);
        for (Partition& one : topic.partitions) move_out(one.contact.waiting);
    }
    return all;
}

void FirstContact::turn(Instant now) {
    period_ = first_period + static_cast<std::uint32_t>(now.time_since_epoch() / period);
}

}  // namespace outbox
