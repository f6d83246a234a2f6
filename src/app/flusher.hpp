// Lets a producer's rows go at once that librdkafka would keep for company (linger.ms). librdkafka has one linger for
// all rows, fixed when the producer is made, and sets it aside only while a call to flush it waits. So there is a
// thread that makes these calls: rows of a backlog travel in large batches, and fresh ones do not wait.
// One for each producer, owned by its worker, and gone before it. Its thread touches nothing but Producer::flush().
#pragma once

#include <atomic>
#include <thread>

#include "app/wakeups.hpp"
#include "kafka/producer.hpp"

namespace outbox {

class Flusher {
public:
    // Throws std::system_error where no descriptor or no thread is to be had.
    explicit Flusher(const Producer& producer);
    ~Flusher();  // takes some 10 ms at most
    Flusher(const Flusher&) = delete;
    Flusher& operator=(const Flusher&) = delete;

    void ask() const;  // does not wait

private:
    void run();

    const Producer& producer_;
    Wakeups asked_;
    std::atomic<bool> ending_ = false;
    std::jthread thread_;  // the last one: joined before the rest goes
};

}  // namespace outbox
