// Everything that may end a worker's sleep, behind one poll(2): an interrupt from another thread, the Postgres socket,
// the producer's descriptor, and time. Owned by the worker; interrupt() from any thread.
#pragma once

#include <cstdint>

#include "core/time.hpp"

namespace outbox {

class Wakeups {
public:
    Wakeups();
    ~Wakeups();
    Wakeups(const Wakeups&) = delete;
    Wakeups& operator=(const Wakeups&) = delete;

    struct Source {
        int descriptor = -1;  // -1: not there
        short wanted = 0;
    };
    struct Woken {
        bool session = false;
        bool producer = false;
    };
    Woken sleep(Source session, Source producer, Duration at_most, Source second_session);
    Woken sleep(Source session, Source producer, Duration at_most) { return sleep(session, producer, at_most, {}); }

    void interrupt() const;

private:
    int interrupt_fd_ = -1;
};

}  // namespace outbox
