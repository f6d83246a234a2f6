#include "core/window.hpp"

#include <algorithm>

#include "core/invariant.hpp"

namespace outbox {

namespace {

constexpr std::int64_t known_bits_max = 1 << 20;  // 128 KiB per read at most

}  // namespace

Window::Window(std::uint32_t rows_max, std::uint64_t bytes_max)
    : rows_max_(rows_max),
      bytes_max_(bytes_max),
      entries_(rows_max),
      states_(rows_max, State::free),
      guarded_(rows_max, false),
      free_(rows_max),
      slots_by_id_(rows_max) {
    acknowledged_.reserve(rows_max);
}

void Window::expect(Slot slot, State state) const {
    require_invariant(index(slot) < states_.size(), "a slot outside the window");
    require_invariant(states_[index(slot)] == state, "a row changed state out of turn");
}

Slot Window::admit(const RowHead& row, bool solo, Instant now) {
    const Slot slot = free_.take();
    touched_ = std::max(touched_, index(slot) + 1);
    slots_by_id_.insert(row.id, slot);
    entries_[index(slot)] = {row.id,    row.event_id, row.place, row.created_at_us, now,
                             row.topic, row.key_hash, row.bytes, row.lane,          solo};
    states_[index(slot)] = State::in_flight;
    guarded_[index(slot)] = false;
    ++lane_in_flight_[row.lane];
    ++lane_held_[row.lane];
    ++in_flight_;
    ++claimed_;
    bytes_ += row.bytes;
    return slot;
}

void Window::leave_flight(Slot slot) {
    const Entry& row = entry(slot);
    if (!guarded_[index(slot)]) --claimed_;
    --lane_in_flight_[row.lane];
    --in_flight_;
    bytes_ -= row.bytes;
}

void Window::free_slot(Slot slot) {
    const Entry& row = entries_[index(slot)];
    --lane_held_[row.lane];
    slots_by_id_.erase(row.id);
    states_[index(slot)] = State::free;
    free_.put(slot);
    if (rows() == 0) touched_ = 0;
}

void Window::acknowledge(Slot slot) {
    expect(slot, State::in_flight);
    leave_flight(slot);
    states_[index(slot)] = State::acknowledged;
    acknowledged_.push_back({entry(slot).id, slot});
}

void Window::release(Slot slot) {
    expect(slot, State::in_flight);
    leave_flight(slot);
    free_slot(slot);
}

void Window::condemn(Slot slot, std::string_view code, std::string_view text) {
    expect(slot, State::in_flight);
    leave_flight(slot);
    states_[index(slot)] = State::condemned;
    condemned_.push_back({slot, entry(slot).id, entry(slot).event_id, std::string(code), std::string(text)});
}

void Window::isolate(RowId id, std::string_view code, std::string_view text) {
    ++isolating_;
    condemned_.push_back({std::nullopt, id, {}, std::string(code), std::string(text)});
}

// Acknowledgements come by partition. The lowest ids lie side by side all the same, and so do their rows in the table,
// which is most of what a delete costs.
DeleteRows Window::take_deletes(std::size_t rows_max) {
    require_invariant(!acknowledged_.empty(), "a delete of nothing");
    const Slot lowest = std::min_element(acknowledged_.begin(), acknowledged_.end())->slot;
    return take_deletes(guarded_[index(lowest)], rows_max);
}

std::optional<DeleteRows> Window::take_claimed_deletes() {
    const auto claimed = [&](const Acknowledged& row) { return !guarded_[index(row.slot)]; };
    if (std::none_of(acknowledged_.begin(), acknowledged_.end(), claimed)) return std::nullopt;
    return take_deletes(false, acknowledged_.size());
}

// Rows that are guarded are deleted apart, with the stricter statement.
DeleteRows Window::take_deletes(bool guarded, std::size_t rows_max) {
    require_invariant(deletes_in_use_ < deletes_under_way_max, "a delete out of turn");
    DeleteBatch& batch = deletes_[(deletes_head_ + deletes_in_use_) % deletes_.size()];
    ++deletes_in_use_;

    const auto alike = [&](const Acknowledged& row) { return guarded_[index(row.slot)] == guarded; };
    const auto end = std::partition(acknowledged_.begin(), acknowledged_.end(), alike);
    const auto take = std::min(rows_max, static_cast<std::size_t>(end - acknowledged_.begin()));
    const auto cut = acknowledged_.begin() + static_cast<std::ptrdiff_t>(take);
    if (cut != end) std::nth_element(acknowledged_.begin(), cut, end);

    batch.slots.clear();
    batch.ids.clear();
    batch.event_ids.clear();
    batch.places.clear();
    for (auto row = acknowledged_.begin(); row != cut; ++row) {
        const Slot slot = row->slot;
        states_[index(slot)] = State::deleting;
        batch.slots.push_back(slot);
        batch.ids.push_back(row->id);
        if (guarded)
            batch.event_ids.push_back(entry(slot).event_id);
        else
            batch.places.push_back(entry(slot).place);
    }
    acknowledged_.erase(acknowledged_.begin(), cut);
    return {.ids = batch.ids, .event_ids = batch.event_ids, .places = batch.places};
}

std::size_t Window::rows_deleting() const {
    std::size_t rows = 0;
    for (std::size_t i = 0; i < deletes_in_use_; ++i)
        rows += deletes_[(deletes_head_ + i) % deletes_.size()].slots.size();
    return rows;
}

void Window::let_go() {
    for (std::size_t i = 0; i < states_.size(); ++i) guarded_[i] = states_[i] != State::free;
    claimed_ = 0;
}

std::size_t Window::deleted() {
    require_invariant(deletes_in_use_ > 0, "a delete was answered that was not sent");
    const DeleteBatch& batch = deletes_[deletes_head_];
    deletes_head_ = (deletes_head_ + 1) % deletes_.size();
    --deletes_in_use_;
    for (const Slot slot : batch.slots) {
        expect(slot, State::deleting);
        free_slot(slot);
    }
    return batch.slots.size();
}

void Window::delete_refused() {
    require_invariant(deletes_in_use_ > 0, "a delete was refused that was not sent");
    const DeleteBatch& batch = deletes_[deletes_head_];
    deletes_head_ = (deletes_head_ + 1) % deletes_.size();
    --deletes_in_use_;
    for (const Slot slot : batch.slots) {
        expect(slot, State::deleting);
        states_[index(slot)] = State::acknowledged;
        acknowledged_.push_back({entry(slot).id, slot});
    }
}

void Window::rows_missed() {
    for (const Slot slot : deletes_[deletes_head_].slots) guarded_[index(slot)] = true;
    delete_refused();
}

BuryRow Window::take_burial() {
    require_invariant(!condemned_.empty(), "a burial out of turn");
    burying_.push_back(std::move(condemned_.front()));
    condemned_.pop_front();
    const Burial& burial = burying_.back();
    if (burial.slot) states_[index(*burial.slot)] = State::burying;
    return {burial.id, burial.event_id, burial.code, burial.text};
}

bool Window::buried() {
    require_invariant(!burying_.empty(), "a burial was answered that was not sent");
    const auto slot = burying_.front().slot;
    burying_.pop_front();
    if (!slot) {
        --isolating_;
        return true;
    }
    expect(*slot, State::burying);
    free_slot(*slot);
    return false;
}

void Window::burial_refused() {
    require_invariant(!burying_.empty(), "a burial was refused that was not sent");
    Burial burial = std::move(burying_.front());
    burying_.pop_front();
    if (burial.slot) states_[index(*burial.slot)] = State::condemned;
    condemned_.push_front(std::move(burial));
}

void Window::session_lost() {
    while (deletes_in_use_ > 0) delete_refused();
    while (!burying_.empty()) {
        if (burying_.back().slot) states_[index(*burying_.back().slot)] = State::condemned;
        condemned_.push_front(std::move(burying_.back()));
        burying_.pop_back();
    }
    let_go();
}

std::optional<RowId> Window::lowest() const {
    std::optional<RowId> low;
    for (std::size_t i = 0; i < touched_; ++i)
        if (states_[i] != State::free && (!low || entries_[i].id < *low)) low = entries_[i].id;
    return low;
}

Window::Known Window::known_above(RowId after, bool with_guarded) {
    const RowId base{after.value + 1};
    std::int64_t last = -1;
    std::uint32_t beyond = 0;
    known_.clear();
    for (std::size_t i = 0; i < touched_; ++i) {
        if (states_[i] == State::free || entries_[i].id <= after) continue;
        const std::int64_t bit = entries_[i].id.value - base.value;
        // After a failover the id may be another event's: left out, that one would be passed by later rows of its key.
        if (bit >= known_bits_max || (guarded_[i] && !with_guarded)) {
            ++beyond;
            continue;
        }
        if (bit > last) {
            last = bit;
            known_.resize(static_cast<std::size_t>(bit / 8) + 1, 0);
        }
        // get_bit() of Postgres counts bits within a byte from the least significant one.
        known_[static_cast<std::size_t>(bit / 8)] |= static_cast<std::uint8_t>(1U << static_cast<unsigned>(bit % 8));
    }
    return {base, known_, beyond};
}

}  // namespace outbox
