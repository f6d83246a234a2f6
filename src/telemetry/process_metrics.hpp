// What the kernel knows of this process, as Prometheus client libraries name it; prometheus-cpp brings no such
// collector. Reads only /proc/self and the process's own limits, so it works under systemd's ProcSubset=pid. Any
// thread.
#pragma once

#include <cstdint>

namespace outbox {

struct ProcessUsage {
    double cpu_seconds = 0;
    std::uint64_t resident_bytes = 0;
    std::uint64_t virtual_bytes = 0;
    std::uint64_t open_fds = 0;
    std::uint64_t max_fds = 0;
};

ProcessUsage process_usage();

}  // namespace outbox
