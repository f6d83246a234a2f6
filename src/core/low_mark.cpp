#include "core/low_mark.hpp"

#include <algorithm>

namespace outbox {

namespace {

using namespace std::chrono_literals;

// A probe costs about 0.05 ms: at this pace 0.5 % of a core while rows arrive, less while a long writer is waited for.
constexpr Duration pause_min = 10ms;
constexpr Duration pause_max = 100ms;
// Where none of our rows arrive: the rows of other workers' lanes, alive and dead, must not be walked again and again.
// Longer where none arrive at all: these are among the few statements of an idle relay, and the first row of its own is
// probed for at once.
constexpr Duration pause_idle_min = 250ms;
constexpr Duration pause_idle_max = 2s;

bool contains(std::span<const Holder> holders, const Holder& one) {
    return std::find(holders.begin(), holders.end(), one) != holders.end();
}

}  // namespace

void LowMark::reset() {
    *this = LowMark(shared_ ? ClaimMode::rows : ClaimMode::lanes);
}

// Keeps of holders_ those still there, and adds the prepared transactions that a vanished live holder may have become.
// It ends: a prepared transaction that vanishes is gone, so nothing is added once only prepared ones are waited for.
void LowMark::resolve(std::span<const Holder> holders) {
    bool live_one_vanished = false;
    std::erase_if(holders_, [&](const Holder& holder) {
        const bool gone = !contains(holders, holder);
        live_one_vanished = live_one_vanished || (gone && !holder.prepared);
        return gone;
    });
    if (live_one_vanished)
        for (const Holder& holder : holders)
            if (holder.prepared && !contains(prepared_before_, holder) && !contains(holders_, holder))
                holders_.push_back(holder);
}

void LowMark::probe_answered(RowId high, std::span<const Holder> holders, Instant now) {
    probing_ = false;
    probed_ = true;
    pause_idle_ = high > settled_ ? pause_idle_min : std::clamp(pause_idle_ * 2, pause_idle_min, pause_idle_max);
    bool progress = false;
    if (waiting_) {
        resolve(holders);
        if (holders_.empty()) {
            settled_ = std::max(settled_, high_);
            waiting_ = false;
            progress = true;
        }
    }
    if (!waiting_ && high > settled_) {
        high_ = high;
        holders_.assign(holders.begin(), holders.end());
        waiting_ = !holders_.empty();
        if (!waiting_) settled_ = high;
        progress = true;
    }
    prepared_before_.clear();
    std::copy_if(holders.begin(), holders.end(), std::back_inserter(prepared_before_),
                 [](const Holder& holder) { return holder.prepared; });
    pause_ = progress ? pause_min : std::min(std::max(pause_ * 2, pause_min), pause_max);
    probe_at_ = now + pause_;
    probe_idle_at_ = now + pause_idle_;
}

void LowMark::rows_read(RowId last, bool cut_short) {
    head_ = std::max(head_, last);
    const RowId reached = cut_short ? std::min(settled_, last) : settled_;
    low_ = std::max(low_, reached);
}

void LowMark::rows_claimed(RowId last, RowId empty_upto) {
    head_ = std::max(head_, last);
    low_ = std::max(low_, std::min(settled_, empty_upto));
}

}  // namespace outbox
