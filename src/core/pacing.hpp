// How fast rows may be taken, of four limits the lowest:
//   the operator's ceilings, in rows/s and bytes/s   token buckets; a burst is a tenth of a second, one batch at most
//   the slow start after an outage                   a token bucket whose rate doubles every second, see below
//   the congestion window                            rows in flight, from the broker's own behaviour
//   the hard window                                  rows and bytes; that one is Window
//
// Slow start: when the cluster comes back, everybody comes back. The rate begins at recovery_rows_per_second, doubles
// every second in which the broker kept up and halves in one in which it did not, until it has reached the ceiling or
// the backlog that waited is gone.
//
// The operator's ceiling in rows/s is for all relays of the database together: a worker takes the share of it that its
// lanes are of all lanes, so that any number of replicas keeps to it.
// Pure. Owned by Relay; the worker's thread.
#pragma once

#include <cstdint>
#include <optional>

#include "core/congestion_window.hpp"
#include "core/settings.hpp"
#include "core/time.hpp"
#include "core/token_bucket.hpp"

namespace outbox {

class Pacing {
public:
    Pacing(const RelaySettings& relay, const PacingSettings& pacing);

    // nullopt: as configured. 0: no ceiling.
    void set_ceiling(std::optional<std::uint64_t> rows_per_second, Instant now);
    void set_lanes(std::uint32_t owned, Instant now);

    void recover(Instant now);  // the cluster is back after an outage
    void caught_up();           // nothing waits any more
    void acknowledged(std::uint32_t rows, Duration latency, Instant now) {
        // What was in flight through an outage says nothing about how fast the broker is, however late it comes home.
        if (now - latency < recovered_at_) return;
        congestion_.acknowledged(rows, latency, now);
    }
    void setback(Instant now) { congestion_.setback(now); }
    void turn(Instant now);

    // How many rows may be taken now, if they are as large as expected, and when to ask again where that is none.
    std::uint64_t rows_allowed(std::uint32_t bytes_each, Instant now);
    Instant allowed_at() const { return allowed_at_; }
    void spent(std::uint64_t rows, std::uint64_t bytes);

    std::uint32_t in_flight_limit() const { return congestion_.limit(); }
    std::uint64_t recovery_rate() const { return recovery_rate_; }  // rows/s; 0: not recovering
    Instant wake_at() const { return recovery_rate_ > 0 ? doubled_at_ + std::chrono::seconds(1) : never; }

private:
    std::uint64_t share_of(std::uint64_t all) const;
    std::uint64_t ceiling() const { return share_of(override_.value_or(configured_)); }  // this worker's; 0: none
    void apply(Instant now);

    const std::uint64_t batch_rows_;
    const std::uint64_t configured_;
    const std::uint64_t configured_bytes_;
    const std::uint64_t recovery_start_;
    std::optional<std::uint64_t> override_;
    std::uint32_t lanes_owned_;
    std::uint64_t recovery_rate_ = 0;
    Instant recovered_at_{};
    Instant doubled_at_{};
    TokenBucket rows_;
    TokenBucket bytes_;
    CongestionWindow congestion_;
    Instant allowed_at_{};
};

}  // namespace outbox
