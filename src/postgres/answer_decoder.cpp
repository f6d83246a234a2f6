#include "postgres/answer_decoder.hpp"

#include <libpq-fe.h>

#include <cstdlib>
#include <utility>

#include "core/key_hash.hpp"
#include "postgres/wire.hpp"

namespace outbox {

namespace {

std::int64_t int8_at(const PGresult* result, int row, int column) {
    return wire::int8(PQgetvalue(result, row, column));
}

std::string_view text_at(const PGresult* result, int row, int column) {
    return {PQgetvalue(result, row, column), static_cast<std::size_t>(PQgetlength(result, row, column))};
}

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
    attempts_.clear();
    for (int i = 0; i < PQntuples(result); ++i)
        attempts_.push_back({RowId{int8_at(result, i, 1)}, RowId{int8_at(result, i, 2)}, int8_at(result, i, 0)});
    return {attempts_};
}

ProbeAnswered AnswerDecoder::probe(RowId high, const pg_result* holders) {
    holders_.clear();
    for (int i = 0; i < PQntuples(holders); ++i) holders_.push_back(holder_from(PQgetvalue(holders, i, 0)));
    return {high, holders_};
}

ControlRead AnswerDecoder::control(const pg_result* state, QueryResult paused_topics) {
    named_ = std::move(paused_topics);
    paused_topics_.clear();
    for (int i = 0; i < PQntuples(named_.get()); ++i) paused_topics_.push_back(text_at(named_.get(), i, 0));
    ControlRead control;
    control.revision = int8_at(state, 0, 0);
    control.paused = *PQgetvalue(state, 0, 1) != 0;
    const std::int64_t rate = int8_at(state, 0, 2);
    if (rate > 0) control.max_rows_per_second = static_cast<std::uint64_t>(rate);
    control.paused_topics = paused_topics_;
    control.blocked = {int8_at(state, 0, 3), int8_at(state, 0, 4)};
    return control;
}

BlockedKeysRead AnswerDecoder::blocked_keys(const pg_result* result, Topics& topics) {
    BlockedDigest digest;  // as the statement `control` makes it
    blocked_keys_.clear();
    for (int i = 0; i < PQntuples(result); ++i) {
        const RowId row{int8_at(result, i, 2)};
        const auto lane = static_cast<std::uint8_t>(wire::int2(PQgetvalue(result, i, 3)) & (lane_count - 1));
        const TopicIndex topic = topics.index_of(text_at(result, i, 0));
        blocked_keys_.push_back({key_hash(topic, text_at(result, i, 1)), row, lane});
        digest = {digest.keys + 1, digest.sum + row.value % 1'000'000'007};
    }
    return {blocked_keys_, digest};
}

}  // namespace outbox
