// What keeps one row from bringing the relay down for ever. The ids of the first rows a process reads are noted in the
// database, in the statement that reads them, and withdrawn a second later: rows that have been in flight for a second
// have shown that they are harmless. Who dies sooner leaves behind which rows it was at.
// Where several processes in a row died over the same rows, this one goes carefully: those rows one at a time, others a
// few at a time, all of them noted, and each read only after the rows of the last one are gone from the table. A row
// that was alone at the time of two crashes is isolated without being touched again. Processes that are killed while
// they get on with their work leave notes of different rows, and mean nothing.
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
    void session_lost() { asked_ = note_under_way_ = false; }
    void learn(const CrashesRead& history) {
        if (std::exchange(learnt_, true) || history.attempts.empty()) return;
        const Attempt& last = history.attempts.front();
        std::vector<std::int64_t> processes;
        for (const Attempt& attempt : history.attempts) {
            const bool overlaps = attempt.from <= last.upto && attempt.upto >= last.from;
            if (overlaps && std::find(processes.begin(), processes.end(), attempt.process) == processes.end())
                processes.push_back(attempt.process);
        }
        if (processes.size() < crashes_to_notice) return;
        active_ = true;
        for (const Attempt& attempt : history.attempts) suspect(attempt, history.attempts);
    }

    bool active() const { return active_; }
    std::vector<RowId> take_culprits() { return std::exchange(culprits_, {}); }

    // How many rows a read after this id may bring.
    std::uint32_t rows_max(RowId after) const {
        if (!active_) return UINT32_MAX;
        return after < suspicious_upto_ ? 1 : careful_rows;
    }

    // Whether the next read is to be noted; it was sent; it brought rows.
    bool notes() const { return active_ || !first_noted_; }
    void sent() {
        first_noted_ = true;
        note_under_way_ = true;
    }
    void rows_came(Instant now) {
        if (std::exchange(note_under_way_, false)) withdraw_at_ = now + harmless_after;
    }
    bool withdrawal_due(Instant now) const { return now >= withdraw_at_; }
    void withdrawn() { withdraw_at_ = never; }
    Instant wake_at() const { return withdraw_at_; }

    // True when this was the end of it.
    bool passed(std::uint64_t rows) {
        if (!active_) return false;
        rows_to_pass_ -= std::min(rows, rows_to_pass_);
        return rows_to_pass_ == 0 && end();
    }
    bool caught_up() { return active_ && end(); }

private:
    static constexpr std::size_t crashes_to_notice = 3;
    static constexpr std::uint32_t careful_rows = 64;
    static constexpr Duration harmless_after = std::chrono::seconds(1);

    void suspect(const Attempt& attempt, std::span<const Attempt> all) {
        suspicious_upto_ = std::max(suspicious_upto_, attempt.upto);
        if (attempt.from != attempt.upto) return;
        const bool twice = std::any_of(all.begin(), all.end(), [&](const Attempt& other) {
            return other.from == attempt.from && other.upto == attempt.upto && other.process != attempt.process;
        });
        const bool known = std::find(culprits_.begin(), culprits_.end(), attempt.from) != culprits_.end();
        if (twice && !known) culprits_.push_back(attempt.from);
    }

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
    bool first_noted_ = false;
    bool note_under_way_ = false;
};

}  // namespace outbox
