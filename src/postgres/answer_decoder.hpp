// Turns results of the session's statements into the relay's events, all but the rows (RowBatch). The spans of an event
// point in here and live until the next result of that kind. Owned by Session; the worker's thread.
#pragma once

#include <string_view>
#include <vector>

#include "core/messages.hpp"
#include "core/topics.hpp"
#include "postgres/connection.hpp"

namespace outbox {

class AnswerDecoder {
public:
    CrashesRead crashes(const pg_result* result);
    ProbeAnswered probe(RowId high, const pg_result* holders);
    ControlRead control(QueryResult result);
    BlockedKeysRead blocked_keys(const pg_result* result, Topics& topics);

private:
    std::vector<Attempt> attempts_;
    std::vector<Holder> holders_;
    QueryResult control_;  // what paused_topics_ points into
    std::vector<std::string_view> paused_topics_;
    std::vector<KeyBlock> blocked_keys_;
};

}  // namespace outbox
