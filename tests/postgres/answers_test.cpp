#include <doctest/doctest.h>
#include <libpq-fe.h>

#include <optional>
#include <string>
#include <vector>

#include "postgres/answer_decoder.hpp"
#include "postgres/row_batch.hpp"
#include "postgres/wire.hpp"

namespace outbox {

namespace {

using Values = std::vector<std::optional<std::string>>;  // of one row; nullopt: NULL

QueryResult answer(const std::vector<Values>& rows, std::size_t columns) {
    QueryResult result(PQmakeEmptyPGresult(nullptr, PGRES_TUPLES_OK));
    std::string name = "c";
    std::vector<PGresAttDesc> descriptions(columns, PGresAttDesc{name.data(), 0, 0, 1, 0, -1, -1});
    REQUIRE(PQsetResultAttrs(result.get(), static_cast<int>(columns), descriptions.data()) != 0);
    for (std::size_t row = 0; row < rows.size(); ++row)
        for (std::size_t column = 0; column < columns; ++column) {
            auto value = rows[row][column];
            const int bytes = value ? static_cast<int>(value->size()) : -1;
            REQUIRE(PQsetvalue(result.get(), static_cast<int>(row), static_cast<int>(column),
                               value ? value->data() : nullptr, bytes) != 0);
        }
    return result;
}

template <class Integer>
std::string integer(Integer value) {
    std::string bytes;
    wire::append_integer(bytes, value);
    return bytes;
}

// id, lane, event_id, created_at, topic, key, payload, headers, payload_withheld, place
Values row() {
    return {integer(std::int64_t{7}),
            integer(std::int16_t{5}),
            std::string(16, '\1'),
            integer(std::int64_t{1}),
            "orders",
            "k",
            "payload",
            "\1{}",
            std::nullopt,
            std::string("\0\0\0\1\0\2", 6)};
}

void decode(const Values& values) {
    Topics topics({"*"}, 1);
    RowBatch batch;
    batch.decode(answer({values}, values.size()), topics);
    CHECK(batch.heads().size() == 1);
}

}  // namespace

TEST_CASE("a row of the types that were asked for is read") {
    CHECK_NOTHROW(decode(row()));
}

TEST_CASE("a row of other types is refused and never taken for something else") {
    // lane as an integer would be lane 0, and an id that is NULL would be read from what lies behind it.
    const std::vector<std::pair<std::size_t, std::optional<std::string>>> wrong{{0, std::nullopt},
                                                                                {0, "1234567"},
                                                                                {1, integer(std::int32_t{5})},
                                                                                {2, std::string(15, '\1')},
                                                                                {3, "12345"},
                                                                                {4, std::nullopt},
                                                                                {7, ""},
                                                                                {8, "123"},
                                                                                {9, std::nullopt},
                                                                                {9, "1234"}};
    for (const auto& [column, value] : wrong) {
        CAPTURE(column);
        Values values = row();
        values[column] = value;
        CHECK_THROWS_AS(decode(values), PostgresError);
    }
    Values fewer = row();
    fewer.pop_back();
    CHECK_THROWS_AS(decode(fewer), PostgresError);
}

TEST_CASE("answers about control, keys, holders and crashes are refused where they are not what was asked for") {
    AnswerDecoder decoder;
    Topics topics({"*"}, 1);
    const std::string number = integer(std::int64_t{1});
    const Values state{number, "\1", number, number, number, std::nullopt};
    CHECK(decoder.control(answer({state}, 6)).paused);
    CHECK_THROWS_AS(decoder.control(answer({}, 6)), PostgresError);
    CHECK_THROWS_AS(decoder.control(answer({{number, std::nullopt, number, number, number, "t"}}, 6)), PostgresError);
    CHECK_THROWS_AS(decoder.control(answer({state}, 5)), PostgresError);
    CHECK_THROWS_AS(decoder.blocked_keys(answer({{"t", "k", "short", integer(std::int16_t{1})}}, 4).get(), topics),
                    PostgresError);
    CHECK_THROWS_AS(decoder.probe(RowId{1}, answer({{std::nullopt}}, 1).get()), PostgresError);
    CHECK_THROWS_AS(decoder.crashes(answer({{number, number, std::nullopt}}, 3).get()), PostgresError);
}

}  // namespace outbox
