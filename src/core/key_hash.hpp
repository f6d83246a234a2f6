// The hash by which a blocked key is recognised among the rows that are read: quick, as every row needs it, and not
// cryptographic: two keys of one hash would wait for each other, which costs time and nothing else. Pure; any thread.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string_view>

#include "core/row.hpp"

namespace outbox {

// Never 0, which stands for "no key".
inline std::uint64_t key_hash(TopicIndex topic, std::string_view key) {
    constexpr std::uint64_t odd = 0x9E3779B97F4A7C15U;
    std::uint64_t hash = (static_cast<std::uint64_t>(topic) + key.size()) * odd + 1;
    for (std::string_view rest = key; !rest.empty(); rest.remove_prefix(std::min<std::size_t>(rest.size(), 8))) {
        std::uint64_t word = 0;
        std::memcpy(&word, rest.data(), std::min<std::size_t>(rest.size(), sizeof word));
        hash = (hash ^ word) * odd;
        hash ^= hash >> 29U;
    }
    return hash | 1U;
}

}  // namespace outbox
