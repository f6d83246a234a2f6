// What the database returns, as libpq hands it over: any number of columns, of any length, NULL or not. The first byte
// chooses whose answer it is, the second the number of columns; then a value after the other: a byte for its length
// (255: NULL), and its bytes.
//
// Holds: a value or PostgresError; what is decoded points into the answer; the row reads back what was written.
#include <libpq-fe.h>

#include <string>
#include <vector>

#include "core/topics.hpp"
#include "fuzz/fuzzing.hpp"
#include "postgres/answer_decoder.hpp"
#include "postgres/client.hpp"
#include "postgres/row_batch.hpp"

namespace outbox::fuzzing {
namespace {

constexpr int rows_max = 100;

// Each value where the sanitizer watches its end: libpq's own blocks would hide a read behind one.
QueryResult answer_from(Input& input, int columns) {
    QueryResult result(PQmakeEmptyPGresult(nullptr, PGRES_TUPLES_OK));
    std::vector<PGresAttDesc> descriptions;
    std::string name = "c";
    for (int i = 0; i < columns; ++i) descriptions.push_back({name.data(), 0, 0, 1, 0, -1, -1});
    require(PQsetResultAttrs(result.get(), columns, descriptions.data()) != 0, "columns");
    for (int row = 0; row < rows_max && !input.empty(); ++row) {
        for (int column = 0; column < columns; ++column) {
            const std::size_t length = input.byte();
            std::string value(length == 255 ? std::string_view{} : input.take(length));
            const int bytes = length == 255 ? -1 : static_cast<int>(value.size());
            require(PQsetvalue(result.get(), row, column, value.data(), bytes) != 0, "a value");
        }
    }
    return result;
}

void check_rows(QueryResult result) {
    const pg_result* const seen = result.get();
    const auto rows = static_cast<std::size_t>(PQntuples(seen));
    const auto size = [seen](std::size_t row, int column) {
        return static_cast<std::size_t>(PQgetlength(seen, static_cast<int>(row), column));
    };
    Topics topics({"*"}, 1);
    RowBatch batch;
    batch.decode(std::move(result), topics);
    require(batch.heads().size() == rows, "a head for every row");
    std::size_t sum = 0;
    for (std::size_t i = 0; i < rows; ++i) {
        const RowHead& head = batch.heads()[i];
        const RowContent& content = batch.content(static_cast<std::uint32_t>(i));
        require(head.lane < lane_count, "a lane there is");
        require(head.event_id == content.event_id && head.created_at_us == content.created_at_us, "one event");
        require(topics[head.topic].name == content.topic && content.topic.size() == size(i, 4), "its topic");
        require(content.key.has_value() == (head.key_hash != 0), "a key has a hash", content.topic);
        if (PQgetisnull(seen, static_cast<int>(i), 7) != 0)
            require(content.headers == "{}", "no headers");
        else
            require(content.headers.size() + 1 == size(i, 7), "the headers without their version byte");
        if (!head.payload_withheld) {
            const std::size_t bytes =
                content.headers.size() + content.key.value_or("").size() + content.payload.value_or("").size();
            require(head.bytes == bytes, "its size");
        }
        for (const std::string_view text :
             {content.topic, content.headers, content.key.value_or(""), content.payload.value_or("")})
            for (const char letter : text) sum += static_cast<unsigned char>(letter);
    }
    static_cast<void>(sum);
}

void check_control(QueryResult result) {
    const auto rows = static_cast<std::size_t>(PQntuples(result.get()));
    AnswerDecoder decoder;
    const ControlRead control = decoder.control(std::move(result));
    require(control.paused_topics.size() <= rows, "a topic of every row at most");
    for (const std::string_view topic : control.paused_topics) require(topic.data() != nullptr, "a topic");
    require(!control.max_rows_per_second || *control.max_rows_per_second > 0, "a rate is more than nothing");
}

void check_blocked_keys(const pg_result* result) {
    Topics topics({"*"}, 1);
    AnswerDecoder decoder;
    const BlockedKeysRead read = decoder.blocked_keys(result, topics);
    require(read.digest.keys == PQntuples(result), "every key");
    for (const KeyBlock& key : read.keys) require(key.lane < lane_count && key.key_hash != 0, "a lane there is");
}

void check_text(QueryResult result) {
    const Rows rows(std::move(result));
    for (std::size_t i = 0; i < rows.size() + 1; ++i) {
        static_cast<void>(rows.at(i, 0));
        static_cast<void>(rows.text(i, 0));
        static_cast<void>(rows.boolean(i, 1));
        const std::string text = rows.text(i, 2);
        require(std::to_string(rows.integer(i, 2)).size() <= text.size(), "an integer is its text", text);
        static_cast<void>(rows.real(i, 3));
    }
}

void decode(std::uint8_t kind, Input& input) {
    const int columns = input.byte() % 12;
    QueryResult result = answer_from(input, columns);
    AnswerDecoder decoder;
    switch (kind % 6) {
        case 0:
            return check_rows(std::move(result));
        case 1:
            return check_control(std::move(result));
        case 2:
            return check_blocked_keys(result.get());
        case 3:
            require(decoder.probe(RowId{1}, result.get()).holders.size() ==
                        static_cast<std::size_t>(PQntuples(result.get())),
                    "every holder");
            return;
        case 4:
            require(decoder.crashes(result.get()).attempts.size() == static_cast<std::size_t>(PQntuples(result.get())),
                    "every attempt");
            return;
        default:
            return check_text(std::move(result));
    }
}

}  // namespace
}  // namespace outbox::fuzzing

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace outbox;
    using namespace outbox::fuzzing;
    // Of a value that is not there libpq tells on standard error.
    Input input(data, size);
    const std::uint8_t kind = input.byte();
    try {
        decode(kind, input);
    } catch (const PostgresError& error) {
        require(is_plain_line(error.what()), "an error is one line", error.what());
    }
    return 0;
}
