// The circuit of the whole cluster. It opens when no broker is reachable, when an error concerns everything, or when
// nothing was acknowledged for a while although rows are in flight. Then nothing is read and nothing more is sent, and
// nothing is purged: what is in flight stays with the producer, which sends it again by itself, and its first
// acknowledgement closes the circuit. Where nothing is in flight, one small batch is tried instead; rows of topics that
// are stuck by themselves do not count, so that one stuck topic never passes for a dead cluster for long.
// Pure. Owned by Relay; the worker's thread.
#pragma once

#include <cstdint>
#include <string_view>

#include "core/circuit.hpp"
#include "core/time.hpp"

namespace outbox {

class Cluster {
public:
    explicit Cluster(std::uint64_t seed) : jitter_(seed) {}

    void reachable(Instant now);
    void unreachable(Instant now);
    void failed(std::string_view reason, Instant now);  // an error that is about no row and no topic
    void sent(std::uint32_t moving_before, Instant now);
    // True when this closed the circuit: the broker is back after an outage.
    bool acknowledged(Instant now);
    // Half-open, with not a single row waiting: there is nothing it could be kept from.
    void nothing_to_try() {
        if (circuit_.state() == Circuit::State::half_open) circuit_.close();
    }
    // `moving`: rows in flight of topics that are not parked.
    void turn(std::uint32_t moving, Instant now);
    // A broker is reachable, and takes nothing: whatever is in flight is stuck.
    bool stalled(Instant now) const;

    const Circuit& circuit() const { return circuit_; }
    // While half-open, only so many rows at once and only when nothing else moves.
    static constexpr std::uint32_t probe_rows = 100;
    Instant wake_at(std::uint32_t moving) const;

private:
    void trip(std::string_view reason, Instant now);

    Circuit circuit_;
    Jitter jitter_;
    bool reachable_ = true;
    Instant progress_at_{};  // the last acknowledgement, or when rows last began to be in flight, or a broker came back
};

}  // namespace outbox
