#include "kafka/statistics.hpp"

#include <doctest/doctest.h>

#include <string>

namespace outbox {

namespace {

std::string broker(const std::string& state, int throttle_max) {
    return R"("127.0.0.1:9092/1": { "name":"127.0.0.1:9092/1", "state":")" + state +
           R"(", "stateage":12, "rtt": { "min":90, "max":9000, "avg":1}, "throttle": { "min":0, "max":)" +
           std::to_string(throttle_max) + R"(, "avg":0, "cnt":3 }, "toppars":{ } })";
}

std::string document(const std::string& brokers, const std::string& topics = "") {
    return R"({ "name": "outbox-relay", "brokers":{ )" + brokers + R"( }, "topics":{ )" + topics + " } }";
}

}  // namespace

TEST_CASE("one broker that is up is enough") {
    CHECK(producer_statistics(document(broker("UP", 0))).any_up);
    CHECK(producer_statistics(document(broker("DOWN", 0) + ", " + broker("UP", 0))).any_up);
    CHECK_FALSE(producer_statistics(document(broker("DOWN", 0) + ", " + broker("TRY_CONNECT", 0))).any_up);
    CHECK_FALSE(producer_statistics(document("")).any_up);
    CHECK_FALSE(producer_statistics("").any_up);
}

TEST_CASE("what a topic says is not taken for a broker's word") {
    const std::string topics = R"("t": { "state":"UP", "throttle": { "max":7 } })";
    CHECK_FALSE(producer_statistics(document(broker("DOWN", 0), topics)).any_up);
    CHECK(producer_statistics(document(broker("DOWN", 0), topics)).throttled == Duration::zero());
}

TEST_CASE("the longest throttling of all brokers is told") {
    using namespace std::chrono_literals;
    CHECK(producer_statistics(document(broker("UP", 0))).throttled == 0ms);
    CHECK(producer_statistics(document(broker("UP", 20) + ", " + broker("UP", 1500) + ", " + broker("UP", 3)))
              .throttled == 1500ms);
}

TEST_CASE("a time that no broker waits is a day at most") {
    CHECK(producer_statistics(R"({"throttle":{"max":9223372036854775807}})").throttled == std::chrono::hours(24));
    CHECK(producer_statistics(R"({"throttle":{"max":-5}})").throttled == Duration::zero());
    CHECK(producer_statistics(R"({"throttle":{"max":-66654775803685477}})").throttled == Duration::zero());
}

TEST_CASE("the producer's epoch is told, and is not a topic's of that name") {
    const std::string topics = R"("eos": { "topic":"eos", "producer_id":7, "producer_epoch":7, "partitions":{ } })";
    const std::string text = document(broker("UP", 0), topics);
    const std::string whole = text.substr(0, text.size() - 1) +
                              R"(, "eos":{ "idemp_state":"Assigned", "producer_id":4711, "producer_epoch":2, )"
                              R"("epoch_cnt":3 } })";
    CHECK(producer_statistics(whole).producer_id == 4711);
    CHECK(producer_statistics(whole).epoch == 2);
    CHECK(producer_statistics(document(broker("UP", 0))).producer_id == -1);
    CHECK(producer_statistics(R"({"eos":{"producer_id":x,"producer_epoch":)").epoch == -1);
}

TEST_CASE("a document that is cut off says what it holds") {
    CHECK(producer_statistics(R"({ "brokers":{ "b": { "state":"UP", "throttle": { "min":0, "max":)").any_up);
    CHECK(producer_statistics(R"({ "brokers":{ "b": { "throttle":)").throttled == Duration::zero());
}

}  // namespace outbox
