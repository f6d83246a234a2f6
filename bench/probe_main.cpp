#include <sys/resource.h>

#include <cstdlib>
#include <exception>
#include <iostream>
#include <map>
#include <string>

#include "probe.hpp"

namespace outbox::bench {

double cpu_seconds() {
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    const auto seconds = [](const timeval& time) {
        return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) * 1e-6;
    };
    return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

}  // namespace outbox::bench

int main(int argc, char** argv) {
    using namespace outbox::bench;
    std::map<std::string, std::string> given;
    for (int i = 2; i + 1 < argc; i += 2) given[argv[i]] = argv[i + 1];
    const auto number = [&](const char* name) { return std::strtoull(given[name].c_str(), nullptr, 10); };
    Options options{given["--dsn"], given["--bootstrap"], given["--topic"], number("--rows"), number("--rate"), 200};
    if (given.contains("--payload-bytes"))
        options.payload_bytes = static_cast<std::uint32_t>(number("--payload-bytes"));
    const std::string what = argc > 1 ? argv[1] : "";
    try {
        if (what == "database") return database_half(options);
        if (what == "kafka") return kafka_half(options);
        if (what == "latency") return latency(options);
        std::cerr << "usage: bench_probe database|kafka|latency [--dsn D] [--bootstrap B] [--topic T] [--rows N] "
                     "[--rate ROWS_PER_SECOND] [--payload-bytes N]\n";
    } catch (const std::exception& error) {
        std::cerr << "bench_probe: " << error.what() << "\n";
    }
    return 1;
}
