// What the operators want, as outbox.control and outbox.blocked_key say: read again every half second, so that it holds
// within a second on every worker, and read before the first row is, so that a pause survives a restart.
// Blocked keys: a key whose row can never be published waits, by policy, until an operator releases it. They are known
// here by a hash of topic and key; the list is only read again when the database's differs from ours.
// Pure. Owned by Relay; the worker's thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "core/messages.hpp"
#include "core/row.hpp"
#include "core/time.hpp"

namespace outbox {

class Control {
public:
    void session_opened(Instant now);
    void session_lost();

    // `blocks_under_way`: keys are being blocked right now, so that the database's list may not hold them yet.
    void on(const ControlRead& event, bool blocks_under_way, Instant now);
    // Keys that are not blocked any more: where their lanes have to go back to.
    std::span<const KeyBlock> on(const BlockedKeysRead& event, bool blocks_under_way);

    std::optional<Action> next(bool blocks_under_way, Instant now);
    Instant wake_at() const { return open_ && !reading_ ? read_at_ : never; }

    // False until both have been read in this session: nothing may be relayed before that.
    bool known() const { return control_known_ && keys_known_; }
    bool paused() const { return paused_; }
    std::optional<std::uint64_t> max_rows_per_second() const { return max_rows_per_second_; }
    std::int64_t revision() const { return revision_; }  // of outbox.control, the highest seen

    // True when its key is blocked: the row waits, and the key's release goes back to the lowest one that does.
    bool pass_over(std::uint64_t key_hash, RowId row);
    void pass_over_all(RowId from);  // reads leave them out, from this id on
    void block(std::uint64_t key_hash, RowId row, std::uint8_t lane);
    void keys_changed() {  // by a statement of ours that did not know the key: nothing is known until they are read
        keys_known_ = false;
        keys_due_ = blocked_meanwhile_ = true;
    }
    std::size_t blocked_keys() const { return blocked_.size(); }
    void blocking_rows(std::vector<RowId>& rows, std::size_t max) const;

private:
    bool open_ = false;
    bool reading_ = false;
    Instant read_at_{};
    bool control_known_ = false;
    bool keys_known_ = false;
    bool keys_due_ = false;
    bool blocked_meanwhile_ = false;  // since the statement under way was sent
    bool blocked_here_ = false;       // since the list was read: the digest says nothing of those

    bool paused_ = false;
    std::optional<std::uint64_t> max_rows_per_second_;
    std::int64_t revision_ = 0;

    struct Blocked {
        RowId by;
        RowId back_to;  // the lowest row that waits
        std::uint8_t lane = 0;
    };
    std::unordered_map<std::uint64_t, Blocked> blocked_;  // by hash
    BlockedDigest digest_;
    std::vector<KeyBlock> released_;
};

}  // namespace outbox
