#include "core/cluster.hpp"

#include <algorithm>

namespace outbox {

namespace {

using namespace std::chrono_literals;

constexpr Backoff cluster_backoff{200ms, 5s};

// Longer than a leader election takes as a rule, and than a broker pauses for: the producer bridges those by itself.
constexpr Duration patience = 3s;

}  // namespace

void Cluster::trip(std::string_view reason, Instant now) {
    circuit_.trip(reason, now, cluster_backoff, jitter_.next());
}

void Cluster::reachable(Instant now) {
    if (!reachable_) progress_at_ = now;
    reachable_ = true;
}

void Cluster::unreachable(Instant now) {
    reachable_ = false;
    trip("no broker is reachable", now);
}

void Cluster::failed(std::string_view reason, Instant now) {
    trip(reason, now);
}

void Cluster::sent(std::uint32_t moving_before, Instant now) {
    if (moving_before == 0) progress_at_ = now;
}

bool Cluster::acknowledged(Instant now) {
    progress_at_ = now;
    reachable_ = true;
    if (circuit_.closed()) return false;
    circuit_.close();
    return true;
}

bool Cluster::stalled(Instant now) const {
    return reachable_ && now >= progress_at_ + patience;
}

void Cluster::turn(std::uint32_t moving, Instant now) {
    if (circuit_.state() == Circuit::State::open) {
        if (moving == 0 && reachable_ && now >= circuit_.retry_at()) circuit_.try_again();
        return;
    }
    if (moving > 0 && stalled(now)) trip("no acknowledgement for 3 s", now);
}

Instant Cluster::wake_at(std::uint32_t moving) const {
    if (circuit_.state() != Circuit::State::open) return moving > 0 ? progress_at_ + patience : never;
    if (!reachable_) return never;
    return moving == 0 ? circuit_.retry_at() : progress_at_ + patience;
}

}  // namespace outbox
