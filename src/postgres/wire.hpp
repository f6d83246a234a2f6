// Postgres' binary formats, as far as the relay's statements use them: integers, uuids and arrays of both, big-endian.
// Source: the send and recv functions of each type (src/backend/utils/adt/{int8,uuid,arrayfuncs}.c). Any thread.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>

#include "core/row.hpp"

namespace outbox::wire {

template <class Unsigned>
Unsigned read_big_endian(const char* bytes) {
    Unsigned value = 0;
    for (std::size_t i = 0; i < sizeof(Unsigned); ++i)
        value = static_cast<Unsigned>((value << 8U) | static_cast<unsigned char>(bytes[i]));
    return value;
}

inline std::int64_t int8(const char* bytes) {
    return static_cast<std::int64_t>(read_big_endian<std::uint64_t>(bytes));
}
inline std::int32_t int4(const char* bytes) {
    return static_cast<std::int32_t>(read_big_endian<std::uint32_t>(bytes));
}
inline std::int16_t int2(const char* bytes) {
    return static_cast<std::int16_t>((static_cast<unsigned char>(bytes[0]) << 8U) |
                                     static_cast<unsigned char>(bytes[1]));
}

inline EventId uuid(const char* bytes) {
    EventId id{};
    std::memcpy(id.data(), bytes, id.size());
    return id;
}

template <class Integer>
void append_integer(std::string& out, Integer value) {
    std::array<char, sizeof(Integer)> bytes{};
    for (std::size_t i = 0; i < bytes.size(); ++i)
        bytes[i] = static_cast<char>((static_cast<std::uint64_t>(value) >> ((bytes.size() - 1 - i) * 8)) & 0xFFU);
    out.append(bytes.data(), bytes.size());
}

inline constexpr std::uint32_t int8_oid = 20;
inline constexpr std::uint32_t tid_oid = 27;
inline constexpr std::uint32_t uuid_oid = 2950;
inline constexpr std::uint32_t text_oid = 25;

inline void append_array_header(std::string& out, std::uint32_t element_oid, std::size_t elements) {
    append_integer(out, std::int32_t{1});  // dimensions
    append_integer(out, std::int32_t{0});  // no NULLs
    append_integer(out, static_cast<std::int32_t>(element_oid));
    append_integer(out, static_cast<std::int32_t>(elements));
    append_integer(out, std::int32_t{1});  // lower bound
}

inline void append_array(std::string& out, std::span<const RowId> ids) {
    append_array_header(out, int8_oid, ids.size());
    for (const RowId id : ids) {
        append_integer(out, std::int32_t{8});
        append_integer(out, id.value);
    }
}

inline void append_array(std::string& out, std::span<const EventId> ids) {
    append_array_header(out, uuid_oid, ids.size());
    for (const EventId& id : ids) {
        append_integer(out, static_cast<std::int32_t>(id.size()));
        for (const std::uint8_t byte : id) out.push_back(static_cast<char>(byte));
    }
}

// A row's ctid as one number: its block, then its place within the block.
inline std::uint64_t place(const char* tid) {
    return std::uint64_t{read_big_endian<std::uint32_t>(tid)} << 16U | read_big_endian<std::uint16_t>(tid + 4);
}

inline std::uint64_t page(std::uint64_t place) {
    return place >> 16U;
}

inline void append_place(std::string& out, std::uint64_t place) {
    append_integer(out, static_cast<std::int32_t>(page(place)));
    append_integer(out, static_cast<std::int16_t>(place & 0xFFFFU));
}

inline void append_places(std::string& out, std::span<const std::uint64_t> places) {
    append_array_header(out, tid_oid, places.size());
    for (const std::uint64_t place : places) {
        append_integer(out, std::int32_t{6});
        append_place(out, place);
    }
}

inline void append_text(std::string& out, std::string_view text) {
    append_integer(out, static_cast<std::int32_t>(text.size()));
    out.append(text);
}

}  // namespace outbox::wire
