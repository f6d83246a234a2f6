// One value of a binary result, taken only where it is there and as long as its type is: a schema that somebody changed
// must end the session with an error, and not be read as something else. Any thread.
#pragma once

#include <libpq-fe.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "core/row.hpp"
#include "postgres/postgres_error.hpp"
#include "postgres/wire.hpp"

namespace outbox::fields {

[[noreturn]] inline void unexpected() {
    throw PostgresError("Postgres answered with something else than the statement asks for", "XX000");
}

// Once per result: the others here rely on it.
inline void require_shape(const PGresult* result, int columns, int rows_min = 0) {
    if (PQnfields(result) != columns || PQntuples(result) < rows_min) unexpected();
}

inline std::optional<std::string_view> nullable_text(const PGresult* result, int row, int column) {
    const std::string_view value(PQgetvalue(result, row, column),
                                 static_cast<std::size_t>(PQgetlength(result, row, column)));
    if (value.empty() && PQgetisnull(result, row, column) != 0) return std::nullopt;
    return value;
}
inline std::string_view text(const PGresult* result, int row, int column) {
    const auto value = nullable_text(result, row, column);
    if (!value) unexpected();
    return *value;
}

// `bytes` of them, no more and no less.
inline const char* exactly(std::size_t bytes, std::string_view value) {
    if (value.size() != bytes) unexpected();
    return value.data();
}

inline std::int64_t int8(const PGresult* result, int row, int column) {
    return wire::int8(exactly(8, text(result, row, column)));
}
inline std::int16_t int2(const PGresult* result, int row, int column) {
    return wire::int2(exactly(2, text(result, row, column)));
}
inline bool boolean(const PGresult* result, int row, int column) {
    return *exactly(1, text(result, row, column)) != 0;
}

}  // namespace outbox::fields
