#include "kafka/consumer.hpp"

#include <doctest/doctest.h>

namespace outbox {

TEST_CASE("a consumer takes from the settings what is about reaching the brokers, and nothing of producing") {
    for (const char* const name :
         {"bootstrap.servers", "metadata.broker.list", "security.protocol", "sasl.mechanism", "sasl.password",
          "ssl.ca.location", "client.id", "enable.ssl.certificate.verification"})
        CHECK_MESSAGE(concerns_connection(name), name);
    for (const char* const name : {"acks", "enable.idempotence", "linger.ms", "compression.type", "batch.size",
                                   "partitioner", "message.max.bytes", "queue.buffering.max.kbytes"})
        CHECK_MESSAGE(!concerns_connection(name), name);
}

TEST_CASE("a record's header is found by its name") {
    const ConsumedRecord record{"k", "v", {{"id", "1"}, {"empty", ""}}};
    CHECK(record.header("id") == "1");
    CHECK(record.header("empty") == "");
    CHECK_FALSE(record.header("i").has_value());
}

}  // namespace outbox
