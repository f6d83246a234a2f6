// Writers for `verify`: threads that put marked events into the outbox through ordinary transactions, at a rate, and
// roll some of them back. Each thread owns keys of its own, so that the writers of a key serialise. A lost connection
// is opened again; anything else that Postgres refuses ends the load.
// Made and asked by one thread; the writers share nothing with it but a queue of outcomes, which has the mutex.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "core/marked_event.hpp"
#include "core/time.hpp"
#include "postgres/settings.hpp"

namespace outbox {

struct LoadSettings {
    std::string topic;
    std::string run;                         // marks every event
    std::uint64_t events_per_second = 1000;  // 0: as fast as it goes
    std::size_t payload_bytes = 200;
    std::uint32_t keys = 100;
    std::uint32_t writers = 4;  // at most as many as keys, and as events per second
    std::uint32_t rollback_percent = 10;
    Duration duration = std::chrono::seconds(10);
};

enum class Fate { committed, rolled_back, in_doubt };

struct WriterOutcome {
    MarkedEvent event;
    Fate fate = Fate::committed;
    Instant at{};  // when COMMIT's answer was there
};

class MarkedLoad {
public:
    MarkedLoad(PostgresSettings postgres, LoadSettings settings);
    ~MarkedLoad();  // stops the writers and waits for them
    MarkedLoad(const MarkedLoad&) = delete;
    MarkedLoad& operator=(const MarkedLoad&) = delete;

    // What became of events since the last call, in each key's order. Throws what a writer ended with.
    std::vector<WriterOutcome> take();
    // True when every writer is done and said all it had to say before this call.
    bool finished() const { return running_ == 0; }
    // No further transactions while on.
    void hold(bool on) { held_ = on; }

private:
    class Writer;
    void write(std::uint32_t number, const std::stop_token& stop);
    void report(const std::vector<MarkedEvent>& events, Fate fate, Instant at);

    PostgresSettings postgres_;
    LoadSettings settings_;
    std::atomic<bool> held_ = false;
    std::atomic<std::uint32_t> running_;
    std::mutex mutex_;
    std::vector<WriterOutcome> outcomes_;  // by mutex_
    std::exception_ptr failure_;           // by mutex_
    std::vector<std::jthread> threads_;    // last: they use the rest
};

}  // namespace outbox
