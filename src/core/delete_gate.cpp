#include "core/delete_gate.hpp"

namespace outbox {

void DeleteGate::read_sent() {
    reading_ = true;
}

void DeleteGate::read_answered() {
    reading_ = false;
    seen_by_no_read_ = waiting_;
}

void DeleteGate::delete_answered() {
    ++waiting_;
    if (!reading_) seen_by_no_read_ = waiting_;
}

bool DeleteGate::let_through() {
    if (seen_by_no_read_ == 0) return false;
    --waiting_;
    --seen_by_no_read_;
    return true;
}

}  // namespace outbox
