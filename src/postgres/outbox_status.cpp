#include "postgres/outbox_status.hpp"

#include <algorithm>

namespace outbox {

namespace {

// The server stops a statement that takes too long; ours waits a little longer, for the case that the server is gone.
constexpr std::chrono::seconds grace(5);

struct Counted {
    std::int64_t rows = 0;
    std::optional<std::int64_t> lowest;
    std::optional<double> oldest_age_seconds;
};

// In id order from the floor, so that it walks the primary key and stops at the cap. The planner must not choose a
// sequential scan when its statistics are those of an empty table: the heap may be all dead rows.
// A script, which is a transaction: the settings end with it, and four statements of an idle relay are two.
Counted count_rows(Client& client, const StatusLimits& limits) {
    const Rows rows = client.execute_script(
        "SELECT pg_catalog.set_config('statement_timeout', '" + std::to_string(limits.statement_timeout.count()) +
            "', true), pg_catalog.set_config('enable_seqscan', 'off', true),"
            " pg_catalog.set_config('enable_bitmapscan', 'off', true);"
            "SELECT count(*), min(id), extract(epoch FROM pg_catalog.clock_timestamp() - min(created_at))::float8"
            " FROM (SELECT id, created_at FROM outbox.message WHERE id > " +
            std::to_string(limits.floor) + " ORDER BY id LIMIT " + std::to_string(limits.cap + 1) + ") AS front",
        limits.statement_timeout + grace);
    Counted counted;
    counted.rows = rows.integer(0, 0);
    if (counted.rows == 0) return counted;
    counted.lowest = rows.integer(0, 1);
    counted.oldest_age_seconds = std::max(0.0, rows.real(0, 2));
    return counted;
}

// Two upper bounds, each poor by itself: ids drawn but rolled back or deleted count in the one, rows below the floor
// and what the statistics have not heard of yet spoil the other.
std::int64_t estimate_rows(Client& client, std::int64_t lowest) {
    const Rows rows = client.execute(
        "SELECT least(greatest(last_value - $1::bigint + 1, 0),"
        " pg_catalog.pg_stat_get_live_tuples('outbox.message'::regclass)) FROM outbox.message_id_seq",
        {std::to_string(lowest)});
    return rows.integer(0, 0);
}

}  // namespace

std::vector<ControlStatus> read_control(Client& client) {
    const Rows rows = client.execute(
        "SELECT topic, paused, max_rows_per_second, coalesce(reason, ''), changed_by,"
        " extract(epoch FROM pg_catalog.clock_timestamp() - changed_at)::float8"
        " FROM outbox.control ORDER BY topic <> '*', topic LIMIT 1000");
    std::vector<ControlStatus> control;
    for (std::size_t i = 0; i < rows.size(); ++i) {
        std::optional<std::int64_t> rate;
        if (rows.at(i, 2)) rate = rows.integer(i, 2);
        control.push_back(
            {rows.text(i, 0), rows.boolean(i, 1), rate, rows.text(i, 3), rows.text(i, 4), rows.real(i, 5)});
    }
    return control;
}

std::vector<RelayStatus> read_relays(Client& client) {
    const Rows rows = client.execute(
        "SELECT r.id, r.host, r.pid, r.version,"
        " extract(epoch FROM pg_catalog.clock_timestamp() - r.started_at)::float8,"
        " extract(epoch FROM pg_catalog.clock_timestamp() - r.seen_at)::float8,"
        " (SELECT count(*) FROM outbox.lane l WHERE l.owner = r.id AND l.expires_at > pg_catalog.clock_timestamp()),"
        " r.in_flight_rows, r.control_revision FROM outbox.relay r"
        " WHERE r.seen_at > pg_catalog.clock_timestamp() - r.lease_ttl_ms * interval '1 millisecond' ORDER BY r.host, "
        "r.pid, r.id LIMIT 1000");
    std::vector<RelayStatus> relays;
    for (std::size_t i = 0; i < rows.size(); ++i)
        relays.push_back({rows.text(i, 0), rows.text(i, 1), rows.integer(i, 2), rows.text(i, 3), rows.real(i, 4),
                          rows.real(i, 5), rows.integer(i, 6), rows.integer(i, 7), rows.integer(i, 8)});
    return relays;
}

Backlog read_backlog(Client& client, const StatusLimits& limits) {
    constexpr const char* cancelled = "57014";
    Backlog backlog;
    try {
        const Counted counted = count_rows(client, limits);
        backlog.oldest_age_seconds = counted.oldest_age_seconds;
        backlog.rows = counted.rows;
        if (counted.rows <= limits.cap) return backlog;
        backlog.rows = std::max(counted.rows, estimate_rows(client, counted.lowest.value_or(limits.floor + 1)));
    } catch (const PostgresError& error) {
        if (error.sqlstate() != cancelled) throw;
        // Dead rows in front of the live ones, or a slow disk: a rough number now is worth more than none.
        backlog.rows = estimate_rows(client, limits.floor + 1);
    }
    backlog.estimated = true;
    return backlog;
}

OutboxNumbers read_outbox_numbers(Client& client, const StatusLimits& limits) {
    OutboxNumbers numbers;
    numbers.backlog = read_backlog(client, limits);

    const Rows rows = client.execute(
        "SELECT covered, uncovered, revision, paused, paused_topics,"
        " (SELECT count(*) FROM outbox.relay"
        "  WHERE seen_at > pg_catalog.clock_timestamp() - lease_ttl_ms * interval '1 millisecond'),"
        " (SELECT count(*) FROM (SELECT 1 FROM outbox.dead_letter LIMIT $1::bigint) AS d),"
        " (SELECT count(*) FROM (SELECT 1 FROM outbox.blocked_key LIMIT $1) AS b),"
        " (SELECT coalesce(max(version), 0) FROM outbox.migration WHERE module = 'outbox') FROM"
        " (SELECT count(*) FILTER (WHERE held) AS covered, count(*) FILTER (WHERE NOT held) AS uncovered FROM"
        "  (SELECT owner IS NOT NULL AND expires_at > pg_catalog.clock_timestamp() AS held FROM outbox.lane) AS l)"
        " AS lanes,"
        " (SELECT coalesce(max(revision), 0) AS revision, coalesce(bool_or(paused) FILTER (WHERE topic = '*'), false)"
        "  AS paused, count(*) FILTER (WHERE paused AND topic <> '*') AS paused_topics FROM outbox.control) AS control",
        {std::to_string(limits.cap + 1)});
    numbers.lanes_covered = rows.integer(0, 0);
    numbers.lanes_uncovered = rows.integer(0, 1);
    numbers.control_revision = rows.integer(0, 2);
    numbers.paused = rows.boolean(0, 3);
    numbers.paused_topics = rows.integer(0, 4);
    numbers.living_workers = rows.integer(0, 5);
    numbers.dead_letters = std::min(rows.integer(0, 6), limits.cap);
    numbers.dead_letters_capped = rows.integer(0, 6) > limits.cap;
    numbers.keys_blocked = std::min(rows.integer(0, 7), limits.cap);
    numbers.schema_version = rows.integer(0, 8);
    return numbers;
}

OutboxStatus read_outbox_status(Client& client, const StatusLimits& limits) {
    OutboxStatus status;
    status.relays = read_relays(client);
    status.control = read_control(client);
    status.blocked_keys = read_blocked_keys(client, limits.cap);
    const Rows schema =
        client.execute("SELECT module, max(version) FROM outbox.migration GROUP BY module ORDER BY module");
    for (std::size_t i = 0; i < schema.size(); ++i) status.schema.push_back({schema.text(i, 0), schema.integer(i, 1)});

    // Last: a worker told above must not pass for one that has acted on an order of which it cannot know.
    static_cast<OutboxNumbers&>(status) = read_outbox_numbers(client, limits);
    return status;
}

}  // namespace outbox
