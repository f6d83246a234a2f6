#include "postgres/blocked_keys.hpp"

#include <algorithm>

namespace outbox {

BlockedKeys read_blocked_keys(Client& client, std::int64_t cap, std::int64_t listed) {
    BlockedKeys keys;
    const Rows count = client.execute("SELECT count(*) FROM (SELECT 1 FROM outbox.blocked_key LIMIT $1::bigint) AS b",
                                      {std::to_string(cap + 1)});
    keys.rows = std::min(count.integer(0, 0), cap);
    keys.capped = count.integer(0, 0) > cap;
    if (keys.rows == 0) return keys;

    const Rows rows = client.execute(
        "SELECT topic, key, message_id, event_id, error_code, error_text, attempts,"
        " greatest(extract(epoch FROM pg_catalog.clock_timestamp() - blocked_at), 0)::float8"
        " FROM outbox.blocked_key ORDER BY blocked_at, topic, key LIMIT $1::bigint",
        {std::to_string(listed)});
    for (std::size_t i = 0; i < rows.size(); ++i)
        keys.first.push_back({rows.text(i, 0), rows.text(i, 1), rows.integer(i, 2), rows.text(i, 3), rows.text(i, 4),
                              rows.text(i, 5), rows.integer(i, 6), rows.real(i, 7)});
    return keys;
}

std::optional<ReleasedKey> release_key(Client& client, const Operator& who, const std::string& topic,
                                       const std::string& key, BlockingRow row) {
    std::optional<ReleasedKey> released;
    audited(client, who, [&] {
        // The event id as well: after a failover the same message id may be another event.
        const Rows rows = client.execute(
            "WITH freed AS (DELETE FROM outbox.blocked_key WHERE topic = $1::text AND key = $2::text RETURNING *),"
            " gone AS (DELETE FROM outbox.message AS m USING freed AS f WHERE $3::boolean AND m.id = f.message_id"
            "  AND m.event_id = f.event_id RETURNING m.id, m.event_id, m.topic, m.key, m.payload, m.headers,"
            "  m.created_at, f.error_code, f.error_text, f.attempts, f.blocked_at),"
            " dead AS (INSERT INTO outbox.dead_letter (message_id, event_id, topic, key, payload, headers, created_at,"
            "  error_code, error_text, attempts, first_failed_at, last_failed_at) SELECT id, event_id, topic, key,"
            "  payload, headers, created_at, error_code, error_text, attempts, blocked_at, blocked_at FROM gone"
            "  RETURNING id),"
            " line AS (INSERT INTO outbox.audit (action, target, detail, reason) SELECT 'unblock', f.topic,"
            "  pg_catalog.jsonb_build_object('key', f.key, 'message_id', f.message_id, 'event_id', f.event_id,"
            "   'error_code', f.error_code, 'dead_letter_id', (SELECT id FROM dead)), $4::text FROM freed AS f)"
            " SELECT f.message_id, f.event_id, f.error_code, (SELECT id FROM dead) FROM freed AS f",
            {topic, key, row == BlockingRow::to_dead_letters ? "true" : "false", who.reason}, std::chrono::seconds(60));
        if (rows.size() == 0) return;
        released = ReleasedKey{rows.integer(0, 0), rows.text(0, 1), rows.text(0, 2), std::nullopt};
        if (rows.at(0, 3)) released->dead_letter_id = rows.integer(0, 3);
    });
    return released;
}

}  // namespace outbox
