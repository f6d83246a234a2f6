// A librdkafka property as an operator may set it: NAME=VALUE lines. Holds: a reason or none; with none, librdkafka
// takes the value, and what it makes of it keeps the guarantees, whatever way the name or the value was written.
#include <librdkafka/rdkafka.h>

#include <array>
#include <memory>
#include <string>

#include "core/owned.hpp"
#include "fuzz/fuzzing.hpp"
#include "kafka/properties.hpp"

namespace outbox::fuzzing {
namespace {

using Conf = std::unique_ptr<rd_kafka_conf_t, FreeWith<rd_kafka_conf_destroy>>;

std::string value_of(const rd_kafka_conf_t* conf, const char* name) {
    std::array<char, 256> text{};
    std::size_t size = text.size();
    require(rd_kafka_conf_get(conf, name, text.data(), &size) == RD_KAFKA_CONF_OK, "a property that exists", name);
    return text.data();
}

void check_guarantees(const std::string& name, const std::string& value) {
    const Conf conf(rd_kafka_conf_new());
    rd_kafka_conf_set(conf.get(), "enable.idempotence", "true", nullptr, 0);
    rd_kafka_conf_set(conf.get(), "acks", "all", nullptr, 0);
    rd_kafka_conf_set(conf.get(), "message.timeout.ms", "0", nullptr, 0);
    rd_kafka_conf_set(conf.get(), "max.in.flight", "5", nullptr, 0);
    std::array<char, 512> error{};
    require(rd_kafka_conf_set(conf.get(), name.c_str(), value.c_str(), error.data(), error.size()) == RD_KAFKA_CONF_OK,
            "what is allowed can be set", name);
    const auto holds = [&](const char* property, std::string_view wanted) {
        require(value_of(conf.get(), property) == wanted, property, name + "=" + value);
    };
    holds("enable.idempotence", "true");
    holds("acks", "-1");
    holds("message.timeout.ms", "0");
    holds("queuing.strategy", "fifo");
    holds("enable.ssl.certificate.verification", "true");
    holds("enable.gapless.guarantee", "false");
    holds("delivery.report.only.error", "false");
    const int in_flight = std::stoi(value_of(conf.get(), "max.in.flight.requests.per.connection"));
    require(in_flight >= 1 && in_flight <= 5, "1 to 5 in flight", name + "=" + value);
}

}  // namespace
}  // namespace outbox::fuzzing

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace outbox;
    using namespace outbox::fuzzing;
    Input input(data, std::min<std::size_t>(size, 4096));
    const std::string name(input.until("="));
    const std::string value(input.rest());
    if (value.find('\0') != std::string::npos) return 0;  // refused before (config/config.cpp)
    const auto reason = check_kafka_property(name, value);
    if (reason) return require(!reason->empty(), "a refusal has a reason", name), 0;
    check_guarantees(name, value);
    return 0;
}
