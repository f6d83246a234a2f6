// Where reads begin. Ids are drawn before commit, so id 5 may become visible after id 9; the mark `low` says: no row
// with an id <= low can still appear. Reads of `id > low` therefore miss nothing, and never walk the dead rows below.
//
// How it moves: a probe reads the last id drawn (high) and then who holds the writers' lock on outbox.message. A
// writer takes that lock before it draws an id. Once all those holders are gone, every id <= high is visible or
// rolled back ("settled"), and the next read that begins after this was learnt may carry `low` up to it.
// The order matters twice: high before holders, and the read after both.
// A holder that is prepared (two-phase commit) is not gone yet. It keeps its virtual transaction id on current servers,
// and goes by -1/xid after a restart and on older ones: prepared transactions that show up under that form while a live
// holder disappears are waited for as well.
//
// Where rows are claimed, other workers relay rows of the same range and may give them back at any time: there `low`
// stays below the lowest row that is still in the table, locked or not; and as rows that others relay are never seen
// here, it is probed for all the time.
//
// Pure. Owned by Relay; the worker's thread.
#pragma once

#include <algorithm>
#include <span>
#include <vector>

#include "core/messages.hpp"
#include "core/row.hpp"
#include "core/settings.hpp"
#include "core/time.hpp"

namespace outbox {

class LowMark {
public:
    explicit LowMark(ClaimMode claim = ClaimMode::lanes) : shared_(claim == ClaimMode::rows) {}

    void reset();  // a new session: ids may have been re-issued, so nothing is known

    void probe_answered(RowId high, std::span<const Holder> holders, Instant now);

    // A read of `id > low()` came back. `last` is the highest id it accounts for; `cut_short` says that rows may exist
    // beyond it which the read did not return.
    void rows_read(RowId last, bool cut_short);

    // A claim of `id > low()` came back. There is no row up to `empty_upto` but those that are waited for elsewhere.
    void rows_claimed(RowId last, RowId empty_upto);
    void go_back(RowId to) { low_ = std::min(low_, to); }

    RowId low() const { return low_; }
    RowId head() const { return head_; }        // the highest id seen
    RowId settled() const { return settled_; }  // every id up to here is visible or rolled back
    bool lags() const { return head_ > low_; }

    bool probe_due(Instant now) const { return now >= probe_at(); }
    Instant probe_at() const {
        if (probing_) return never;
        return unsettled() ? probe_at_ : probe_idle_at_;
    }
    void probe_sent() { probing_ = true; }

private:
    bool unsettled() const { return shared_ || !probed_ || head_ > settled_; }
    void resolve(std::span<const Holder> holders);

    bool shared_;
    RowId low_;
    RowId head_;
    RowId settled_;
    bool probed_ = false;   // at least once since reset()
    bool probing_ = false;  // a probe is under way
    Instant probe_at_{};
    Instant probe_idle_at_{};
    Duration pause_{};
    Duration pause_idle_{};

    bool waiting_ = false;  // for holders_ to go, so that high_ is settled
    RowId high_;
    std::vector<Holder> holders_;
    std::vector<Holder> prepared_before_;
};

}  // namespace outbox
