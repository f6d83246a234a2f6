// This worker among its peers: when to renew its leases, when to look for free lanes, which lanes to hand back.
// Shares are lanes / living workers; the first (lanes mod living) workers in id order hold one more, so that shares
// differ by at most one and a stable fleet moves nothing.
// A worker takes part from when it first has a producer: who does not reach Kafka is not counted and takes no lanes.
// A worker that claims rows instead takes part for the count, and holds every lane without a lease. It waits as long as
// anybody leases lanes: that worker keeps an order which claims would break.
// Pure. Owned by Relay; the worker's thread.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>

#include "core/lanes.hpp"
#include "core/messages.hpp"
#include "core/settings.hpp"
#include "core/time.hpp"

namespace outbox {

class Fleet {
public:
    explicit Fleet(Duration lease_ttl, ClaimMode claim = ClaimMode::lanes)
        : lanes(lease_ttl),
          renew_every_(lease_ttl / 3),
          acquire_every_(lease_ttl / 10),
          leases_(claim == ClaimMode::lanes),
          may_read_(leases_) {}

    void session_opened(Instant now);
    void session_lost();
    void producer_opened(Instant now);
    void producer_lost();
    void on(const LeasesRenewed& event);
    void on(const LanesAcquired& event);
    void on(const LanesReleased& event);
    void leave() { leaving_ = true; }
    void renew_soon(Instant now);  // there is news for those who watch outbox.relay

    // `empty_lanes`: lanes of which the window holds nothing, so that they may be handed over.
    std::optional<Action> next(Instant now, LaneSet empty_lanes);
    Instant wake_at() const;
    bool left() const { return left_; }
    std::uint32_t living() const { return living_; }
    bool may_read() const { return may_read_; }
    LaneSet leased_by_others() const { return leased_by_others_; }  // known to those who claim rows
    // Of all that is for the fleet together, in lanes.
    std::uint32_t part() const { return leases_ ? lanes.owned().size() : std::max(share(), 1U); }

    Lanes lanes;

private:
    bool hurries(Instant now) const;
    std::uint32_t share() const { return lane_count / living_ + (rank_ < lane_count % living_ ? 1 : 0); }

    Duration renew_every_;
    Duration acquire_every_;
    bool leases_;
    bool may_read_;
    LaneSet leased_by_others_;
    bool open_ = false;
    bool producer_ = false;
    bool registered_ = false;  // this worker has said, once, that it lives
    bool renewing_ = false;
    bool acquiring_ = false;
    bool releasing_ = false;
    bool leaving_ = false;
    bool left_ = false;
    std::uint32_t living_ = 1;
    std::uint32_t rank_ = 0;
    Instant renew_at_{};
    Instant acquire_at_{};
    Instant busy_at_{};  // rows were in flight then
};

}  // namespace outbox
