#include "kafka/properties.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <string>
#include <utility>

namespace outbox {

TEST_CASE("ordinary properties of a producer may be set") {
    for (const auto& property : std::initializer_list<std::pair<std::string, std::string>>{
             {"bootstrap.servers", "k1:9092"},
             {"compression.type", "lz4"},
             {"linger.ms", "5"},
             {"acks", "all"},
             {"request.required.acks", "-1"},
             {"enable.idempotence", "true"},
             {"max.in.flight", "1"},
             {"max.in.flight.requests.per.connection", "5"},
             {"message.timeout.ms", "0"},
             {"delivery.timeout.ms", "0"},
             {"queuing.strategy", "fifo"},
             {"security.protocol", "sasl_ssl"},
             {"sasl.username", "relay"},
             {"sasl.password", "x"},
             {"ssl.ca.location", "/etc/ca.pem"},
             {"ssl.endpoint.identification.algorithm", "https"},
             {"enable.ssl.certificate.verification", "t"},
             {"test.mock.num.brokers", "3"},
             {"partitioner", "murmur2_random"},
             {"message.max.bytes", "2000000"},
         }) {
        CHECK_MESSAGE(check_kafka_property(property.first, property.second).value_or("ok") == "ok", property.first);
    }
}

TEST_CASE("a property that would break a guarantee is refused with the reason") {
    for (const auto& property : std::initializer_list<std::pair<std::string, std::string>>{
             {"enable.idempotence", "false"},
             {"enable.idempotence", "F"},
             {"enable.idempotence", "0"},
             {"acks", "1"},
             {"acks", "0"},
             {"request.required.acks", "1"},
             {"max.in.flight", "6"},
             {"max.in.flight.requests.per.connection", "1000000"},
             {"message.timeout.ms", "300000"},
             {"delivery.timeout.ms", "1"},
             {"queuing.strategy", "lifo"},
             {"enable.ssl.certificate.verification", "false"},
             {"ssl.endpoint.identification.algorithm", "none"},
         }) {
        const std::string text = check_kafka_property(property.first, property.second).value_or("accepted");
        CHECK_MESSAGE(text.find("allowed: ") != std::string::npos, property.first, ": ", text);
    }
}

TEST_CASE("what is the relay's own, foreign code or a callback cannot be set at all") {
    for (const std::string name : {"transactional.id",
                                   "retries",
                                   "message.send.max.retries",
                                   "enable.gapless.guarantee",
                                   "delivery.report.only.error",
                                   "dr_cb",
                                   "dr_msg_cb",
                                   "socket_cb",
                                   "ssl.certificate.verify_cb",
                                   "log_cb",
                                   "enabled_events",
                                   "opaque",
                                   "interceptors",
                                   "plugin.library.paths",
                                   "log_level",
                                   "log.queue",
                                   "statistics.interval.ms",
                                   "queue.buffering.max.messages",
                                   "queue.buffering.max.kbytes",
                                   "default_topic_conf",
                                   "group.id",
                                   "auto.offset.reset",
                                   "enable.auto.commit"}) {
        const std::string text = check_kafka_property(name, "1").value_or("accepted");
        CHECK_MESSAGE(text.find("cannot be set: ") == 0, name, ": ", text);
    }
}

TEST_CASE("an unknown property and an invalid value are refused in librdkafka's terms") {
    CHECK(check_kafka_property("bootstrap.server", "k1:9092") == "unknown to librdkafka " + kafka_library_version());
    CHECK(check_kafka_property("compression.type", "zip").value_or("").find("Invalid value \"zip\"") == 0);
    CHECK(check_kafka_property("linger.ms", "soon").has_value());
    CHECK(check_kafka_property("", "x").has_value());
    // To librdkafka this would be max.in.flight: 1000000 of them.
    CHECK(check_kafka_property(std::string("max.in.flight\0.", 15), "").has_value());
}

TEST_CASE("the names of producer properties are known, of both kinds") {
    const auto names = kafka_property_names();
    for (const std::string name : {"bootstrap.servers", "sasl.password", "acks", "compression.type"}) {
        CHECK_MESSAGE(std::find(names.begin(), names.end(), name) != names.end(), name);
    }
    CHECK(std::find(names.begin(), names.end(), "group.id") == names.end());
}

}  // namespace outbox
