// Every statement the relay's session runs, each with the reason for its shape. All are prepared once per session and
// executed with binary parameters and results. Any thread.
#pragma once

#include <array>
#include <cstdint>

namespace outbox {

enum class Statement : std::uint8_t {
    settings,
    schema,
    crashes,
    renew,
    attend,
    acquire,
    release,
    leave,
    read,
    read_skipping,
    read_topic,
    read_noted,
    begin,
    lowest,
    claim,
    commit,
    probe_high,
    probe_holders,
    delete_places,
    delete_stretch,
    delete_ids,
    delete_events,
    delete_unlocked,
    bury,
    block,
    control,
    blocked_keys,
    withdraw_note,
    forget_crashes,
};

struct StatementText {
    Statement statement;
    const char* name;
    const char* table;  // what an error is most likely about
    const char* sql;
};

// The columns every read returns, in this order; RowBatch decodes them by position.
// A payload above $5 is withheld and only its size comes along, so that no read can bring more than the window holds.
// Headers that are '{}', as most are, stay behind: the only object that is stored in 5 bytes, and the dearest column to
// make a text of.
#define OUTBOX_READ_COLUMNS                                                             \
    "SELECT id, lane, event_id, created_at, topic, key, "                               \
    "CASE WHEN octet_length(payload) <= $5 THEN payload END AS payload, "               \
    "CASE WHEN pg_column_size(headers) > 5 THEN headers END AS headers, "               \
    "CASE WHEN octet_length(payload) > $5 THEN octet_length(payload) END AS withheld, " \
    "ctid AS place FROM outbox.message "

// What a claim looks at: one topic or ('') all but some.
#define OUTBOX_CLAIMABLE \
    "WHERE id > $1::int8 AND id <= $2::int8 AND topic <> ALL($3::text[]) AND ($4::text = '' OR topic = $4) "

// Nor of a key that one of these rows blocks.
#define OUTBOX_NOT_BLOCKED_BY(rows)                                     \
    "AND (cardinality(" rows                                            \
    "::int8[]) = 0 OR NOT EXISTS (SELECT FROM outbox.blocked_key AS b " \
    "WHERE b.topic = message.topic AND b.key = message.key AND b.message_id = ANY(" rows "))) "

// "I live", and: workers not seen for an hour, or for twenty lifetimes, are forgotten on the way: until then they tell
// of crashes. Times that no living worker can have left are mended: the clock was ahead, and was set back. Who lives
// renews its own; one that has died would keep its lanes, and its share of them, until the clock is there again.
#define OUTBOX_ATTENDANCE                                                                                     \
    "WITH alive AS (INSERT INTO outbox.relay (id, host, pid, version, seen_at, lease_ttl_ms, "                \
    "in_flight_rows, control_revision) "                                                                      \
    "VALUES ($1::uuid, $3::text, $4::int4, $5::text, clock_timestamp(), $2::int8, $6::int4, $7::int8) "       \
    "ON CONFLICT (id) DO UPDATE SET seen_at = clock_timestamp(), in_flight_rows = $6, "                       \
    "control_revision = $7), "                                                                                \
    "forgotten AS (DELETE FROM outbox.relay WHERE id <> $1 AND "                                              \
    "seen_at < clock_timestamp() - greatest($2 * interval '20 milliseconds', interval '1 hour')), "           \
    "ahead AS (UPDATE outbox.relay SET seen_at = clock_timestamp() WHERE id IN (SELECT id "                   \
    "FROM outbox.relay WHERE id <> $1 AND seen_at > clock_timestamp() + $2 * interval '1 millisecond' "       \
    "FOR UPDATE SKIP LOCKED)), "                                                                              \
    "overlong AS (UPDATE outbox.lane SET expires_at = clock_timestamp() + ttl FROM (SELECT l.lane AS late, "  \
    "greatest($2, r.lease_ttl_ms) * interval '1 millisecond' AS ttl FROM outbox.lane AS l "                   \
    "LEFT JOIN outbox.relay AS r ON r.id = l.owner WHERE l.owner <> $1 AND l.expires_at > clock_timestamp() " \
    "+ greatest($2, r.lease_ttl_ms) * interval '2 milliseconds' FOR UPDATE OF l SKIP LOCKED) AS found "       \
    "WHERE lane = late), " OUTBOX_OTHERS

// One bit for each id from $2 to $3.
#define OUTBOX_ONE_OF_THE_IDS                      \
    "CASE WHEN id >= $2::int8 AND id <= $3::int8 " \
    "THEN get_bit($1::bytea, (id - $2)::int4) = 1 ELSE false END"

#define OUTBOX_SAME_EVENT "(event_id = $2::uuid OR $2 = '00000000-0000-0000-0000-000000000000') "

#define OUTBOX_DEAD_LETTER_COLUMNS \
    "(message_id, event_id, topic, key, payload, headers, created_at, error_code, error_text) "

// The other workers alive, as $1 with its lease of $2 milliseconds sees them: each has a share of the lanes. While one
// is remembered that died young, a newcomer counts only once it has lived for three leases: an instance that dies again
// and again is handed nothing, and what it leaves behind is not counted.
#define OUTBOX_OTHERS                                                                                              \
    "others AS (SELECT id FROM outbox.relay WHERE id <> $1::uuid "                                                 \
    "AND seen_at > clock_timestamp() - $2::int8 * interval '1 millisecond' "                                       \
    "AND (seen_at - started_at >= $2 * interval '3 milliseconds' OR NOT EXISTS (SELECT FROM outbox.relay AS dead " \
    "WHERE dead.seen_at - dead.started_at < interval '1 minute' AND dead.seen_at < clock_timestamp() - "           \
    "$2 * interval '0.5 milliseconds' AND dead.seen_at > clock_timestamp() - interval '1 minute'))) "

// Bounded, in one order: what is compared and what is read must be the same.
#define OUTBOX_BLOCKED_KEYS \
    "(SELECT topic, key, message_id, lane FROM outbox.blocked_key ORDER BY topic, key LIMIT 100000) AS blocked"

inline constexpr std::array statements{
    // Plans are pinned: statistics do not see dead rows, and a queue that was just emptied would otherwise flip to a
    // plan that reads all of them. Every statement here wants its index and its order. The isolation level is the
    // relay's, whatever the role's default: each statement is a transaction of its own, and a stricter level would only
    // refuse it.
    StatementText{
        Statement::settings, "settings", "outbox.message",
        "SELECT set_config('plan_cache_mode', 'force_generic_plan', false), set_config('enable_seqscan', 'off', "
        "false), set_config('enable_bitmapscan', 'off', false), set_config('enable_sort', 'off', false), "
        "set_config('jit', 'off', false), set_config('statement_timeout', $1::text, false), "
        "set_config('default_transaction_isolation', 'read committed', false), "
        // Only a claim stays open between statements, and for half a lease at most: after a whole one its owner is
        // frozen.
        "set_config('idle_in_transaction_session_timeout', $2::text, false), "
        // From Postgres 14 on. The session that deletes has nothing to do for as long as nobody writes.
        "(SELECT set_config(name, '0', false) FROM pg_catalog.pg_settings WHERE name = 'idle_session_timeout')"},
    StatementText{Statement::schema, "schema", "outbox.migration",
                  "SELECT coalesce(max(version), 0)::int8, pg_catalog.pg_postmaster_start_time() FROM outbox.migration "
                  "WHERE module = 'outbox'"},
    // Workers of processes that ended abruptly (nobody removed their row) soon after their start and not long ago: the
    // number of the process, and the rows the worker was at.
    StatementText{Statement::crashes, "crashes", "outbox.relay",
                  "SELECT dense_rank() OVER (ORDER BY host, pid), attempting_from, attempting_upto FROM outbox.relay "
                  "WHERE id <> $1::uuid AND seen_at < clock_timestamp() - lease_ttl_ms * interval '1 millisecond' "
                  "AND seen_at - started_at < interval '1 minute' AND attempting_upto IS NOT NULL "
                  "AND started_at > clock_timestamp() - interval '15 minutes' ORDER BY seen_at DESC LIMIT 1000"},
    // One statement says "I live", renews every lease, and counts the fleet. Only the database's clock decides.
    StatementText{Statement::renew, "renew", "outbox.lane",
                  OUTBOX_ATTENDANCE
                  ", renewed AS (UPDATE outbox.lane SET expires_at = clock_timestamp() + $2 * interval '1 millisecond' "
                  "WHERE owner = $1 RETURNING lane) "
                  "SELECT coalesce((SELECT bit_or(1::int8 << lane::int4) FROM renewed), 0), "
                  "1 + (SELECT count(*) FROM others), (SELECT count(*) FROM others WHERE id < $1), clock_timestamp()"},
    // The same of a worker that claims rows: it leases nothing, and asks which lanes anybody leases.
    StatementText{Statement::attend, "attend", "outbox.relay",
                  OUTBOX_ATTENDANCE
                  " SELECT coalesce((SELECT bit_or(1::int8 << lane::int4) FROM outbox.lane WHERE owner IS NOT NULL AND "
                  "expires_at > clock_timestamp()), 0), "
                  "1 + (SELECT count(*) FROM others), (SELECT count(*) FROM others WHERE id < $1), clock_timestamp()"},
    // Free or expired lanes, up to this worker's share. SKIP LOCKED: two workers that look at once take different
    // lanes instead of waiting for each other. The epoch goes up with every change of owner.
    StatementText{
        Statement::acquire, "acquire", "outbox.lane",
        "WITH " OUTBOX_OTHERS
        ", fleet AS (SELECT 1 + count(*) AS living, count(*) FILTER (WHERE id < $1) AS rank FROM others), "
        "share AS (SELECT 64 / living + CASE WHEN rank < 64 % living THEN 1 ELSE 0 END "
        "- (SELECT count(*) FROM outbox.lane WHERE owner = $1) AS lanes FROM fleet), "
        "picked AS (SELECT lane FROM outbox.lane WHERE expires_at <= clock_timestamp() AND owner IS DISTINCT FROM $1 "
        "ORDER BY lane LIMIT greatest((SELECT lanes FROM share), 0) FOR UPDATE SKIP LOCKED), "
        "taken AS (UPDATE outbox.lane AS l SET owner = $1, epoch = epoch + 1, "
        "expires_at = clock_timestamp() + $2 * interval '1 millisecond' "
        "FROM picked AS p WHERE l.lane = p.lane RETURNING l.lane) "
        "SELECT coalesce(bit_or(1::int8 << lane::int4), 0) FROM taken"},
    StatementText{Statement::release, "release", "outbox.lane",
                  "UPDATE outbox.lane SET owner = NULL, expires_at = '-infinity' "
                  "WHERE owner = $1::uuid AND ($2::int8 >> lane::int4) & 1 = 1"},
    StatementText{Statement::leave, "leave", "outbox.relay", "DELETE FROM outbox.relay WHERE id = $1::uuid"},
    // One statement, one snapshot, in id order: this is what per-key order rests on. The lanes as a bit mask cost half
    // of what lane = ANY(array) does.
    StatementText{
        Statement::read, "read", "outbox.message",
        OUTBOX_READ_COLUMNS
        "WHERE id > $1::int8 AND id <= $2::int8 AND ($3::int8 >> lane::int4) & 1 = 1 ORDER BY id LIMIT $4::int8"},
    // The same while `low` lags behind: rows already in the window ($7, one bit per id from $6 on) are left out, and
    // topics ($8) and blocked keys whose rows have to wait, so that LIMIT is spent on new ones.
    StatementText{
        Statement::read_skipping, "read_skipping", "outbox.message",
        OUTBOX_READ_COLUMNS
        "WHERE id > $1::int8 AND id <= $2::int8 AND ($3::int8 >> lane::int4) & 1 = 1 AND "
        "CASE WHEN id - $6::int8 < octet_length($7::bytea) * 8::int8 "
        "THEN get_bit($7, (id - $6)::int4) = 0 ELSE true END AND topic <> ALL($8::text[]) " OUTBOX_NOT_BLOCKED_BY(
            "$9") "ORDER BY id LIMIT $4::int8"},
    StatementText{Statement::read_topic, "read_topic", "outbox.message",
                  OUTBOX_READ_COLUMNS
                  "WHERE id > $1::int8 AND id <= $2::int8 AND ($3::int8 >> lane::int4) & 1 = 1 AND topic = $6::text "
                  "ORDER BY id LIMIT $4::int8"},
    // The first read of a process, and all of them after a crash loop: which ids came is written down in the
    // transaction that reads them. (A scan of a materialized CTE keeps its order.)
    StatementText{
        Statement::read_noted, "read_noted", "outbox.message",
        "WITH picked AS MATERIALIZED (" OUTBOX_READ_COLUMNS
        "WHERE id > $1::int8 AND id <= $2::int8 AND ($3::int8 >> lane::int4) & 1 = 1 ORDER BY id LIMIT $4::int8), "
        "noted AS (UPDATE outbox.relay SET attempting_from = (SELECT min(id) FROM picked), "
        "attempting_upto = (SELECT max(id) FROM picked) WHERE id = $6::uuid) SELECT * FROM picked"},
    // A claim: rows that stay locked while they are published. Whoever looks meanwhile goes past them without waiting.
    // `low` keeps it from walking dead rows, as it does every read; and as a row that somebody else has locked is
    // neither read nor gone, `low` in turn stays below the lowest one, which a statement without locks looks for first.
    StatementText{Statement::begin, "begin", "outbox.message", "BEGIN"},
    StatementText{Statement::lowest, "lowest", "outbox.message",
                  "SELECT id FROM outbox.message " OUTBOX_CLAIMABLE OUTBOX_NOT_BLOCKED_BY("$5") "ORDER BY id LIMIT 1"},
    StatementText{Statement::claim, "claim", "outbox.message",
                  OUTBOX_READ_COLUMNS OUTBOX_CLAIMABLE OUTBOX_NOT_BLOCKED_BY(
                      "$6") "AND CASE WHEN id - $7::int8 < octet_length($8::bytea) * 8::int8 "
                            "THEN get_bit($8, (id - $7)::int4) = 0 ELSE true END "
                            "ORDER BY id LIMIT $9::int8 FOR UPDATE OF message SKIP LOCKED"},
    StatementText{Statement::commit, "commit", "outbox.message", "COMMIT"},
    StatementText{Statement::probe_high, "probe_high", "outbox.message_id_seq",
                  "SELECT CASE WHEN is_called THEN last_value ELSE last_value - 1 END FROM outbox.message_id_seq"},
    // Whoever may have drawn an id: an INSERT takes this lock before it draws one, and holds it to the end of its
    // transaction. Prepared transactions keep it too, under the same name or as -1/xid.
    StatementText{
        Statement::probe_holders, "probe_holders", "outbox.message",
        "SELECT virtualtransaction FROM pg_catalog.pg_locks WHERE locktype = 'relation' AND "
        "database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()) AND "
        "relation = 'outbox.message'::regclass AND mode = 'RowExclusiveLock' AND "
        "pid IS DISTINCT FROM pg_catalog.pg_backend_pid()"},
    // Exact ids, never a range: a range would take a row that committed late and was never read.
    // At the places where they were read, which spares a walk through the index for each: half the cost. What lies
    // there by now has to have one of the ids; what does not is not counted.
    StatementText{Statement::delete_places, "delete_places", "outbox.message",
                  "DELETE FROM outbox.message WHERE ctid = ANY($4::tid[]) AND " OUTBOX_ONE_OF_THE_IDS},
    // The same where the places lie side by side: a walk over pages, a quarter cheaper. Postgres 14 and newer.
    StatementText{Statement::delete_stretch, "delete_stretch", "outbox.message",
                  "DELETE FROM outbox.message WHERE ctid >= $4::tid AND ctid <= $5::tid AND " OUTBOX_ONE_OF_THE_IDS},
    StatementText{Statement::delete_ids, "delete_ids", "outbox.message",
                  "DELETE FROM outbox.message WHERE id = ANY($1::int8[])"},
    // After a reconnect: a failover may have given the same ids to other events.
    StatementText{Statement::delete_events, "delete_events", "outbox.message",
                  "DELETE FROM outbox.message AS m USING unnest($1::int8[], $2::uuid[]) AS d (id, event_id) "
                  "WHERE m.id = d.id AND m.event_id = d.event_id"},
    // Rows that were claimed once and let go: what somebody else has claimed since is theirs to delete.
    StatementText{Statement::delete_unlocked, "delete_unlocked", "outbox.message",
                  "WITH ours AS (SELECT m.id FROM outbox.message AS m "
                  "JOIN unnest($1::int8[], $2::uuid[]) AS d (id, event_id) ON m.id = d.id AND m.event_id = d.event_id "
                  "FOR UPDATE OF m SKIP LOCKED) "
                  "DELETE FROM outbox.message AS m USING ours WHERE m.id = ours.id"},
    // An event id of all zeros: whatever event has this id, as it was never read.
    StatementText{Statement::bury, "bury", "outbox.dead_letter",
                  "WITH gone AS (DELETE FROM outbox.message WHERE id = $1::int8 AND " OUTBOX_SAME_EVENT
                  "RETURNING id, event_id, topic, key, payload, headers, created_at) "
                  "INSERT INTO outbox.dead_letter " OUTBOX_DEAD_LETTER_COLUMNS
                  "SELECT id, event_id, topic, key, payload, headers, created_at, $3::text, $4::text FROM gone"},
    // The row stays and its key is blocked. A row without a key is buried, as it has no order to keep, and so is one
    // whose key is too long for an index.
    StatementText{
        Statement::block, "block", "outbox.blocked_key",
        "WITH culprit AS (SELECT id, event_id, topic, key, lane FROM outbox.message WHERE id = $1::int8 "
        "AND " OUTBOX_SAME_EVENT "), "
        "blocked AS (INSERT INTO outbox.blocked_key (topic, key, lane, message_id, event_id, error_code, error_text) "
        "SELECT topic, key, lane, id, event_id, $3::text, $4::text FROM culprit WHERE octet_length(key) <= 2000 "
        "ON CONFLICT (topic, key) DO NOTHING), "
        "gone AS (DELETE FROM outbox.message WHERE id = (SELECT id FROM culprit WHERE key IS NULL OR octet_length(key) "
        "> 2000) "
        "RETURNING id, event_id, topic, key, payload, headers, created_at) "
        "INSERT INTO outbox.dead_letter " OUTBOX_DEAD_LETTER_COLUMNS
        "SELECT id, event_id, topic, key, payload, headers, created_at, $3, $4 FROM gone"},
    // What operators said, and whether the list of blocked keys is still the one we know: their number, and a sum that
    // cannot overflow. One row, and as many more as topics are paused beyond the first.
    StatementText{Statement::control, "control", "outbox.control",
                  "SELECT said.*, named.topic FROM (SELECT coalesce(max(revision), 0)::int8, "
                  "coalesce(bool_or(paused) FILTER (WHERE topic = '*'), false), "
                  "coalesce(max(max_rows_per_second) FILTER (WHERE topic = '*'), 0)::int8, "
                  "(SELECT count(*) FROM " OUTBOX_BLOCKED_KEYS
                  "), (SELECT coalesce(sum(message_id % 1000000007), 0)::int8 FROM " OUTBOX_BLOCKED_KEYS
                  ") FROM outbox.control) AS said "
                  "LEFT JOIN outbox.control AS named ON named.paused AND named.topic <> '*' "
                  "ORDER BY named.topic LIMIT 10000"},
    StatementText{Statement::blocked_keys, "blocked_keys", "outbox.blocked_key",
                  "SELECT topic, key, message_id, lane FROM " OUTBOX_BLOCKED_KEYS},
    StatementText{Statement::withdraw_note, "withdraw_note", "outbox.relay",
                  "UPDATE outbox.relay SET attempting_from = NULL, attempting_upto = NULL WHERE id = $1::uuid"},
    StatementText{Statement::forget_crashes, "forget_crashes", "outbox.relay",
                  "WITH dead AS (DELETE FROM outbox.relay WHERE id <> $1::uuid "
                  "AND seen_at < clock_timestamp() - lease_ttl_ms * interval '1 millisecond') "
                  "UPDATE outbox.relay SET attempting_from = NULL, attempting_upto = NULL WHERE id = $1"},
};

#undef OUTBOX_READ_COLUMNS
#undef OUTBOX_CLAIMABLE
#undef OUTBOX_NOT_BLOCKED_BY
#undef OUTBOX_ATTENDANCE
#undef OUTBOX_SAME_EVENT
#undef OUTBOX_DEAD_LETTER_COLUMNS
#undef OUTBOX_BLOCKED_KEYS
#undef OUTBOX_OTHERS

}  // namespace outbox
