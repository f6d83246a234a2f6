#include "postgres/control.hpp"

namespace outbox {

namespace {

std::optional<ControlRevision> change(Client& client, const Operator& who, const std::string& sql,
                                      std::initializer_list<Client::Parameter> parameters) {
    std::optional<ControlRevision> revision;
    audited(client, who, [&] {
        const Rows rows = client.execute(sql, parameters);
        if (rows.size() > 0) revision = rows.integer(0, 0);
    });
    return revision;
}

}  // namespace

ControlRevision pause_topic(Client& client, const Operator& who, const std::string& topic) {
    // Also where it is paused already: the newer reason counts, and the revision shows that every worker has seen it.
    return change(client, who,
                  "INSERT INTO outbox.control (topic, paused, reason) VALUES ($1::text, true, $2::text)"
                  " ON CONFLICT (topic) DO UPDATE SET paused = true, reason = EXCLUDED.reason RETURNING revision",
                  {topic, who.reason})
        .value();
}

std::optional<ControlRevision> resume_topic(Client& client, const Operator& who, const std::string& topic) {
    return change(client, who,
                  "UPDATE outbox.control SET paused = false, reason = $2::text WHERE topic = $1::text AND paused"
                  " RETURNING revision",
                  {topic, who.reason});
}

std::optional<ControlRevision> set_rate(Client& client, const Operator& who,
                                        std::optional<std::int64_t> rows_per_second) {
    if (!rows_per_second)
        return change(client, who,
                      "UPDATE outbox.control SET max_rows_per_second = NULL, reason = $2::text"
                      " WHERE topic = $1::text AND max_rows_per_second IS NOT NULL RETURNING revision",
                      {everything, who.reason});
    return change(client, who,
                  "INSERT INTO outbox.control (topic, max_rows_per_second, reason) VALUES ($1::text, $3::integer,"
                  " $2::text) ON CONFLICT (topic) DO UPDATE SET max_rows_per_second = EXCLUDED.max_rows_per_second,"
                  " reason = EXCLUDED.reason RETURNING revision",
                  {everything, who.reason, std::to_string(*rows_per_second)});
}

}  // namespace outbox
