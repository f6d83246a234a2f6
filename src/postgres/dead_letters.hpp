// The dead letters: looking at them, giving them another chance, throwing them away. In batches of bounded size, each
// one transaction with its line in outbox.audit. Filters are parameters, never text. One thread at a time.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "postgres/audit.hpp"

namespace outbox {

// What is not given does not matter.
struct DeadLetterFilter {
    std::optional<std::string> topic = std::nullopt;
    std::optional<std::string> key = std::nullopt;
    std::optional<std::string> error_code = std::nullopt;
    std::optional<std::string> since = std::nullopt;  // the last failure; what timestamptz takes, see resolve_since()
    std::vector<std::int64_t> ids = {};

    bool matches_everything() const { return !topic && !key && !error_code && !since && ids.empty(); }
};

// Of the ids that match, those above `after` and up to `upto`, at most `limit` of them: one page, or one batch.
struct DeadLetterRange {
    std::int64_t after = 0;
    std::int64_t upto = std::numeric_limits<std::int64_t>::max();
    std::int64_t limit = 100;
};

struct DeadLetter {
    std::int64_t id = 0;
    std::int64_t message_id = 0;
    std::string event_id;
    std::string topic;
    std::optional<std::string> key;
    std::optional<std::int64_t> payload_bytes;  // nullopt: a tombstone
    std::optional<std::string> payload;         // the bytes, where they were asked for
    std::string headers;                        // JSON
    std::string created_at;                     // these three: UTC, ISO 8601
    std::string error_code;
    std::string error_text;
    std::int64_t attempts = 0;
    std::string first_failed_at;
    std::string last_failed_at;
};

// A point in time as the server reads it, in UTC where no zone is named. nullopt: it is none.
std::optional<std::string> resolve_since(Client& client, const std::string& timestamp);
std::string resolve_since(Client& client, std::chrono::milliseconds ago);

// In order of arrival.
std::vector<DeadLetter> list_dead_letters(Client& client, const DeadLetterFilter& filter, const DeadLetterRange& range,
                                          bool with_payload);
std::int64_t count_dead_letters(Client& client, const DeadLetterFilter& filter, const DeadLetterRange& range);

// Above every id there is: what arrives later is out of a range that ends here. A requeued event that fails again comes
// back with a new id, and would go round for ever.
std::int64_t last_dead_letter(Client& client);

struct DeadLetterBatch {
    std::int64_t rows = 0;
    std::int64_t last_id = 0;
};

DeadLetterBatch requeue_dead_letters(Client& client, const Operator& who, const DeadLetterFilter& filter,
                                     const DeadLetterRange& batch);
DeadLetterBatch discard_dead_letters(Client& client, const Operator& who, const DeadLetterFilter& filter,
                                     const DeadLetterRange& batch);

}  // namespace outbox
