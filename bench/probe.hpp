// The measuring half of bench/run, in the project's own language: each function measures one thing, prints one JSON
// object on standard output, and returns an exit code. bench/run starts the servers and puts the figures together.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace outbox::bench {

struct Options {
    std::string dsn;
    std::string bootstrap;
    std::string topic;
    std::uint64_t rows = 0;
    std::uint64_t rows_per_second = 0;
    std::uint32_t payload_bytes = 200;
    std::string insert;  // latency: writes $2 rows from number $1 on, to another table than outbox.message
    std::string compression = "none";
    std::uint32_t batch_rows = 1000;         // of a peer's read
    std::uint32_t writers = 1;               // sessions that insert
    std::uint32_t rows_per_transaction = 1;  // of theirs
};

// The relay's own core and session, drained into a sink that acknowledges at once: what Postgres and the core can do.
int database_half(const Options& options);

// The relay's own producer, fed from memory: what librdkafka and the broker can do.
int kafka_half(const Options& options);

// Commit to consumer: rows inserted at a steady rate, read back by a plain consumer.
int latency(const Options& options);

// The same writers and no consumer: what an application's INSERT and COMMIT take.
int insert_latency(const Options& options);

// Relays to compare with. Neither knows of failures, of other instances, or of rows that commit late.
int plain_loop(const Options& options);
int textbook(const Options& options);

// The payloads of the suite's backlogs (bench/suite/bench.py), in short supply: as JSON compresses, so do these.
std::vector<std::string> payloads(std::uint32_t bytes);

// Prints what the measured drain took.
void print_drain(const Options& options, double seconds, double cpu_seconds);

// `"p50_ms": …, "p99_ms": …` and so on.
std::string percentiles(std::vector<double> milliseconds);

// CPU seconds this process has used so far, all threads.
double cpu_seconds();

}  // namespace outbox::bench
