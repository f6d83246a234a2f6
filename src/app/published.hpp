// The latest of a value that one thread makes and others look at. Any thread.
// A mutex, held while a pointer is copied: the std::atomic<std::shared_ptr> of libstdc++ 12 gives its lock back by a
// relaxed store after a load (bits/shared_ptr_atomic.h), which only x86 forgives.
#pragma once

#include <memory>
#include <mutex>
#include <utility>

namespace outbox {

template <class T>
class Published {
public:
    Published() = default;
    explicit Published(T first) : latest_(std::make_shared<const T>(std::move(first))) {}

    std::shared_ptr<const T> get() const {  // null before the first
        const std::scoped_lock held(mutex_);
        return latest_;
    }
    void set(std::shared_ptr<const T> next) {
        const std::scoped_lock held(mutex_);
        latest_.swap(next);  // the last one ends with `next`, when the lock is free again
    }

private:
    mutable std::mutex mutex_;
    std::shared_ptr<const T> latest_;
};

}  // namespace outbox
