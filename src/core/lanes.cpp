#include "core/lanes.hpp"

#include <algorithm>

namespace outbox {

namespace {

template <class Visit>
void each(LaneSet lanes, Visit visit) {
    for (std::uint64_t bits = lanes.bits(); bits != 0; bits &= bits - 1)
        visit(static_cast<std::uint8_t>(std::countr_zero(bits)));
}

}  // namespace

void Lanes::start(std::uint8_t lane, RowId resume_after) {
    behind_.remove(lane);
    leaving_.remove(lane);
    settling_.add(lane);
    resume_after_[lane] = resume_after;
}

void Lanes::renewed(Instant asked_at, LaneSet ours) {
    each(owned_ - ours, [&](std::uint8_t lane) { trusted_until_[lane] = {}; });
    released(owned_ - ours);
    acquired(asked_at, ours);
}

void Lanes::acquired(Instant asked_at, LaneSet lanes) {
    each(lanes, [&](std::uint8_t lane) { trusted_until_[lane] = std::max(trusted_until_[lane], asked_at + trust_); });
    const LaneSet fresh = lanes - owned_;
    owned_ = owned_ | lanes;
    each(fresh, [&](std::uint8_t lane) { start(lane, RowId{}); });
}

void Lanes::released(LaneSet lanes) {
    each(lanes, [&](std::uint8_t lane) { trusted_until_[lane] = {}; });
    owned_ = owned_ - lanes;
    settling_ = settling_ - lanes;
    behind_ = behind_ - lanes;
    leaving_ = leaving_ - lanes;
}

void Lanes::hold_all() {
    trusted_until_.fill(never);
    owned_ = LaneSet::all();
}

void Lanes::lapse(Instant now, RowId low) {
    each(current() | behind_, [&](std::uint8_t lane) {
        if (!trusted(lane, now)) fail(lane, low);
    });
}

void Lanes::fail(std::uint8_t lane, RowId resume_after) {
    if (!owned_.contains(lane) || leaving_.contains(lane)) return;
    const bool going_back = settling_.contains(lane) || behind_.contains(lane);
    start(lane, going_back ? std::min(resume_after_[lane], resume_after) : resume_after);
}

void Lanes::settled(std::uint8_t lane) {
    settling_.remove(lane);
    behind_.add(lane);
}

void Lanes::restart() {
    each(owned_ - leaving_, [&](std::uint8_t lane) { start(lane, RowId{}); });
}

void Lanes::caught_up(LaneSet lanes) {
    behind_ = behind_ - lanes;
}

void Lanes::advance(LaneSet lanes, RowId to) {
    each(lanes & behind_, [&](std::uint8_t lane) { resume_after_[lane] = std::max(resume_after_[lane], to); });
}

void Lanes::push_back(RowId resume_after) {
    each(settling_ | behind_,
         [&](std::uint8_t lane) { resume_after_[lane] = std::min(resume_after_[lane], resume_after); });
}

void Lanes::leave(LaneSet lanes) {
    lanes = lanes & owned_;
    settling_ = settling_ - lanes;
    behind_ = behind_ - lanes;
    leaving_ = leaving_ | lanes;
}

LaneSet Lanes::surplus(std::uint32_t share) const {
    LaneSet staying = owned_ - leaving_;
    LaneSet surplus;
    for (std::uint8_t lane = lane_count; staying.size() > share && lane > 0; --lane)
        if (staying.contains(static_cast<std::uint8_t>(lane - 1))) {
            staying.remove(static_cast<std::uint8_t>(lane - 1));
            surplus.add(static_cast<std::uint8_t>(lane - 1));
        }
    return surplus;
}

RowId Lanes::lowest_resume(LaneSet lanes) const {
    RowId lowest = no_row;
    each(lanes, [&](std::uint8_t lane) { lowest = std::min(lowest, resume_after_[lane]); });
    return lowest;
}

Instant Lanes::trust_ends(Instant now) const {
    Instant first = never;
    each(current() | behind_, [&](std::uint8_t lane) {
        if (trusted_until_[lane] > now) first = std::min(first, trusted_until_[lane]);
    });
    return first;
}

}  // namespace outbox
