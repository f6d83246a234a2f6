#include "core/control.hpp"

#include <algorithm>

namespace outbox {

namespace {

using namespace std::chrono_literals;

constexpr Duration read_every = 500ms;

}  // namespace

void Control::session_opened(Instant now) {
    open_ = true;
    reading_ = false;
    read_at_ = now;
    control_known_ = keys_known_ = keys_due_ = false;
}

void Control::session_lost() {
    open_ = false;
    control_known_ = keys_known_ = false;
}

void Control::on(const ControlRead& event, bool blocks_under_way, Instant now) {
    reading_ = false;
    read_at_ = now + read_every;
    control_known_ = true;
    paused_ = event.paused;
    max_rows_per_second_ = event.max_rows_per_second;
    revision_ = event.revision;
    if (blocks_under_way || blocked_meanwhile_) return;  // the list is in motion: next time
    keys_due_ = event.blocked != digest_ || blocked_here_ || !keys_known_;
    if (keys_due_ && event.blocked == BlockedDigest{} && blocked_.empty()) {
        keys_due_ = false;
        keys_known_ = true;
        digest_ = event.blocked;
    }
}

std::span<const KeyBlock> Control::on(const BlockedKeysRead& event, bool blocks_under_way) {
    reading_ = false;
    released_.clear();
    if (blocks_under_way || blocked_meanwhile_) return released_;
    std::unordered_map<std::uint64_t, Blocked> now_blocked;
    for (const KeyBlock& key : event.keys) now_blocked.emplace(key.key_hash, Blocked{key.row, key.row, key.lane});
    for (const auto& [hash, key] : blocked_) {
        const auto still = now_blocked.find(hash);
        if (still == now_blocked.end())
            released_.push_back({hash, key.back_to, key.lane});
        else
            still->second.back_to = std::min(still->second.back_to, key.back_to);
    }
    blocked_ = std::move(now_blocked);
    digest_ = event.digest;
    keys_known_ = true;
    keys_due_ = blocked_here_ = false;
    return released_;
}

std::optional<Action> Control::next(bool blocks_under_way, Instant now) {
    if (!open_ || reading_) return std::nullopt;
    if (keys_due_ && !blocks_under_way) {
        reading_ = true;
        blocked_meanwhile_ = false;
        return ReadBlockedKeys{};
    }
    if (now < read_at_) return std::nullopt;
    reading_ = true;
    blocked_meanwhile_ = false;
    return ReadControl{};
}

void Control::block(std::uint64_t key_hash, RowId row, std::uint8_t lane) {
    blocked_meanwhile_ = blocked_here_ = true;
    if (key_hash != 0) blocked_.emplace(key_hash, Blocked{row, row, lane});
}

void Control::pass_over_all(RowId from) {
    for (auto& [hash, key] : blocked_) key.back_to = std::min(key.back_to, from);
}

void Control::blocking_rows(std::vector<RowId>& rows, std::size_t max) const {
    for (auto at = blocked_.begin(); at != blocked_.end() && rows.size() < max; ++at) rows.push_back(at->second.by);
}

// A later row may have blocked the key: one that was judged at sight, while an earlier one was in flight.
bool Control::pass_over(std::uint64_t key_hash, RowId row) {
    if (blocked_.empty()) return false;
    const auto found = blocked_.find(key_hash);
    if (found == blocked_.end()) return false;
    found->second.back_to = std::min(found->second.back_to, row);
    return true;
}

}  // namespace outbox
