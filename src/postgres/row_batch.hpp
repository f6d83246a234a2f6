// The rows one read returned, decoded in place: the views point into libpq's own buffer. Owned by Session, which keeps
// it until the next read is answered; the worker's thread. Only reused vectors, nothing is allocated per row.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/row.hpp"
#include "core/topics.hpp"
#include "postgres/connection.hpp"

namespace outbox {

class RowBatch {
public:
    void decode(QueryResult result, Topics& topics);

    std::span<const RowHead> heads() const { return heads_; }
    const RowContent& content(std::uint32_t row) const { return contents_[row]; }

private:
    QueryResult result_;
    std::vector<RowHead> heads_;
    std::vector<RowContent> contents_;
};

}  // namespace outbox
