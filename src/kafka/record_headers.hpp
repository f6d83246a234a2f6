// The headers a record carries: those of the row, then `id` (the event_id) and `created_at`, the two by which consumers
// drop duplicates and see how long an event waited. Owned by Producer; the worker's thread.
#pragma once

#include <librdkafka/rdkafka.h>

#include <array>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/owned.hpp"
#include "core/row.hpp"

namespace outbox {

using KafkaHeaders = std::unique_ptr<rd_kafka_headers_t, FreeWith<rd_kafka_headers_destroy>>;

// "2026-11-21T09:00:00.123456Z"; microseconds since 2000-01-01 UTC in, as Postgres counts. Years 1 to 9999.
class TimestampFormat {
public:
    // Valid until the next call.
    std::string_view operator()(std::int64_t postgres_us);

private:
    // Rows that follow each other are of one second, mostly: then only its fraction is written.
    std::array<char, 27> text_{};
    std::optional<std::chrono::sys_seconds> second_;  // of text_
};

class RecordHeaders {
public:
    // Null when the row's headers are not a JSON object of strings (the table's CHECK does not let such rows in).
    KafkaHeaders of(const RowContent& row);

private:
    bool parse(std::string_view json);

    // Rows tend to repeat their headers: what was parsed last is kept.
    std::string parsed_json_ = "{}";
    std::vector<std::pair<std::string, std::string>> parsed_;
    TimestampFormat timestamp_;
};

std::string format_timestamp(std::int64_t postgres_us);

}  // namespace outbox
