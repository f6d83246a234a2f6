#include "telemetry/process_metrics.hpp"

#include <sys/resource.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <system_error>

namespace outbox {
namespace {

double seconds(const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
}

std::uint64_t open_files() {
    std::error_code error;
    const std::filesystem::directory_iterator files("/proc/self/fd", error);
    if (error) return 0;
    std::uint64_t count = 0;
    for (auto at = begin(files); at != end(files) && !error; at.increment(error)) ++count;
    return count > 0 ? count - 1 : 0;  // the iterator's own
}

}  // namespace

ProcessUsage process_usage() {
    ProcessUsage result;
    rusage usage{};
    if (::getrusage(RUSAGE_SELF, &usage) == 0) result.cpu_seconds = seconds(usage.ru_utime) + seconds(usage.ru_stime);
    std::ifstream statm("/proc/self/statm");
    std::uint64_t pages = 0;
    std::uint64_t resident_pages = 0;
    if (statm >> pages >> resident_pages) {
        const auto page_bytes = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
        result.virtual_bytes = pages * page_bytes;
        result.resident_bytes = resident_pages * page_bytes;
    }
    result.open_fds = open_files();
    rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) == 0) result.max_fds = limit.rlim_cur;
    return result;
}

}  // namespace outbox
