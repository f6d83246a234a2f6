#include "kafka/producer_conf.hpp"

#include <doctest/doctest.h>
#include <stdlib.h>
#include <unistd.h>

#include <array>
#include <fstream>
#include <stdexcept>
#include <string>

#include "kafka/producer.hpp"

namespace outbox {

namespace {

class TemporaryFile {
public:
    explicit TemporaryFile(std::string_view content) {
        const int file = mkstemp(path_.data());
        REQUIRE(file >= 0);
        close(file);
        std::ofstream(path_, std::ios::binary) << content;
    }
    ~TemporaryFile() { unlink(path_.c_str()); }
    TemporaryFile(const TemporaryFile&) = delete;
    TemporaryFile& operator=(const TemporaryFile&) = delete;
    const std::string& path() const { return path_; }

private:
    std::string path_ = "/tmp/outbox-test-XXXXXX";
};

std::string value_in(const rd_kafka_conf_t* conf, const char* name) {
    std::array<char, 256> value{};
    std::size_t size = value.size();
    return rd_kafka_conf_get(conf, name, value.data(), &size) == RD_KAFKA_CONF_OK ? value.data() : "unknown";
}

std::string refusal(const KafkaSettings& settings) {
    try {
        const Producer producer(settings, {});
    } catch (const std::runtime_error& error) {
        return error.what();
    }
    return {};
}

KafkaSettings with_file(const std::string& property, const SecretFile& file) {
    return {{{"bootstrap.servers", "127.0.0.1:1"}}, {{property, file}}};
}

}  // namespace

TEST_CASE("what the guarantees need is set, and the operator's own choices come after") {
    const KafkaConf conf = producer_conf({{{"linger.ms", "7"}, {"message.max.bytes", "5000"}}, {}}, {});
    for (const KafkaProperty& expected : std::initializer_list<KafkaProperty>{
             {"enable.idempotence", "true"},
             {"acks", "-1"},
             {"max.in.flight.requests.per.connection", "5"},
             {"message.timeout.ms", "0"},
             {"partitioner", "murmur2_random"},
             {"linger.ms", "7"},
             {"message.max.bytes", "5000"},
         }) {
        CAPTURE(expected.name);
        CHECK(value_in(conf.get(), expected.name.c_str()) == expected.value);
    }
}

TEST_CASE("a file's content becomes the property, as it is now and without its line end") {
    for (const auto& [content, expected] : std::initializer_list<std::pair<const char*, const char*>>{
             {"s3cret", "s3cret"}, {"s3cret\n", "s3cret"}, {"s3cret\r\n", "s3cret"}, {"s3 cret \n\n", "s3 cret \n"}}) {
        const TemporaryFile file(content);
        const KafkaSettings settings = with_file("sasl.password", {file.path(), "credential:password"});
        CHECK(value_in(producer_conf(settings, {}).get(), "sasl.password") == expected);
        std::ofstream(file.path()) << "rotated";
        CHECK(value_in(producer_conf(settings, {}).get(), "sasl.password") == "rotated");
    }
}

TEST_CASE("a file that cannot be read is named as the operator wrote it") {
    CHECK(refusal(with_file("sasl.password", {"/nonexistent/password", "credential:password"})) ==
          "cannot read credential:password");
    CHECK(refusal(with_file("sasl.password", {"/tmp", "credential:folder"})) == "cannot read credential:folder");
    const TemporaryFile large(std::string((1 << 20) + 1, 's'));
    CHECK(refusal(with_file("sasl.password", {large.path(), "credential:large"})) ==
          "credential:large is larger than 1 MiB");
}

TEST_CASE("no refusal repeats a secret") {
    const TemporaryFile secret("s3cret");
    CHECK(refusal(with_file("security.protocol", {secret.path(), "credential:wrong"})) ==
          "librdkafka does not accept the value given for security.protocol");
    for (const char* property : {"ssl.key.pem", "ssl.certificate.pem", "ssl.ca.pem"}) {
        CAPTURE(property);
        KafkaSettings settings = with_file(property, {secret.path(), "credential:key"});
        settings.properties.push_back({"security.protocol", "ssl"});
        const std::string text = refusal(settings);
        CHECK(text.find("cannot create the Kafka producer") == 0);
        CHECK(text.find("s3cret") == std::string::npos);
    }
}

}  // namespace outbox
