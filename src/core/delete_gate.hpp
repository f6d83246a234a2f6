// When an answer to a delete may be told, where reads and deletes have a session each. What the core takes for granted
// is that a row whose delete was answered is in no read that is answered later. On two sessions a read may have begun
// before the delete committed, and still see its rows, unless it begins behind them: then the answer waits until that
// read has been answered. In a drain reads begin behind what is being deleted, and nothing waits.
// Pure; it counts, whoever owns both sessions keeps the answers in their order. The worker's thread.
#pragma once

#include <cstdint>
#include <deque>

#include "core/row.hpp"

namespace outbox {

class DeleteGate {
public:
    void read_sent(RowId after);
    // To be called before the next read is sent, which can no longer see what has been deleted by then.
    void read_answered();

    void delete_sent(RowId highest);  // of the rows it deletes
    void delete_answered();           // the oldest
    // Whether the oldest answer that waits may be told; then it no longer waits.
    bool let_through();

private:
    std::deque<RowId> reads_;  // under way, the oldest first: the id each begins behind
    std::uint64_t reads_answered_ = 0;
    std::deque<RowId> deletes_;          // under way, the oldest first: the highest id of each
    std::deque<std::uint64_t> waiting_;  // answered, the oldest first: when so many reads have been answered, it may go
};

}  // namespace outbox
