#include "core/fleet.hpp"

#include <algorithm>

namespace outbox {

// Lanes are for those who reach Kafka. Until a newcomer does, which takes half a second at best and may take for ever,
// it does not say that it lives, or its peers would leave it a share that nobody reads.
void Fleet::session_opened(Instant now) {
    open_ = true;
    renew_at_ = producer_ || registered_ ? now : never;
    acquire_at_ = producer_ ? now : never;
}

void Fleet::producer_opened(Instant now) {
    producer_ = true;
    if (!registered_) renew_at_ = now;
    acquire_at_ = now;
}

void Fleet::producer_lost() {
    producer_ = false;
    acquire_at_ = never;
}

void Fleet::session_lost() {
    open_ = renewing_ = acquiring_ = releasing_ = false;
    may_read_ = leases_;
}

void Fleet::on(const LeasesRenewed& event) {
    renewing_ = false;
    living_ = std::max(event.living, 1U);
    rank_ = event.rank;
    if (!leases_) {
        leased_by_others_ = event.lanes;
        may_read_ = event.lanes.empty();
        if (lanes.owned().empty()) lanes.hold_all();
        if (leaving_) lanes.leave(lanes.owned());
        return;
    }
    lanes.renewed(event.asked_at, event.lanes);
    lanes.leave(leaving_ ? lanes.owned() : lanes.surplus(share()));
}

void Fleet::on(const LanesAcquired& event) {
    acquiring_ = false;
    lanes.acquired(event.asked_at, event.lanes);
    if (leaving_) lanes.leave(lanes.owned());  // they were asked for before the drain began
}

void Fleet::on(const LanesReleased& event) {
    releasing_ = false;
    lanes.released(event.lanes);
}

void Fleet::renew_soon(Instant now) {
    if (registered_) renew_at_ = now;
}

// While rows flow, those of a lane that is handed over wait until somebody looks. An idle fleet shall not look all the
// time.
bool Fleet::hurries(Instant now) const {
    return now - busy_at_ < renew_every_ || lanes.owned().size() < share();
}

std::optional<Action> Fleet::next(Instant now, LaneSet empty_lanes) {
    if (!open_ || left_) return std::nullopt;
    if (empty_lanes != LaneSet::all()) busy_at_ = now;
    const LaneSet releasable = lanes.leaving() & empty_lanes;
    if (leases_ && !releasable.empty() && !releasing_ && (!leaving_ || releasable == lanes.owned())) {
        releasing_ = true;
        return ReleaseLanes{releasable};
    }
    if (leaving_ && (lanes.owned().empty() || !leases_) && !acquiring_ && empty_lanes == LaneSet::all()) {
        left_ = true;
        return LeaveFleet{};
    }
    if (now >= renew_at_ && !renewing_ && !releasing_) {
        renewing_ = registered_ = true;
        renew_at_ = now + renew_every_;
        return RenewLeases{.leases = leases_};
    }
    // Not before the first renewal: it registers this worker, and the database counts the living when it shares.
    if (leases_ && now >= acquire_at_ && !acquiring_ && !leaving_ && lanes.owned() != LaneSet::all()) {
        acquiring_ = true;
        acquire_at_ = now + (hurries(now) ? acquire_every_ / 3 : acquire_every_);
        return AcquireLanes{};
    }
    return std::nullopt;
}

Instant Fleet::wake_at() const {
    if (!open_ || left_) return never;
    Instant at = renewing_ || releasing_ ? never : renew_at_;
    if (leases_ && !acquiring_ && !leaving_ && lanes.owned() != LaneSet::all()) at = std::min(at, acquire_at_);
    return at;
}

}  // namespace outbox
