// Why a row was not published, sorted by what to do about it. kafka/delivery_error.cpp makes these from librdkafka's
// codes; the relay acts on the kind alone. Values; any thread.
#pragma once

#include <string_view>

namespace outbox {

enum class FailureKind {
    back_pressure,  // the local queue is full: read less, send again
    row,            // this row can never be published: dead-letter it
    topic,          // this topic cannot be written now: its rows wait, others go on
    cluster,        // nothing can be written now: everything waits
    in_doubt,       // may or may not have been persisted: send again, in order
    fatal,          // the producer is unusable: replace it, send again, in order
};

struct Failure {
    FailureKind kind = FailureKind::in_doubt;
    std::string_view code;  // static storage, e.g. "MSG_SIZE_TOO_LARGE"
    std::string_view text;  // static storage, for a person
};

std::string_view name_of(FailureKind kind);

}  // namespace outbox
