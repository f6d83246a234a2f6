// What keeps one row from bringing the relay down for ever. Where several processes in a row ended abruptly soon after
// their start, this one goes carefully: a few rows at a time, each read only after the last ones are gone from the
// table, and the ids that are being handled noted in the database, in the statement that reads them. Who dies then
// leaves behind which rows it was at; the next process takes those one at a time, and a row that was alone at the time
// of two crashes is isolated without being touched again. A row that has been in flight for a second has shown that it
// is harmless: who dies later died of something else, and the note is withdrawn.
// The care ends when nothing waits any more, or after more rows than can have been under way.
// Pure. Owned by Relay; the worker's thread.
#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "core/messages.hpp"
#include "core/row.hpp"

namespace outbox {

class CrashGuard {
public:
    explicit CrashGuard(std::uint32_t in_flight_rows) : rows_to_pass_(std::uint64_t{in_flight_rows} * 2) {}

    // Asked once, when the first lanes are ours: whoever had them before is known to be dead by then. Nothing may be
    // read before the answer.
    bool learnt() const { return learnt_; }
    bool ask() { return !learnt_ && !std::exchange(asked_, true); }
    void session_lost() { asked_ = false; }
    void learn(const CrashesRead& history) {
        if (std::exchange(learnt_, true)) return;
        if (history.crashes < crashes_to_notice && history.attempts.empty()) return;
        active_ = true;
        for (const IdSpan& attempt : history.attempts) {
            suspicious_upto_ = std::max(suspicious_upto_, attempt.upto);
            const auto same = [&](const IdSpan& other) {
                return other.from == attempt.from && other.upto == attempt.upto;
            };
            const bool twice = std::count_if(history.attempts.begin(), history.attempts.end(), same) > 1;
            const bool known = std::find(culprits_.begin(), culprits_.end(), attempt.from) != culprits_.end();
            if (attempt.from == attempt.upto && twice && !known) culprits_.push_back(attempt.from);
        }
    }

    bool active() const { return active_; }
    std::vector<RowId> take_culprits() { return std::exchange(culprits_, {}); }

    // How many rows a read after this id may bring.
    std::uint32_t rows_max(RowId after) const {
        if (!active_) return UINT32_MAX;
        return after < suspicious_upto_ ? 1 : careful_rows;
    }

    // A read has brought rows, and noted them.
    void noted(Instant now) { withdraw_at_ = now + harmless_after; }
    bool withdrawal_due(Instant now) const { return active_ && now >= withdraw_at_; }
    void withdrawn() { withdraw_at_ = never; }
    Instant wake_at() const { return active_ ? withdraw_at_ : never; }

    // True when this was the end of it.
    bool passed(std::uint64_t rows) {
        if (!active_) return false;
        rows_to_pass_ -= std::min(rows, rows_to_pass_);
        return rows_to_pass_ == 0 && end();
    }
    bool caught_up() { return active_ && end(); }

private:
    static constexpr std::uint32_t crashes_to_notice = 3;
    static constexpr std::uint32_t careful_rows = 64;
    static constexpr Duration harmless_after = std::chrono::seconds(1);

    bool end() {
        active_ = false;
        return true;
    }

    std::uint64_t rows_to_pass_;
    std::vector<RowId> culprits_;
    RowId suspicious_upto_;
    Instant withdraw_at_ = never;
    bool asked_ = false;
    bool learnt_ = false;
    bool active_ = false;
};

}  // namespace outbox
