// Keys that wait for an operator because their first row cannot be published (poison.policy = "block-key"): what there
// is, and letting one go. One thread at a time.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "postgres/audit.hpp"

namespace outbox {

struct BlockedKey {
    std::string topic;
    std::string key;
    std::int64_t message_id = 0;
    std::string event_id;
    std::string error_code;
    std::string error_text;
    std::int64_t attempts = 0;
    double blocked_age_seconds = 0;
};

struct BlockedKeys {
    std::int64_t rows = 0;
    bool capped = false;  // there are at least this many
    std::vector<BlockedKey> first;
};

// The longest blocked ones first, at most `listed` of them; counted up to `cap`.
BlockedKeys read_blocked_keys(Client& client, std::int64_t cap, std::int64_t listed = 20);

enum class BlockingRow {
    stays,            // and is tried again
    to_dead_letters,  // in the same transaction, so that the key goes on with the row after it
};

struct ReleasedKey {
    std::int64_t message_id = 0;
    std::string event_id;
    std::string error_code;
    std::optional<std::int64_t> dead_letter_id;  // where the row is now, when it was moved
};

// nullopt: that key is not blocked.
std::optional<ReleasedKey> release_key(Client& client, const Operator& who, const std::string& topic,
                                       const std::string& key, BlockingRow row);

}  // namespace outbox
