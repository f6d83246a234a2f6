// What the relays to compare with share: blocking libpq, and librdkafka with the relay's own settings and headers, so
// that what differs is how they work and not how they are set up. One thread.
#pragma once

#include <libpq-fe.h>
#include <librdkafka/rdkafka.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "app/boot_clock.hpp"
#include "core/owned.hpp"
#include "core/row.hpp"
#include "probe.hpp"

namespace outbox::bench {

using Answer = std::unique_ptr<PGresult, FreeWith<PQclear>>;

// A connection whose statements are prepared, with binary parameters and results.
class PeerSession {
public:
    explicit PeerSession(const Options& options);
    void prepare(const char* name, const std::string& sql);
    void run(const char* sql);
    void send(const char* name, const std::string& parameter = {});  // answer() waits for what it gives
    bool busy();
    Answer answer();

private:
    std::unique_ptr<PGconn, FreeWith<PQfinish>> connection_;
};

inline constexpr const char* peer_columns = "SELECT id, event_id, created_at, topic, key, payload FROM outbox.message ";

class PeerProducer {
public:
    explicit PeerProducer(const Options& options);
    ~PeerProducer();
    PeerProducer(const PeerProducer&) = delete;
    PeerProducer& operator=(const PeerProducer&) = delete;

    RowId produce(const PGresult* rows, int row);
    void poll(int milliseconds) { rd_kafka_poll(kafka_, milliseconds); }
    void flush();  // throws unless everything is acknowledged then

    std::uint64_t outstanding() const { return outstanding_; }
    std::vector<RowId> acknowledged;  // the owner takes out what it has deleted
    double seconds_from_first_to_last() const;

private:
    static void on_delivery(rd_kafka_t* kafka, const rd_kafka_message_t* message, void* self);

    rd_kafka_t* kafka_ = nullptr;
    rd_kafka_topic_t* topic_ = nullptr;
    std::uint64_t outstanding_ = 0;
    bool failed_ = false;
    Instant first_{};
    Instant last_{};
};

std::string int8_parameter(std::int64_t value);
std::string int8_array_parameter(const std::vector<RowId>& ids);

}  // namespace outbox::bench
