#include "core/pacing.hpp"

#include <algorithm>

#include "core/row.hpp"

namespace outbox {

namespace {

using namespace std::chrono_literals;

constexpr Duration doubling_every = 1s;
constexpr std::uint64_t no_limit_worth_keeping = 1'000'000;  // rows/s: faster than any worker is

// A tenth of a second's worth is the burst, and never more than one batch, the largest there is (Reading's stride): the
// rate is held over short times too, and a stall shorter than that costs none of it.
std::uint64_t burst_of(std::uint64_t rate, std::uint64_t batch) {
    return std::clamp<std::uint64_t>(rate / 10, 1, batch);
}

}  // namespace

Pacing::Pacing(const RelaySettings& relay, const PacingSettings& pacing)
    : batch_rows_(relay.rows_per_statement_max()),
      configured_(pacing.max_rows_per_second),
      configured_bytes_(pacing.max_bytes_per_second),
      recovery_start_(pacing.recovery_rows_per_second),
      lanes_owned_(lane_count),
      rows_(configured_, burst_of(configured_, batch_rows_)),
      bytes_(configured_bytes_, std::max<std::uint64_t>(configured_bytes_ / 10, 1)),
      congestion_(relay.in_flight_rows, std::min(relay.batch_rows, relay.in_flight_rows / 16)) {}

// 0, no ceiling, stays 0.
std::uint64_t Pacing::share_of(std::uint64_t all) const {
    return all == 0 ? 0 : std::max<std::uint64_t>(all * lanes_owned_ / lane_count, 1);
}

void Pacing::apply(Instant now) {
    std::uint64_t rate = ceiling();
    const std::uint64_t bytes = share_of(configured_bytes_);
    bytes_.set_rate(bytes, std::max<std::uint64_t>(bytes / 10, 1), now);
    if (recovery_rate_ > 0) rate = rate == 0 ? recovery_rate_ : std::min(rate, recovery_rate_);
    rows_.set_rate(rate, burst_of(rate, batch_rows_), now);
}

void Pacing::set_ceiling(std::optional<std::uint64_t> rows_per_second, Instant now) {
    if (rows_per_second == override_) return;
    override_ = rows_per_second;
    apply(now);
}

void Pacing::set_lanes(std::uint32_t owned, Instant now) {
    if (owned == lanes_owned_ || owned == 0) return;
    lanes_owned_ = owned;
    apply(now);
}

void Pacing::recover(Instant now) {
    recovered_at_ = now;
    if (recovery_start_ == 0) return;
    recovery_rate_ = share_of(recovery_start_);
    doubled_at_ = now;
    apply(now);
}

void Pacing::caught_up() {
    if (recovery_rate_ == 0) return;
    recovery_rate_ = no_limit_worth_keeping;  // turn() ends it
}

void Pacing::turn(Instant now) {
    if (recovery_rate_ == 0) return;
    if (recovery_rate_ < no_limit_worth_keeping) {
        if (now < doubled_at_ + doubling_every) return;
        const bool kept_up = congestion_.cut_at() <= doubled_at_;
        recovery_rate_ = kept_up ? recovery_rate_ * 2 : std::max<std::uint64_t>(recovery_rate_ / 2, 1);
        doubled_at_ = now;
    }
    if (recovery_rate_ >= no_limit_worth_keeping || (ceiling() != 0 && recovery_rate_ >= ceiling())) recovery_rate_ = 0;
    apply(now);
}

std::uint64_t Pacing::rows_allowed(std::uint32_t bytes_each, Instant now) {
    // Half a burst at a time: a read per row would cost the database more than the rows do.
    const auto worthwhile = [](const TokenBucket& bucket) { return std::max<std::uint64_t>(bucket.burst() / 2, 1); };
    allowed_at_ = std::max(rows_.when(worthwhile(rows_), now), bytes_.when(worthwhile(bytes_), now));
    if (allowed_at_ > now) return 0;
    return std::min(rows_.available(now), std::max<std::uint64_t>(bytes_.available(now) / bytes_each, 1));
}

void Pacing::spent(std::uint64_t rows, std::uint64_t bytes) {
    rows_.take(rows);
    bytes_.take(bytes);
}

}  // namespace outbox
