#include <sys/resource.h>

#include <algorithm>
#include <cstdlib>
#include <exception>
#include <iostream>
#include <map>
#include <random>
#include <sstream>
#include <string>
#include <type_traits>
#include <vector>

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

std::vector<std::string> payloads(std::uint32_t bytes) {
    constexpr int kinds = 1000;  // more of them than fit a compressor's window
    constexpr const char* digits = "0123456789abcdef";
    std::mt19937 random(1);
    std::vector<std::string> made(kinds);
    for (std::string& payload : made) {
        while (payload.size() < bytes) {
            payload += R"({"id":")";
            for (int i = 0; i < 32; ++i) payload += digits[random() & 15U];
            payload += R"(","state":"confirmed","amount":"12.50"},)";
        }
        payload.resize(bytes);
    }
    return made;
}

void print_drain(const Options& options, double seconds, double cpu_seconds) {
    std::cout << R"({"events_per_second": )" << static_cast<double>(options.rows) / seconds << R"(, "cpu_seconds": )"
              << cpu_seconds << "}\n";
}

std::string percentiles(std::vector<double> milliseconds) {
    std::sort(milliseconds.begin(), milliseconds.end());
    const auto at = [&](double part) {
        return milliseconds[std::min(milliseconds.size() - 1,
                                     static_cast<std::size_t>(part * static_cast<double>(milliseconds.size())))];
    };
    std::ostringstream text;
    text << R"("p50_ms": )" << at(0.5) << R"(, "p90_ms": )" << at(0.9) << R"(, "p99_ms": )" << at(0.99)
         << R"(, "p999_ms": )" << at(0.999) << R"(, "max_ms": )" << milliseconds.back();
    return text.str();
}

}  // namespace outbox::bench

int main(int argc, char** argv) {
    using namespace outbox::bench;
    std::map<std::string, std::string> given;
    for (int i = 2; i + 1 < argc; i += 2) given[argv[i]] = argv[i + 1];
    Options options;
    options.dsn = given["--dsn"];
    options.bootstrap = given["--bootstrap"];
    options.topic = given["--topic"];
    options.insert = given["--insert"];
    const auto number = [&](const char* name, auto& target) {
        using Number = std::remove_reference_t<decltype(target)>;
        if (given.contains(name)) target = static_cast<Number>(std::strtoull(given[name].c_str(), nullptr, 10));
    };
    number("--rows", options.rows);
    number("--rate", options.rows_per_second);
    number("--payload-bytes", options.payload_bytes);
    number("--batch", options.batch_rows);
    number("--writers", options.writers);
    number("--rows-per-transaction", options.rows_per_transaction);
    if (given.contains("--compression")) options.compression = given["--compression"];
    const std::map<std::string, int (*)(const Options&)> measures{
        {"database", database_half},        {"kafka", kafka_half}, {"latency", latency},
        {"insert-latency", insert_latency}, {"plain", plain_loop}, {"textbook", textbook}};
    const auto measure = measures.find(argc > 1 ? argv[1] : "");
    try {
        if (measure != measures.end()) return measure->second(options);
        std::cerr
            << "usage: bench_probe database|kafka|latency|insert-latency|plain|textbook [--dsn D] [--bootstrap B] "
               "[--topic T] [--rows N] [--rate ROWS_PER_SECOND] [--payload-bytes N] [--compression C] [--batch N] "
               "[--writers N] [--rows-per-transaction N] [--insert SQL]\n";
    } catch (const std::exception& error) {
        std::cerr << "bench_probe: " << error.what() << "\n";
    }
    return 1;
}
