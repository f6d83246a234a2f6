#include "core/delete_gate.hpp"

#include "core/invariant.hpp"

namespace outbox {

void DeleteGate::read_sent(RowId after) {
    reads_.push_back(after);
}

void DeleteGate::read_answered() {
    require_invariant(!reads_.empty(), "a read was answered that was not sent");
    reads_.pop_front();
    ++reads_answered_;
}

void DeleteGate::delete_sent(RowId highest) {
    deletes_.push_back(highest);
}

void DeleteGate::delete_answered() {
    require_invariant(!deletes_.empty(), "a delete was answered that was not sent");
    std::uint64_t reads_that_may_see_it = 0;
    for (std::uint64_t i = 0; i < reads_.size(); ++i)
        if (reads_[i] < deletes_.front()) reads_that_may_see_it = i + 1;
    deletes_.pop_front();
    waiting_.push_back(reads_answered_ + reads_that_may_see_it);
}

bool DeleteGate::let_through() {
    if (waiting_.empty() || waiting_.front() > reads_answered_) return false;
    waiting_.pop_front();
    return true;
}

}  // namespace outbox
