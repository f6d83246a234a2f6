// Tells systemd how the process is, over the notify socket it names, if any: one datagram each, without libsystemd.
// Nothing depends on being heard, so an error is an answer and no more. Any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "core/time.hpp"

namespace outbox {

class ServiceManager {
public:
    struct Environment {
        std::string notify_socket;  // $NOTIFY_SOCKET
        std::string watchdog_usec;  // $WATCHDOG_USEC
        std::string watchdog_pid;   // $WATCHDOG_PID
        std::int64_t own_pid = 0;
    };
    static Environment environment();

    explicit ServiceManager(Environment environment) : environment_(std::move(environment)) {}

    // Each returns whether it was handed over; false as well where nobody listens.
    bool ready() const { return notify("READY=1"); }
    bool stopping() const { return notify("STOPPING=1"); }
    bool status(std::string_view text) const;
    bool watchdog() const { return notify("WATCHDOG=1"); }

    // Without a watchdog() for this long, systemd ends the process: call it twice as often. Empty: none is expected.
    std::optional<Duration> watchdog_interval() const;

private:
    bool notify(std::string_view message) const;

    Environment environment_;
};

}  // namespace outbox
