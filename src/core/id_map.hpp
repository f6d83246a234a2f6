// Which slot of the window holds a row id: a hash table with chains through the slots, that allocates once.
// Ids are mostly consecutive, and asked for, entered and erased in about that order: those of a block have buckets side
// by side, so that sixteen share a cache line. Where a block begins is by Fibonacci hashing (Knuth, TAOCP 6.4), so that
// evenly spaced ids do not meet in a few. Owned by Window; the worker's thread.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "core/invariant.hpp"
#include "core/row.hpp"

namespace outbox {

class IdMap {
public:
    // Slots from 0 to slots - 1, each for one id at a time.
    explicit IdMap(std::uint32_t slots)
        : first_(std::bit_ceil(std::size_t{slots} + 1), nothing),
          bits_(static_cast<unsigned>(std::bit_width(first_.size() - 1))),
          links_(slots) {}

    std::optional<Slot> find(RowId id) const {
        for (std::uint32_t at = first_[bucket(id)]; at != nothing; at = links_[at].next)
            if (links_[at].id == id) return Slot{at};
        return std::nullopt;
    }

    void insert(RowId id, Slot slot) {
        require_invariant(!find(id), "a row entered the window twice");
        std::uint32_t& first = first_[bucket(id)];
        const auto at = static_cast<std::uint32_t>(slot);
        links_[at] = {id, first};
        first = at;
    }

    void erase(RowId id) {
        std::uint32_t* at = &first_[bucket(id)];
        while (*at != nothing && links_[*at].id != id) at = &links_[*at].next;
        require_invariant(*at != nothing, "a row left the window that was not in it");
        *at = links_[*at].next;
    }

private:
    static constexpr std::uint32_t nothing = UINT32_MAX;

    struct Link {
        RowId id;
        std::uint32_t next = nothing;
    };

    std::size_t bucket(RowId id) const {
        const auto value = static_cast<std::uint64_t>(id.value);
        const std::uint64_t block_begins = ((value >> bits_) * 0x9E3779B97F4A7C15U) >> 32U;
        return static_cast<std::size_t>(block_begins + value) & (first_.size() - 1);
    }

    std::vector<std::uint32_t> first_;  // the slots by bucket
    unsigned bits_;                     // as many as a bucket's number has: ids that share the others are a block
    std::vector<Link> links_;           // by slot
};

}  // namespace outbox
