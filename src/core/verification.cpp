#include "core/verification.hpp"

#include <algorithm>

#include "core/invariant.hpp"

namespace outbox {

namespace {

constexpr std::size_t shown_max = 10;
constexpr unsigned sequence_bits = 40;
constexpr std::uint64_t sequence_max = (std::uint64_t{1} << sequence_bits) - 1;

void count(Tally& tally, const MarkedEvent& event) {
    ++tally.events;
    if (tally.first.size() < shown_max) tally.first.push_back(event);
}

}  // namespace

Verification::Verification(std::uint32_t keys) : keys_(keys) {
    require_invariant(keys > 0 && keys <= marked_keys_max, "between one and a million keys");
}

Verification::Place Verification::place_of(const MarkedEvent& event) {
    return (Place{event.key} << sequence_bits) | event.sequence;
}

MarkedEvent Verification::event_at(Place place) {
    return {static_cast<std::uint32_t>(place >> sequence_bits), place & sequence_max, false};
}

// True when it was seen before its writer knew what became of it.
bool Verification::take_early(const MarkedEvent& event) {
    keys_[event.key].reported = event.sequence;
    return early_.erase(place_of(event)) > 0;
}

void Verification::committed(const MarkedEvent& event, Instant at) {
    ++verdict_.committed;
    const auto early = early_.find(place_of(event));
    if (early != early_.end()) {
        verdict_.latency.add(early->second - at);
        ++verdict_.delivered;
    } else {
        awaited_.emplace(place_of(event), at);
    }
    static_cast<void>(take_early(event));
}

void Verification::rolled_back(const MarkedEvent& event) {
    ++verdict_.rolled_back;
    if (take_early(event))
        count(verdict_.phantom, event);
    else if (!event.doomed)  // those that are doomed say so themselves when they are seen
        exceptions_.emplace(place_of(event), Exception::undone);
}

void Verification::in_doubt(const MarkedEvent& event) {
    ++verdict_.in_doubt;
    const bool early = take_early(event);
    if (early) ++verdict_.delivered;
    exceptions_.emplace(place_of(event), early ? Exception::in_doubt_and_seen : Exception::in_doubt);
}

// At its first sight, whatever becomes of it.
void Verification::note_order(const MarkedEvent& event) {
    Key& key = keys_[event.key];
    if (event.sequence < key.newest) count(verdict_.reordered, event);
    key.newest = std::max(key.newest, event.sequence);
}

void Verification::deliver(const MarkedEvent& event) {
    ++verdict_.delivered;
    note_order(event);
}

void Verification::seen_exception(const MarkedEvent& event, Exception& exception) {
    switch (exception) {
        case Exception::undone:
            return count(verdict_.phantom, event);
        case Exception::in_doubt_and_seen:
            return count(verdict_.duplicated, event);
        case Exception::in_doubt:
            // Its order is nobody's fault: it may have taken effect after its writer had gone on elsewhere.
            exception = Exception::in_doubt_and_seen;
            ++verdict_.delivered;
    }
}

void Verification::seen(const MarkedEvent& event, Instant at) {
    if (event.doomed || event.key >= keys_.size() || event.sequence == 0 || event.sequence > sequence_max)
        return count(verdict_.phantom, event);
    const Place place = place_of(event);
    const std::uint64_t reported = keys_[event.key].reported;
    if (event.sequence > reported + unreported_max) return count(verdict_.phantom, event);
    if (event.sequence > reported) {
        if (early_.emplace(place, at).second) return note_order(event);
        return count(verdict_.duplicated, event);
    }
    if (const auto awaited = awaited_.find(place); awaited != awaited_.end()) {
        verdict_.latency.add(at - awaited->second);
        awaited_.erase(awaited);
        return deliver(event);
    }
    if (const auto exception = exceptions_.find(place); exception != exceptions_.end())
        return seen_exception(event, exception->second);
    count(verdict_.duplicated, event);
}

void Verification::seen_altered() {
    ++verdict_.phantom.events;
    ++verdict_.altered;
}

Verdict Verification::finish() {
    std::vector<Place> places;
    for (const auto& [place, at] : early_) places.push_back(place);
    std::sort(places.begin(), places.end());
    for (const Place place : places) count(verdict_.phantom, event_at(place));
    places.clear();
    for (const auto& [place, at] : awaited_) places.push_back(place);
    std::sort(places.begin(), places.end());
    for (const Place place : places) count(verdict_.lost, event_at(place));
    early_.clear();
    awaited_.clear();
    return std::move(verdict_);
}

}  // namespace outbox
