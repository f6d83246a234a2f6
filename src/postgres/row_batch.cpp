#include "postgres/row_batch.hpp"

#include <libpq-fe.h>

#include "core/key_hash.hpp"
#include "postgres/fields.hpp"

namespace outbox {

namespace {

// In the order of the reads' select list (statements.hpp).
enum Column : int { id, lane, event_id, created_at, topic, key, payload, headers, payload_withheld, place, columns };

}  // namespace

void RowBatch::decode(QueryResult result, Topics& topics) {
    result_ = std::move(result);
    const PGresult* const read = result_.get();
    fields::require_shape(read, columns);
    const int rows = PQntuples(read);
    heads_.clear();
    contents_.clear();
    for (int i = 0; i < rows; ++i) {
        RowContent content;
        content.topic = fields::text(read, i, topic);
        content.key = fields::nullable_text(read, i, key);
        content.payload = fields::nullable_text(read, i, payload);
        const auto json = fields::nullable_text(read, i, headers);
        if (json && json->empty()) fields::unexpected();
        content.headers = json ? json->substr(1) : "{}";  // jsonb_send: a version byte, then the text
        content.event_id = wire::uuid(fields::exactly(sizeof(EventId), fields::text(read, i, event_id)));
        content.created_at_us = fields::int8(read, i, created_at);

        const auto withheld = fields::nullable_text(read, i, payload_withheld);
        const std::size_t payload_bytes = withheld ? static_cast<std::size_t>(wire::int4(fields::exactly(4, *withheld)))
                                                   : content.payload.value_or(std::string_view{}).size();
        RowHead head;
        head.id = RowId{fields::int8(read, i, id)};
        head.lane = static_cast<std::uint8_t>(fields::int2(read, i, lane) & (lane_count - 1));
        head.place = wire::place(fields::exactly(6, fields::text(read, i, place)));
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
