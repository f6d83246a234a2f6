// The claim of `claim = "rows"`: the transaction that keeps the rows of one read locked while they are published. From
// its first statement until its end nothing else may be said on the session: it would become part of the transaction.
//
//   (none) ─ read sent ─► open ─ every row is home, or it was held long enough ─► end sent: delete, commit ─► (none)
//
// It is held for half a lease at most (and never for more than 5 s), whatever Kafka does: a transaction that stays open
// keeps vacuum from its work, the session from its sign of life (due every third of a lease), and the rows from the
// other workers. What is not acknowledged by then is let go: it stays in the window, and may be published by somebody
// else as well. Pure. Owned by Relay; the worker's thread.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>

#include "core/time.hpp"

namespace outbox {

class Claim {
public:
    explicit Claim(Duration lease_ttl) : hold_(std::min<Duration>(lease_ttl / 2, std::chrono::seconds(5))) {}

    // `probing`: a topic is being tried; what it cannot take must not keep the others waiting for long.
    void sent(bool probing, Instant now) {
        open_ = awaited_ = true;
        until_ = now + (probing ? hold_ / 6 : hold_);
    }
    void answered() { awaited_ = false; }
    void ended(std::uint32_t rows_in_flight) {
        open_ = false;
        if (rows_in_flight > 0) ++outlasted_;
    }
    void lost() { open_ = false; }  // the session, and the transaction with it

    bool open() const { return open_; }
    std::uint64_t outlasted() const { return outlasted_; }  // claims that ended before their rows were home
    bool expired(Instant now) const { return now >= until_; }
    bool due(std::uint32_t rows_in_flight, Instant now) const {
        return open_ && !awaited_ && (rows_in_flight == 0 || expired(now));
    }
    Instant wake_at() const { return open_ && !awaited_ ? until_ : never; }

private:
    Duration hold_;
    bool open_ = false;
    bool awaited_ = false;  // the rows have not come yet
    Instant until_{};
    std::uint64_t outlasted_ = 0;
};

}  // namespace outbox
