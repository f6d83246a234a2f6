// Every statement the relay's session runs, each with the reason for its shape. All are prepared once per session and
// executed with binary parameters and results. Any thread.
#pragma once

#include <array>
#include <cstdint>

namespace outbox {

enum class Statement : std::uint8_t {
    settings,
    schema,
    renew,
    acquire,
    release,
    leave,
    read,
    read_skipping,
    read_topic,
    probe_high,
    probe_holders,
    delete_ids,
    delete_events,
    bury,
};

struct StatementText {
    Statement statement;
    const char* name;
    const char* table;  // what an error is most likely about
    const char* sql;
};

// The columns every read returns, in this order; RowBatch decodes them by position.
// A payload above $5 is withheld and only its size comes along, so that no read can bring more than the window holds.
#define OUTBOX_READ_COLUMNS                                             \
    "SELECT id, lane, event_id, created_at, topic, key, "               \
    "CASE WHEN octet_length(payload) <= $5 THEN payload END, headers, " \
    "CASE WHEN octet_length(payload) > $5 THEN octet_length(payload) END FROM outbox.message "

inline constexpr std::array statements{
    // Plans are pinned: statistics do not see dead rows, and a queue that was just emptied would otherwise flip to a
    // plan that reads all of them. Every statement here wants its index and its order. 30 s is far above any of them.
    StatementText{
        Statement::settings, "settings", "outbox.message",
        "SELECT set_config('plan_cache_mode', 'force_generic_plan', false), set_config('enable_seqscan', 'off', "
        "false), set_config('enable_bitmapscan', 'off', false), set_config('enable_sort', 'off', false), "
        "set_config('jit', 'off', false), set_config('statement_timeout', '30s', false), "
        "set_config('idle_in_transaction_session_timeout', '30s', false)"},
    StatementText{Statement::schema, "schema", "outbox.migration",
                  "SELECT coalesce(max(version), 0)::int8 FROM outbox.migration WHERE module = 'outbox'"},
    // One statement says "I live", renews every lease, and counts the fleet. Only the database's clock decides.
    // Workers not seen for twenty lifetimes are forgotten on the way.
    StatementText{Statement::renew, "renew", "outbox.lane",
                  "WITH alive AS (INSERT INTO outbox.relay (id, host, pid, version, seen_at) "
                  "VALUES ($1::uuid, $3::text, $4::int4, $5::text, clock_timestamp()) "
                  "ON CONFLICT (id) DO UPDATE SET seen_at = clock_timestamp()), "
                  "forgotten AS (DELETE FROM outbox.relay WHERE id <> $1 AND "
                  "seen_at < clock_timestamp() - $2::int8 * interval '20 milliseconds'), "
                  "renewed AS (UPDATE outbox.lane SET expires_at = clock_timestamp() + $2 * interval '1 millisecond' "
                  "WHERE owner = $1 RETURNING lane), "
                  "others AS (SELECT id FROM outbox.relay WHERE id <> $1 AND "
                  "seen_at > clock_timestamp() - $2 * interval '1 millisecond') "
                  "SELECT coalesce((SELECT bit_or(1::int8 << lane::int4) FROM renewed), 0), "
                  "1 + (SELECT count(*) FROM others), (SELECT count(*) FROM others WHERE id < $1), clock_timestamp()"},
    // Free or expired lanes, up to this worker's share. SKIP LOCKED: two workers that look at once take different
    // lanes instead of waiting for each other. The epoch goes up with every change of owner.
    StatementText{
        Statement::acquire, "acquire", "outbox.lane",
        "WITH fleet AS (SELECT 1 + count(*) AS living, count(*) FILTER (WHERE id < $1::uuid) AS rank "
        "FROM outbox.relay WHERE id <> $1 AND seen_at > clock_timestamp() - $2::int8 * interval '1 millisecond'), "
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
    // The same while `low` lags behind: rows already in the window ($7, one bit per id from $6 on) are left out, so
    // that LIMIT is spent on new ones.
    StatementText{Statement::read_skipping, "read_skipping", "outbox.message",
                  OUTBOX_READ_COLUMNS "WHERE id > $1::int8 AND id <= $2::int8 AND ($3::int8 >> lane::int4) & 1 = 1 AND "
                                      "CASE WHEN id - $6::int8 < octet_length($7::bytea) * 8::int8 "
                                      "THEN get_bit($7, (id - $6)::int4) = 0 ELSE true END ORDER BY id LIMIT $4::int8"},
    StatementText{Statement::read_topic, "read_topic", "outbox.message",
                  OUTBOX_READ_COLUMNS
                  "WHERE id > $1::int8 AND id <= $2::int8 AND ($3::int8 >> lane::int4) & 1 = 1 AND topic = $6::text "
                  "ORDER BY id LIMIT $4::int8"},
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
    StatementText{Statement::delete_ids, "delete_ids", "outbox.message",
                  "DELETE FROM outbox.message WHERE id = ANY($1::int8[])"},
    // After a reconnect: a failover may have given the same ids to other events.
    StatementText{Statement::delete_events, "delete_events", "outbox.message",
                  "DELETE FROM outbox.message AS m USING unnest($1::int8[], $2::uuid[]) AS d (id, event_id) "
                  "WHERE m.id = d.id AND m.event_id = d.event_id"},
    StatementText{Statement::bury, "bury", "outbox.dead_letter",
                  "WITH gone AS (DELETE FROM outbox.message WHERE id = $1::int8 AND event_id = $2::uuid "
                  "RETURNING id, event_id, topic, key, payload, headers, created_at) "
                  "INSERT INTO outbox.dead_letter (message_id, event_id, topic, key, payload, headers, created_at, "
                  "error_code, error_text, attempts, first_failed_at, last_failed_at) "
                  "SELECT id, event_id, topic, key, payload, headers, created_at, $3::text, $4::text, 1, "
                  "clock_timestamp(), clock_timestamp() FROM gone"},
};

#undef OUTBOX_READ_COLUMNS

}  // namespace outbox
