// A deleter for C handles: std::unique_ptr<PGresult, FreeWith<PQclear>> is as small as the pointer. Any thread.
#pragma once

#include <memory>

namespace outbox {

template <auto Free>
struct FreeWith {
    template <class Handle>
    void operator()(Handle* handle) const noexcept {
        Free(handle);
    }
};

}  // namespace outbox
