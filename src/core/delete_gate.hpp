// When an answer to a delete may be told, where reads and deletes have a session each. What the core takes for granted
// is that a row whose delete was answered is in no read that is answered later. On two sessions a read may have begun
// before the delete committed, and still see its rows: then the answer waits until that read has been answered.
// Pure; it counts, whoever owns both sessions keeps the answers in their order. The worker's thread.
#pragma once

#include <cstddef>

namespace outbox {

class DeleteGate {
public:
    void read_sent();
    // To be called before the next read is sent, which can no longer see what has been deleted by then.
    void read_answered();

    void delete_answered();
    // Whether the oldest answer that waits may be told; then it no longer waits.
    bool let_through();

private:
    bool reading_ = false;
    std::size_t waiting_ = 0;
    std::size_t seen_by_no_read_ = 0;  // so many of them, the oldest
};

}  // namespace outbox
