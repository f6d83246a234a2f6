#include "postgres/row_batch.hpp"

#include <libpq-fe.h>

#include "core/key_hash.hpp"
#include "postgres/wire.hpp"

namespace outbox {

namespace {

// In the order of the reads' select list (statements.hpp).
enum Column : int { id, lane, event_id, created_at, topic, key, payload, headers, payload_withheld };

class RowReader {
public:
    RowReader(const PGresult* result, int row) : result_(result), row_(row) {}

    const char* bytes(Column column) const { return PQgetvalue(result_, row_, column); }
    std::string_view text(Column column) const {
        return {bytes(column), static_cast<std::size_t>(PQgetlength(result_, row_, column))};
    }
    std::optional<std::string_view> nullable(Column column) const {
        if (PQgetisnull(result_, row_, column) != 0) return std::nullopt;
        return text(column);
    }

private:
    const PGresult* result_;
    int row_;
};

}  // namespace

void RowBatch::decode(QueryResult result, Topics& topics) {
    result_ = std::move(result);
    const int rows = PQntuples(result_.get());
    heads_.clear();
    contents_.clear();
    for (int i = 0; i < rows; ++i) {
        const RowReader row(result_.get(), i);
        RowContent content;
        content.topic = row.text(topic);
        content.key = row.nullable(key);
        content.payload = row.nullable(payload);
        content.headers = row.text(headers).substr(1);  // jsonb_send: a version byte, then the text
        content.event_id = wire::uuid(row.bytes(event_id));
        content.created_at_us = wire::int8(row.bytes(created_at));

        const auto withheld = row.nullable(payload_withheld);
        const std::size_t payload_bytes = withheld ? static_cast<std::size_t>(wire::int4(withheld->data()))
                                                   : content.payload.value_or(std::string_view{}).size();
        RowHead head;
        head.id = RowId{wire::int8(row.bytes(id))};
        head.lane = static_cast<std::uint8_t>(wire::int2(row.bytes(lane)) & (lane_count - 1));
        head.event_id = content.event_id;
        head.created_at_us = content.created_at_us;
        head.topic = topics.index_of(content.topic);
        head.key_hash = content.key ? key_hash(head.topic, *content.key) : 0;
        head.payload_withheld = withheld.has_value();
        head.bytes = static_cast<std::uint32_t>(payload_bytes + content.key.value_or(std::string_view{}).size() +
                                                content.headers.size());
        heads_.push_back(head);
        contents_.push_back(content);
    }
}

}  // namespace outbox
