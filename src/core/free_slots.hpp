// Which slots of the window are free: one bit each, the lowest is taken first.
// Rows come with ascending ids, and leave with the lowest ids first. So rows side by side have slots side by side, and
// what is kept by slot is walked through in order, not at random. Owned by Window; the worker's thread.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/invariant.hpp"
#include "core/row.hpp"

namespace outbox {

class FreeSlots {
public:
    // Slots from 0 to slots - 1, all of them free.
    explicit FreeSlots(std::uint32_t slots) : words_((slots + 63U) / 64U, ~std::uint64_t{0}), size_(slots) {
        if (slots % 64U != 0) words_.back() >>= 64U - slots % 64U;
    }

    std::uint32_t size() const { return size_; }

    Slot take() {
        require_invariant(size_ > 0, "a row was admitted to a full window");
        while (words_[first_] == 0) ++first_;
        std::uint64_t& word = words_[first_];
        const auto bit = static_cast<std::size_t>(std::countr_zero(word));
        word &= word - 1;
        --size_;
        return Slot{static_cast<std::uint32_t>(first_ * 64 + bit)};
    }

    void put(Slot slot) {
        const auto at = static_cast<std::size_t>(slot);
        words_[at / 64] |= std::uint64_t{1} << (at % 64);
        if (at / 64 < first_) first_ = at / 64;
        ++size_;
    }

private:
    std::vector<std::uint64_t> words_;
    std::size_t first_ = 0;  // the words below it are all 0
    std::uint32_t size_;
};

}  // namespace outbox
