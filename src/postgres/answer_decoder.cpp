#include "postgres/answer_decoder.hpp"

#include <libpq-fe.h>

#include <cstdlib>
#include <utility>

#include "core/key_hash.hpp"
#include "postgres/fields.hpp"

namespace outbox {

namespace {

// "3/1234" is a live virtual transaction, "-1/5678" a prepared transaction's id.
Holder holder_from(const char* text) {
    char* end = nullptr;
    const long backend = std::strtol(text, &end, 10);
    const auto local = *end == '/' ? std::strtoul(end + 1, nullptr, 10) : 0UL;
    const bool prepared = backend < 0;
    const auto high = prepared ? std::uint64_t{0} : static_cast<std::uint64_t>(backend) << 32U;
    return {high | static_cast<std::uint64_t>(local), prepared};
}

}  // namespace

CrashesRead AnswerDecoder::crashes(const pg_result* result) {
    fields::require_shape(result, 3);
    attempts_.clear();
    for (int i = 0; i < PQntuples(result); ++i)
        attempts_.push_back(
            {RowId{fields::int8(result, i, 1)}, RowId{fields::int8(result, i, 2)}, fields::int8(result, i, 0)});
    return {attempts_};
}

ProbeAnswered AnswerDecoder::probe(RowId high, const pg_result* holders) {
    fields::require_shape(holders, 1);
    holders_.clear();
    for (int i = 0; i < PQntuples(holders); ++i) holders_.push_back(holder_from(fields::text(holders, i, 0).data()));
    return {high, holders_};
}

ControlRead AnswerDecoder::control(QueryResult result) {
    fields::require_shape(result.get(), 6, 1);
    control_ = std::move(result);
    const pg_result* const state = control_.get();
    paused_topics_.clear();
    for (int i = 0; i < PQntuples(state); ++i)
        if (const auto topic = fields::nullable_text(state, i, 5)) paused_topics_.push_back(*topic);
    ControlRead control;
    control.revision = fields::int8(state, 0, 0);
    control.paused = fields::boolean(state, 0, 1);
    const std::int64_t rate = fields::int8(state, 0, 2);
    if (rate > 0) control.max_rows_per_second = static_cast<std::uint64_t>(rate);
    control.paused_topics = paused_topics_;
    control.blocked = {fields::int8(state, 0, 3), fields::int8(state, 0, 4)};
    return control;
}

BlockedKeysRead AnswerDecoder::blocked_keys(const pg_result* result, Topics& topics) {
    fields::require_shape(result, 4);
    BlockedDigest digest;  // as the statement `control` makes it
    blocked_keys_.clear();
    for (int i = 0; i < PQntuples(result); ++i) {
        const RowId row{fields::int8(result, i, 2)};
        const auto lane = static_cast<std::uint8_t>(fields::int2(result, i, 3) & (lane_count - 1));
        const TopicIndex topic = topics.index_of(fields::text(result, i, 0));
        blocked_keys_.push_back({key_hash(topic, fields::text(result, i, 1)), row, lane});
        digest = {digest.keys + 1, digest.sum + row.value % 1'000'000'007};
    }
    return {blocked_keys_, digest};
}

}  // namespace outbox
