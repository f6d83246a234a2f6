// The measuring half of bench/drain, in the project's own language: each function measures one thing, prints one JSON
// object on standard output, and returns an exit code. bench/drain starts the servers and puts the figures together.
#pragma once

#include <cstdint>
#include <string>

namespace outbox::bench {

struct Options {
    std::string dsn;
    std::string bootstrap;
    std::string topic;
    std::uint64_t rows = 0;
    std::uint64_t rows_per_second = 0;
    std::uint32_t payload_bytes = 200;
};

// The relay's own core and session, drained into a sink that acknowledges at once: what Postgres and the core can do.
int database_half(const Options& options);

// The relay's own producer, fed from memory: what librdkafka and the broker can do.
int kafka_half(const Options& options);

// Commit to consumer: one row a transaction at a steady rate, read back by a plain consumer.
int latency(const Options& options);

// CPU seconds this process has used so far, all threads.
double cpu_seconds();

}  // namespace outbox::bench
