#include "postgres/dead_letters.hpp"

#include <string_view>

namespace outbox {

namespace {

constexpr std::chrono::seconds deadline(60);

// $1 to $8, as parameters_of() orders them.
constexpr const char* where =
    " WHERE ($1::text IS NULL OR topic = $1) AND ($2::text IS NULL OR key = $2) AND ($3::text IS NULL OR error_code = "
    "$3) AND ($4::timestamptz IS NULL OR last_failed_at >= $4) AND ($5::bigint[] IS NULL OR id = ANY($5))"
    " AND id > $6::bigint AND id <= $7::bigint ORDER BY id LIMIT $8::bigint";

std::vector<Client::Parameter> parameters_of(const DeadLetterFilter& filter, const DeadLetterRange& range) {
    Client::Parameter ids;
    if (!filter.ids.empty()) {
        for (const std::int64_t id : filter.ids) ids = (ids ? *ids + "," : "{") + std::to_string(id);
        *ids += "}";
    }
    return {filter.topic,
            filter.key,
            filter.error_code,
            filter.since,
            ids,
            std::to_string(range.after),
            std::to_string(range.upto),
            std::to_string(range.limit)};
}

std::string in_utc(const std::string& column) {
    return "pg_catalog.to_char(" + column + R"( AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'))";
}

std::string from_hex(std::string_view text) {
    const auto digit = [](char c) { return static_cast<unsigned>(c <= '9' ? c - '0' : c - 'a' + 10); };
    std::string bytes;
    bytes.reserve(text.size() / 2);
    for (std::size_t i = 0; i + 1 < text.size(); i += 2)
        bytes += static_cast<char>((digit(text[i]) << 4U) | digit(text[i + 1]));
    return bytes;
}

std::optional<std::string> optional_text(const Rows& rows, std::size_t row, std::size_t column) {
    const auto value = rows.at(row, column);
    return value ? std::optional<std::string>(*value) : std::nullopt;
}

DeadLetterBatch change(Client& client, const Operator& who, const DeadLetterFilter& filter,
                       const DeadLetterRange& batch, const std::string& sql) {
    std::vector<Client::Parameter> parameters = parameters_of(filter, batch);
    parameters.push_back(who.reason);
    DeadLetterBatch done;
    audited(client, who, [&] {
        const Rows rows = client.execute(sql, parameters, deadline);
        done.rows = rows.integer(0, 0);
        done.last_id = rows.integer(0, 1);
    });
    return done;
}

}  // namespace

std::optional<std::string> resolve_since(Client& client, const std::string& timestamp) {
    constexpr std::string_view invalid = "22007";
    constexpr std::string_view out_of_range = "22008";
    try {
        std::string resolved;
        client.transaction([&] {
            client.execute(
                "SELECT pg_catalog.set_config('TimeZone', 'UTC', true),"
                " pg_catalog.set_config('DateStyle', 'ISO, YMD', true)");
            resolved = client.execute("SELECT $1::timestamptz", {timestamp}).text(0, 0);
        });
        return resolved;
    } catch (const PostgresError& error) {
        if (error.sqlstate() == invalid || error.sqlstate() == out_of_range) return std::nullopt;
        throw;
    }
}

std::string resolve_since(Client& client, std::chrono::milliseconds ago) {
    return client
        .execute("SELECT pg_catalog.clock_timestamp() - $1::bigint * interval '1 millisecond'",
                 {std::to_string(ago.count())})
        .text(0, 0);
}

std::vector<DeadLetter> list_dead_letters(Client& client, const DeadLetterFilter& filter, const DeadLetterRange& range,
                                          bool with_payload) {
    const std::string payload = with_payload ? "pg_catalog.encode(payload, 'hex')" : "NULL";
    const Rows rows = client.execute("SELECT id, message_id, event_id, topic, key, octet_length(payload), " + payload +
                                         ", headers, " + in_utc("created_at") + ", error_code, error_text, attempts, " +
                                         in_utc("first_failed_at") + ", " + in_utc("last_failed_at") +
                                         " FROM outbox.dead_letter" + where,
                                     parameters_of(filter, range), deadline);
    std::vector<DeadLetter> letters;
    for (std::size_t i = 0; i < rows.size(); ++i) {
        DeadLetter letter;
        letter.id = rows.integer(i, 0);
        letter.message_id = rows.integer(i, 1);
        letter.event_id = rows.text(i, 2);
        letter.topic = rows.text(i, 3);
        letter.key = optional_text(rows, i, 4);
        if (rows.at(i, 5)) letter.payload_bytes = rows.integer(i, 5);
        if (const auto hex = rows.at(i, 6)) letter.payload = from_hex(*hex);
        letter.headers = rows.text(i, 7);
        letter.created_at = rows.text(i, 8);
        letter.error_code = rows.text(i, 9);
        letter.error_text = rows.text(i, 10);
        letter.attempts = rows.integer(i, 11);
        letter.first_failed_at = rows.text(i, 12);
        letter.last_failed_at = rows.text(i, 13);
        letters.push_back(std::move(letter));
    }
    return letters;
}

std::int64_t count_dead_letters(Client& client, const DeadLetterFilter& filter, const DeadLetterRange& range) {
    return client
        .execute("SELECT count(*) FROM (SELECT 1 FROM outbox.dead_letter" + std::string(where) + ") AS matching",
                 parameters_of(filter, range), deadline)
        .integer(0, 0);
}

std::int64_t last_dead_letter(Client& client) {
    return client.execute("SELECT coalesce(max(id), 0) FROM outbox.dead_letter").integer(0, 0);
}

// Locked in the order they arrived, and requeued in it: the events of one key get their new ids in the order of the
// old.
DeadLetterBatch requeue_dead_letters(Client& client, const Operator& who, const DeadLetterFilter& filter,
                                     const DeadLetterRange& batch) {
    return change(
        client, who, filter, batch,
        "WITH picked AS MATERIALIZED (SELECT id, event_id, topic FROM outbox.dead_letter" + std::string(where) +
            " FOR UPDATE), moved AS MATERIALIZED (SELECT id, event_id, topic, outbox.requeue(id) AS message_id"
            " FROM picked), line AS (INSERT INTO outbox.audit (action, target, detail, reason) SELECT"
            " 'dlq_requeue', coalesce($1, '*'), pg_catalog.jsonb_build_object('events',"
            " pg_catalog.jsonb_agg(pg_catalog.to_jsonb(moved) ORDER BY id)), $9::text FROM moved"
            " HAVING count(*) > 0) SELECT count(message_id), coalesce(max(id), 0) FROM moved");
}

DeadLetterBatch discard_dead_letters(Client& client, const Operator& who, const DeadLetterFilter& filter,
                                     const DeadLetterRange& batch) {
    return change(client, who, filter, batch,
                  "WITH picked AS MATERIALIZED (SELECT id FROM outbox.dead_letter" + std::string(where) +
                      " FOR UPDATE), gone AS (DELETE FROM outbox.dead_letter AS d USING picked AS p WHERE d.id = p.id"
                      " RETURNING d.id, d.event_id, d.topic, d.message_id, d.error_code), line AS (INSERT INTO"
                      " outbox.audit (action, target, detail, reason) SELECT 'dlq_discard', coalesce($1, '*'),"
                      " pg_catalog.jsonb_build_object('events', pg_catalog.jsonb_agg(pg_catalog.to_jsonb(gone)"
                      " ORDER BY id)), $9::text FROM gone HAVING count(*) > 0)"
                      " SELECT count(*), coalesce(max(id), 0) FROM gone");
}

}  // namespace outbox
