// Which slot of the window holds a row id: a fixed-size open-addressing table that allocates once.
// Ids are mostly consecutive, which linear probing must not see: one long run of cells would have to be walked for
// every row that leaves. Fibonacci hashing (Knuth, TAOCP 6.4) breaks the runs up. Owned by Window; the worker's thread.
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
    explicit IdMap(std::size_t entries_max)
        : cells_(std::bit_ceil(entries_max * 2 + 1)), shift_(64U - static_cast<unsigned>(std::bit_width(mask()))) {}

    std::optional<Slot> find(RowId id) const {
        for (std::size_t at = home(id); cells_[at].used; at = next(at))
            if (cells_[at].id == id) return cells_[at].slot;
        return std::nullopt;
    }

    void insert(RowId id, Slot slot) {
        std::size_t at = home(id);
        for (; cells_[at].used; at = next(at)) require_invariant(cells_[at].id != id, "a row entered the window twice");
        cells_[at] = {id, slot, true};
    }

    // Moves later entries of the run back over the hole, so that lookups never need tombstones.
    void erase(RowId id) {
        std::size_t hole = home(id);
        while (cells_[hole].used && cells_[hole].id != id) hole = next(hole);
        require_invariant(cells_[hole].used, "a row left the window that was not in it");
        for (std::size_t at = next(hole); cells_[at].used; at = next(at)) {
            const std::size_t wanted = home(cells_[at].id);
            if (((at - wanted) & mask()) >= ((at - hole) & mask())) {
                cells_[hole] = cells_[at];
                hole = at;
            }
        }
        cells_[hole].used = false;
    }

private:
    struct Cell {
        RowId id;
        Slot slot{};
        bool used = false;
    };

    std::size_t mask() const { return cells_.size() - 1; }
    std::size_t home(RowId id) const {
        return static_cast<std::size_t>((static_cast<std::uint64_t>(id.value) * 0x9E3779B97F4A7C15U) >> shift_);
    }
    std::size_t next(std::size_t at) const { return (at + 1) & mask(); }

    std::vector<Cell> cells_;
    unsigned shift_;
};

}  // namespace outbox
