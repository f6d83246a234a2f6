#include <doctest/doctest.h>
#include <poll.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "kafka/producer.hpp"
#include "support/mock_cluster.hpp"

namespace outbox {

namespace {

using namespace std::chrono_literals;
using testing::MockCluster;
using testing::Record;
using Clock = std::chrono::steady_clock;

constexpr TopicIndex topic_t{0};

RowContent row_of(std::string_view payload, std::string_view key = "k") {
    RowContent row;
    row.topic = "t";
    row.key = key;
    row.payload = payload;
    row.headers = "{}";
    return row;
}

Slot slot(std::size_t number) {
    return Slot{static_cast<std::uint32_t>(number)};
}

// A producer and everything it has reported.
struct Publisher {
    explicit Publisher(const KafkaSettings& settings, const RelaySettings& relay = {}) : producer(settings, relay) {}

    // Collects when the descriptor says so, until `done` or the time is up. True when `done`.
    bool collect_until(const std::function<bool()>& done, std::chrono::milliseconds time = 10s) {
        for (const auto give_up = Clock::now() + time; !done();) {
            if (Clock::now() > give_up) return false;
            pollfd wait{producer.descriptor(), POLLIN, 0};
            if (poll(&wait, 1, 20) > 0) producer.collect(reports, Instant{});
        }
        return true;
    }
    bool collect_reports(std::size_t rows) {
        return collect_until([&] { return reports.delivered.size() + reports.failed.size() >= rows; });
    }
    // A row with a key goes alone until its partition has acknowledged it; from then on they go together.
    void make_contact(const RowContent& row) {
        CHECK_FALSE(producer.publish(topic_t, row, slot(9999)));
        REQUIRE(collect_reports(1));
        REQUIRE(reports.failed.empty());
        reports.clear();
    }
    bool saw_notice(std::string_view code) const {
        return std::any_of(reports.notices.begin(), reports.notices.end(),
                           [&](const ProducerNotice& notice) { return notice.code == code; });
    }

    Producer producer;
    ProducerReports reports;
};

}  // namespace

TEST_CASE("a row arrives with exactly its key, payload and headers") {
    MockCluster cluster;
    cluster.create_topic("t", 1);
    Publisher publisher(cluster.settings());
    std::string all_bytes;
    for (int byte = 0; byte < 256; ++byte) all_bytes.push_back(static_cast<char>(byte));
    RowContent row = row_of(all_bytes, "schlüssel\xF0\x9F\x98\x80");
    row.headers = R"({"trace": "ü", "": "empty name"})";
    row.event_id = {0xab, 0xcd};
    row.created_at_us = 1;
    CHECK_FALSE(publisher.producer.publish(topic_t, row, slot(7)));
    REQUIRE(publisher.collect_reports(1));
    CHECK(publisher.reports.delivered == std::vector{slot(7)});
    CHECK(publisher.producer.queued() == 0);

    const std::vector<Record> records = cluster.consume("t", 1);
    REQUIRE(records.size() == 1);
    CHECK(records[0].key == "schlüssel\xF0\x9F\x98\x80");
    CHECK(records[0].value == all_bytes);
    const std::vector<std::pair<std::string, std::string>> headers{{"trace", "ü"},
                                                                   {"", "empty name"},
                                                                   {"id", "abcd0000-0000-0000-0000-000000000000"},
                                                                   {"created_at", "2000-01-01T00:00:00.000001Z"}};
    CHECK(records[0].headers == headers);
    // Born when it is published: a row that waited out an outage must not be past the topic's retention.
    const auto now =
        std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch());
    CHECK(std::abs(records[0].timestamp_ms - now.count()) < 60'000);
}

TEST_CASE("a record's timestamp is the time it was published at, where that is said") {
    MockCluster cluster;
    cluster.create_topic("t", 1);
    Publisher publisher(cluster.settings());
    publisher.make_contact(row_of("first"));
    const WallTime said(std::chrono::milliseconds(1'700'000'000'123));
    CHECK_FALSE(publisher.producer.publish(topic_t, row_of("x"), slot(1), said));
    REQUIRE(publisher.collect_reports(1));
    const std::vector<Record> records = cluster.consume("t", 2);
    REQUIRE(records.size() == 2);
    CHECK(records[1].timestamp_ms == said.time_since_epoch().count());
}

TEST_CASE("a tombstone, an empty payload, an empty key and no key are four different things") {
    MockCluster cluster;
    cluster.create_topic("t", 1);
    Publisher publisher(cluster.settings());
    RowContent tombstone = row_of("");
    tombstone.payload.reset();
    RowContent keyless = row_of("x");
    keyless.key.reset();
    publisher.make_contact(row_of("contact"));
    const std::vector<RowContent> rows{tombstone, row_of(""), row_of("x", ""), keyless};
    for (std::size_t i = 0; i < rows.size(); ++i) CHECK_FALSE(publisher.producer.publish(topic_t, rows[i], slot(i)));
    REQUIRE(publisher.collect_reports(4));

    std::vector<Record> records = cluster.consume("t", 5);
    REQUIRE(records.size() == 5);
    records.erase(records.begin());
    CHECK_FALSE(records[0].value.has_value());
    CHECK(records[1].value == "");
    CHECK(records[2].key == "");
    CHECK_FALSE(records[3].key.has_value());
}

TEST_CASE("the rows of a partition arrive in order and each is reported once by its slot") {
    constexpr std::size_t rows = 5000;
    MockCluster cluster(3);
    cluster.create_topic("t", 4);
    Publisher publisher(cluster.settings());
    for (std::size_t i = 0; i < rows; ++i)
        CHECK_FALSE(
            publisher.producer.publish(topic_t, row_of(std::to_string(i), "key" + std::to_string(i % 10)), slot(i)));
    REQUIRE(publisher.collect_reports(rows));
    std::vector<Slot> delivered = publisher.reports.delivered;
    std::sort(delivered.begin(), delivered.end());
    REQUIRE(delivered.size() == rows);
    for (std::size_t i = 0; i < rows; ++i) REQUIRE(delivered[i] == slot(i));

    const std::vector<Record> records = cluster.consume("t", rows);
    REQUIRE(records.size() == rows);
    std::map<std::int32_t, int> last;
    for (const Record& record : records) {
        const int number = std::stoi(record.value.value_or("-1"));
        const auto [before, first] = last.try_emplace(record.partition, number);
        CHECK((first || before->second < number));
        before->second = number;
    }
    CHECK(last.size() > 1);
}

TEST_CASE("rows of several topics go to theirs") {
    MockCluster cluster;
    cluster.create_topic("t", 1);
    cluster.create_topic("other", 1);
    Publisher publisher(cluster.settings());
    RowContent other = row_of("to other");
    other.topic = "other";
    CHECK_FALSE(publisher.producer.publish(TopicIndex{3}, other, slot(1)));
    CHECK_FALSE(publisher.producer.publish(topic_t, row_of("to t"), slot(2)));
    REQUIRE(publisher.collect_reports(2));
    REQUIRE(cluster.consume("other", 1).size() == 1);
    CHECK(cluster.consume("other", 1)[0].value == "to other");
    CHECK(cluster.consume("t", 1)[0].value == "to t");
}

TEST_CASE("a row the broker finds too large fails as the row's fault") {
    MockCluster cluster;
    cluster.create_topic("t", 1);
    Publisher publisher(cluster.settings());
    cluster.answer_produce({RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE});
    CHECK_FALSE(publisher.producer.publish(topic_t, row_of("large"), slot(1)));
    REQUIRE(publisher.collect_reports(1));
    REQUIRE(publisher.reports.failed.size() == 1);
    const FailedRow& failed = publisher.reports.failed.front();
    CHECK(failed.slot == slot(1));
    CHECK(failed.failure.kind == FailureKind::row);
    CHECK(failed.failure.code == "MSG_SIZE_TOO_LARGE");
    CHECK_FALSE(failed.refused_locally);
}

TEST_CASE("a row above message.max.bytes is refused on the spot and no report follows") {
    MockCluster cluster;
    cluster.create_topic("t", 1);
    const KafkaSettings settings = cluster.settings({{"message.max.bytes", "10000"}});
    CHECK(message_bytes_max(settings) == 10000);
    CHECK(message_bytes_max(cluster.settings()) == 1048588);
    Publisher publisher(settings);
    const auto failure = publisher.producer.publish(topic_t, row_of(std::string(10001, 'x')), slot(1));
    REQUIRE(failure);
    CHECK(failure->kind == FailureKind::row);
    CHECK(failure->code == "MSG_SIZE_TOO_LARGE");
    CHECK_FALSE(publisher.producer.publish(topic_t, row_of("small"), slot(2)));
    REQUIRE(publisher.collect_reports(1));
    CHECK(publisher.reports.delivered == std::vector{slot(2)});
    CHECK(publisher.reports.failed.empty());
    CHECK(publisher.producer.queued() == 0);
}

TEST_CASE("a row whose headers are no object of strings is refused on the spot") {
    MockCluster cluster;
    Publisher publisher(cluster.settings());
    RowContent row = row_of("x");
    row.headers = "[]";
    const auto failure = publisher.producer.publish(topic_t, row, slot(1));
    REQUIRE(failure);
    CHECK(failure->kind == FailureKind::row);
    CHECK(failure->code == "INVALID_HEADERS");
    CHECK(publisher.producer.queued() == 0);
}

TEST_CASE("more rows than the queue holds are pushed back and nothing of them is reported") {
    MockCluster cluster;
    cluster.create_topic("t", 1);
    RelaySettings relay;
    relay.in_flight_rows = 10;
    Publisher publisher(cluster.settings({{"linger.ms", "500"}}), relay);
    publisher.make_contact(row_of("x"));
    for (std::size_t i = 0; i < 20; ++i) REQUIRE_FALSE(publisher.producer.publish(topic_t, row_of("x"), slot(i)));
    const auto failure = publisher.producer.publish(topic_t, row_of("x"), slot(20));
    REQUIRE(failure);
    CHECK(failure->kind == FailureKind::back_pressure);
    CHECK(publisher.collect_reports(20));
    CHECK(publisher.reports.delivered.size() == 20);
}

TEST_CASE("a topic that does not exist fails as the topic's fault while others go on") {
    MockCluster cluster;
    cluster.create_topic("t", 1);
    cluster.answer_metadata("missing", RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART);
    Publisher publisher(cluster.settings({{"topic.metadata.propagation.max.ms", "200"}}));
    RowContent row = row_of("x");
    row.topic = "missing";
    CHECK_FALSE(publisher.producer.publish(TopicIndex{1}, row, slot(1)));
    CHECK_FALSE(publisher.producer.publish(topic_t, row_of("x"), slot(2)));
    REQUIRE(publisher.collect_reports(2));
    CHECK(publisher.reports.delivered == std::vector{slot(2)});
    REQUIRE(publisher.reports.failed.size() == 1);
    CHECK(publisher.reports.failed[0].slot == slot(1));
    CHECK(publisher.reports.failed[0].failure.kind == FailureKind::topic);
    CHECK_FALSE(publisher.producer.fatal());
    // Known to be missing by now: refused on the spot.
    const auto refused = publisher.producer.publish(TopicIndex{1}, row, slot(3));
    if (refused) CHECK(refused->kind == FailureKind::topic);
}

TEST_CASE("a topic that may not be written fails as the topic's fault and can be written again later") {
    MockCluster cluster;
    cluster.create_topic("t", 1);
    Publisher publisher(cluster.settings());
    cluster.answer_produce({RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED});
    CHECK_FALSE(publisher.producer.publish(topic_t, row_of("x"), slot(1)));
    REQUIRE(publisher.collect_reports(1));
    REQUIRE(publisher.reports.failed.size() == 1);
    CHECK(publisher.reports.failed[0].failure.kind == FailureKind::topic);
    CHECK(publisher.reports.failed[0].failure.code == "TOPIC_AUTHORIZATION_FAILED");
    publisher.reports.clear();
    // Refused on the spot until librdkafka has looked at the topic again.
    const bool taken = publisher.collect_until([&] {
        const auto failure = publisher.producer.publish(topic_t, row_of("x"), slot(2));
        if (failure) CHECK(failure->kind == FailureKind::topic);
        return !failure;
    });
    REQUIRE(taken);
    REQUIRE(publisher.collect_reports(1));
    CHECK(publisher.reports.delivered == std::vector{slot(2)});
}

TEST_CASE("what librdkafka can retry is delivered in the end, in order, and no failure is reported") {
    for (const auto error : {RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION, RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS,
                             RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT, RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE}) {
        CAPTURE(std::string(rd_kafka_err2name(error)));
        MockCluster cluster(3);
        cluster.create_topic("t", 1);
        // All in one request. Of several, the mock would write the second although it refused the first, which no
        // broker does (it looks at the sequence numbers); librdkafka relies on that, and takes the first for written as
        // well.
        Publisher publisher(
            cluster.settings({{"retry.backoff.ms", "20"}, {"linger.ms", "1000"}, {"batch.num.messages", "50"}}));
        cluster.answer_produce({error, error});
        for (std::size_t i = 0; i < 50; ++i)
            CHECK_FALSE(publisher.producer.publish(topic_t, row_of(std::to_string(i)), slot(i)));
        REQUIRE(publisher.collect_reports(50));
        CHECK(publisher.reports.failed.empty());
        std::string values;
        std::string wanted;
        for (const Record& record : cluster.consume("t", 50)) values += record.value.value_or("-") + " ";
        for (std::size_t i = 0; i < 50; ++i) wanted += std::to_string(i) + " ";
        CHECK(values == wanted);
    }
}

TEST_CASE("while all brokers are down nothing is reported, and when one is up again all is delivered") {
    MockCluster cluster;
    cluster.create_topic("t", 1);
    Publisher publisher(cluster.settings({{"reconnect.backoff.max.ms", "200"}}));
    CHECK_FALSE(publisher.producer.connected());
    REQUIRE(publisher.collect_until([&] { return publisher.producer.connected(); }));
    CHECK_FALSE(publisher.producer.publish(topic_t, row_of("before"), slot(0)));
    REQUIRE(publisher.collect_reports(1));

    cluster.take_down();
    REQUIRE(publisher.collect_until([&] { return !publisher.producer.connected(); }));
    for (std::size_t i = 1; i <= 20; ++i)
        CHECK_FALSE(publisher.producer.publish(topic_t, row_of(std::to_string(i)), slot(i)));
    CHECK_FALSE(publisher.collect_until([&] { return publisher.reports.delivered.size() > 1; }, 1500ms));
    CHECK(publisher.reports.failed.empty());
    CHECK(publisher.producer.queued() == 20);
    CHECK_FALSE(publisher.producer.connected());
    CHECK_FALSE(publisher.producer.fatal());
    // Not every version of librdkafka says it; connected() knows in any case.
    CHECK(publisher.reports.all_brokers_down == publisher.saw_notice("_ALL_BROKERS_DOWN"));
    CHECK_FALSE(publisher.reports.cluster_failure);
    CHECK(publisher.producer.trouble().find("127.0.0.1") != std::string::npos);

    cluster.bring_up();
    REQUIRE(publisher.collect_reports(21));
    CHECK(publisher.reports.failed.empty());
    CHECK(publisher.producer.connected());
    CHECK(publisher.producer.trouble().empty());
    publisher.reports.clear();
    CHECK_FALSE(publisher.reports.all_brokers_down);
    const std::vector<Record> records = cluster.consume("t", 21);
    REQUIRE(records.size() == 21);
    for (std::size_t i = 1; i <= 20; ++i) CHECK(records[i].value == std::to_string(i));
}

TEST_CASE("a purge reports every row that was not acknowledged as failed in doubt") {
    MockCluster cluster;
    cluster.create_topic("t", 1);
    // One batch a request, so that some rows are on their way and some still wait.
    Publisher publisher(cluster.settings({{"linger.ms", "0"}, {"batch.num.messages", "10"}}));
    REQUIRE(publisher.collect_until([&] { return publisher.producer.connected(); }));
    CHECK_FALSE(publisher.producer.publish(topic_t, row_of("x"), slot(0)));
    REQUIRE(publisher.collect_reports(1));
    publisher.reports.clear();
    cluster.delay_answers(3s);
    for (std::size_t i = 1; i <= 200; ++i) CHECK_FALSE(publisher.producer.publish(topic_t, row_of("x"), slot(i)));
    CHECK_FALSE(publisher.collect_until([&] { return !publisher.reports.delivered.empty(); }, 200ms));
    publisher.producer.purge();
    REQUIRE(publisher.collect_reports(200));
    CHECK(publisher.reports.delivered.empty());
    CHECK(publisher.producer.queued() == 0);
    std::vector<Slot> failed;
    for (const FailedRow& row : publisher.reports.failed) {
        failed.push_back(row.slot);
        CHECK(row.failure.kind == FailureKind::in_doubt);
        CHECK_FALSE(row.refused_locally);
    }
    std::sort(failed.begin(), failed.end());
    REQUIRE(failed.size() == 200);
    for (std::size_t i = 0; i < 200; ++i) CHECK(failed[i] == slot(i + 1));
}

TEST_CASE("a gap in the sequence turns the producer fatal, every row is reported and a new producer works") {
    MockCluster cluster;
    cluster.create_topic("t", 1);
    {
        Publisher publisher(cluster.settings());
        cluster.answer_produce({RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER});
        CHECK_FALSE(publisher.producer.fatal());
        for (std::size_t i = 0; i < 10; ++i) CHECK_FALSE(publisher.producer.publish(topic_t, row_of("x"), slot(i)));
        REQUIRE(publisher.collect_until([&] { return publisher.producer.fatal(); }));
        publisher.producer.purge();
        REQUIRE(publisher.collect_reports(10));
        CHECK(publisher.reports.delivered.empty());
        CHECK(publisher.reports.failed.size() == 10);
        CHECK(publisher.saw_notice("OUT_OF_ORDER_SEQUENCE_NUMBER"));
        const auto failure = publisher.producer.publish(topic_t, row_of("x"), slot(10));
        REQUIRE(failure);
        CHECK(failure->kind == FailureKind::fatal);
    }
    Publisher successor(cluster.settings());
    CHECK_FALSE(successor.producer.publish(topic_t, row_of("y"), slot(0)));
    REQUIRE(successor.collect_reports(1));
    CHECK(successor.reports.delivered == std::vector{slot(0)});
}

TEST_CASE("what has been sent is still acknowledged after only the unsent was purged") {
    MockCluster cluster;
    cluster.create_topic("t", 1);
    Publisher publisher(cluster.settings({{"linger.ms", "0"}, {"batch.num.messages", "10"}}));
    CHECK_FALSE(publisher.producer.publish(topic_t, row_of("x"), slot(0)));
    REQUIRE(publisher.collect_reports(1));
    publisher.reports.clear();
    cluster.delay_answers(500ms);
    for (std::size_t i = 1; i <= 200; ++i) CHECK_FALSE(publisher.producer.publish(topic_t, row_of("x"), slot(i)));
    CHECK_FALSE(publisher.collect_until([&] { return !publisher.reports.delivered.empty(); }, 200ms));
    publisher.producer.purge_unsent();
    REQUIRE(publisher.collect_reports(200));
    CHECK_FALSE(publisher.reports.delivered.empty());
    REQUIRE_FALSE(publisher.reports.failed.empty());
    for (const FailedRow& row : publisher.reports.failed) CHECK(row.failure.kind == FailureKind::in_doubt);
    // Nothing that was reported as failed is there: it was not sent.
    CHECK(cluster.consume("t", publisher.reports.delivered.size() + 1).size() ==
          publisher.reports.delivered.size() + 1);
}

TEST_CASE("a question about a topic's limits that nobody answers is answered with nothing known") {
    MockCluster cluster;  // knows no DescribeConfigs
    cluster.create_topic("t", 1);
    Publisher publisher(cluster.settings());
    std::vector<NamedTopic> asked;
    for (std::uint32_t i = 7; i < 257; ++i) asked.push_back({TopicIndex{i}, "t" + std::to_string(i)});
    publisher.producer.ask_limits(asked);  // several requests
    REQUIRE(publisher.collect_until([&] { return publisher.reports.limits.size() == asked.size(); }));
    std::set<TopicIndex> answered;
    for (const TopicLimits& limits : publisher.reports.limits) {
        CHECK_FALSE(limits.known);
        answered.insert(limits.topic);
    }
    CHECK(answered.size() == asked.size());
    publisher.producer.ask_limits(asked);  // and some that are still open when the producer goes
}

TEST_CASE("credentials are renewed where there is a login by name and password") {
    MockCluster cluster;
    Publisher publisher(cluster.settings());
    CHECK_FALSE(publisher.producer.renew_credentials(cluster.settings()));
    CHECK(publisher.producer.renew_credentials(
        cluster.settings({{"sasl.username", "relay"}, {"sasl.password", "secret"}})));
    KafkaSettings missing = cluster.settings({{"sasl.username", "relay"}});
    missing.files = {{"sasl.password", {"/nonexistent", "/nonexistent"}}};
    CHECK_FALSE(publisher.producer.renew_credentials(missing));
}

TEST_CASE("a producer is destroyed at once whatever is under way") {
    MockCluster cluster;
    cluster.create_topic("t", 1);
    cluster.take_down();
    const auto begin = Clock::now();
    {
        Publisher publisher(cluster.settings());
        for (std::size_t i = 0; i < 100; ++i) CHECK_FALSE(publisher.producer.publish(topic_t, row_of("x"), slot(i)));
    }
    CHECK(Clock::now() - begin < 3s);
}

TEST_CASE("a keyed row goes to the partition that Java producers choose") {
    // Hashes from Kafka's own test of Utils.murmur2; partition = (hash & 0x7fffffff) % partitions.
    const std::map<std::string, std::int32_t> hashes{{"21", -973932308},
                                                     {"foobar", -790332482},
                                                     {"a-little-bit-long-string", -985981536},
                                                     {"a-little-bit-longer-string", -1486304829},
                                                     {"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971},
                                                     {"abc", 479470107}};
    constexpr std::int32_t partitions = 12;
    MockCluster cluster;
    cluster.create_topic("t", partitions);
    Publisher publisher(cluster.settings());
    std::size_t rows = 0;
    for (const auto& [key, hash] : hashes)
        CHECK_FALSE(publisher.producer.publish(topic_t, row_of("x", key), slot(rows++)));
    REQUIRE(publisher.collect_reports(hashes.size()));
    const std::vector<Record> records = cluster.consume("t", hashes.size());
    REQUIRE(records.size() == hashes.size());
    for (const Record& record : records) {
        CAPTURE(*record.key);
        CHECK(record.partition == (hashes.at(*record.key) & 0x7fffffff) % partitions);
    }
}

// ---- first contact: a broker that knows nothing of the producer takes whichever request comes first. The mock brokers
// always do, and librdkafka then says that the one before it was delivered.

TEST_CASE("on first contact a row that was turned down for the moment is not overtaken by the next of its partition") {
    MockCluster cluster;
    cluster.create_topic("t", 2);
    Publisher publisher(cluster.settings({{"batch.num.messages", "1"}}));
    SUBCASE("whose topic librdkafka knows") {
        publisher.make_contact(row_of("elsewhere", "d"));  // "d" and "k" are of different partitions
    }
    SUBCASE("whose topic librdkafka does not know yet") {}
    cluster.delay_answers(100ms);
    cluster.answer_produce({RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS});
    for (std::size_t i = 0; i < 5; ++i)
        CHECK_FALSE(publisher.producer.publish(topic_t, row_of(std::to_string(i)), slot(i)));
    CHECK(publisher.producer.queued() == 5);
    REQUIRE(publisher.collect_reports(5));
    CHECK(publisher.reports.failed.empty());
    CHECK(publisher.producer.queued() == 0);

    std::vector<Record> records = cluster.consume("t", 5);
    std::erase_if(records, [](const Record& record) { return record.key == "d"; });
    REQUIRE(records.size() == 5);
    for (std::size_t i = 0; i < 5; ++i) CHECK(records[i].value == std::to_string(i));
}

TEST_CASE("what waits for first contact keeps its key, its tombstone and its headers") {
    MockCluster cluster;
    cluster.create_topic("t", 1);
    Publisher publisher(cluster.settings());
    CHECK_FALSE(publisher.producer.publish(topic_t, row_of("first"), slot(0)));
    {
        const std::string key(300, 'k');
        const std::string headers = R"({"trace": "a"})";
        RowContent tombstone = row_of("", key);
        tombstone.payload.reset();
        tombstone.headers = headers;
        CHECK_FALSE(publisher.producer.publish(topic_t, tombstone, slot(1)));
    }
    REQUIRE(publisher.collect_reports(2));
    const std::vector<Record> records = cluster.consume("t", 2);
    REQUIRE(records.size() == 2);
    CHECK(records[1].key == std::string(300, 'k'));
    CHECK_FALSE(records[1].value.has_value());
    REQUIRE(records[1].headers.size() == 3);
    CHECK(records[1].headers[0] == std::pair<std::string, std::string>("trace", "a"));
}

TEST_CASE("a partition that is not reached on first contact does not hold up the others") {
    constexpr std::int32_t partitions = 8;
    MockCluster cluster(2);
    cluster.create_topic("t", partitions);
    for (std::int32_t partition = 0; partition < partitions; ++partition)
        cluster.lead("t", partition, 1 + partition % 2);
    Publisher publisher(cluster.settings());
    publisher.make_contact(row_of("x", "d"));
    cluster.take_down(2);
    for (std::size_t i = 0; i < 100; ++i)
        CHECK_FALSE(publisher.producer.publish(topic_t, row_of("x", std::to_string(i)), slot(i)));
    CHECK(publisher.collect_reports(40));
    CHECK(publisher.reports.failed.empty());
    cluster.bring_up();
    CHECK(publisher.collect_reports(100));
    CHECK(publisher.reports.failed.empty());
}

TEST_CASE("when first contact fails for good, those that waited for it come back with its failure and were not sent") {
    MockCluster cluster;
    cluster.create_topic("t", 1);
    Publisher publisher(cluster.settings());
    cluster.answer_produce({RD_KAFKA_RESP_ERR_INVALID_RECORD});
    for (std::size_t i = 0; i < 3; ++i) CHECK_FALSE(publisher.producer.publish(topic_t, row_of("x"), slot(i)));
    REQUIRE(publisher.collect_reports(3));
    REQUIRE(publisher.reports.failed.size() == 3);
    for (std::size_t i = 0; i < 3; ++i) {
        CHECK(publisher.reports.failed[i].slot == slot(i));
        CHECK(publisher.reports.failed[i].failure.kind == FailureKind::row);
        CHECK_FALSE(publisher.reports.failed[i].refused_locally);
    }
    publisher.reports.clear();
    publisher.make_contact(row_of("next"));
    const std::vector<Record> records = cluster.consume("t", 1);
    REQUIRE(records.size() == 1);
    CHECK(records[0].value == "next");
}

TEST_CASE("what waits for first contact is purged like everything that was not sent") {
    for (const bool all : {false, true}) {
        CAPTURE(all);
        MockCluster cluster;
        cluster.create_topic("t", 1);
        cluster.take_down();
        Publisher publisher(cluster.settings());
        for (std::size_t i = 0; i < 3; ++i) CHECK_FALSE(publisher.producer.publish(topic_t, row_of("x"), slot(i)));
        if (all)
            publisher.producer.purge();
        else
            publisher.producer.purge_unsent();
        REQUIRE(publisher.collect_reports(3));
        CHECK(publisher.reports.delivered.empty());
        for (const FailedRow& row : publisher.reports.failed) CHECK(row.failure.kind == FailureKind::in_doubt);
        CHECK(publisher.producer.queued() == 0);
    }
}

// They do not wait, as nothing has to stay in order with them; but nor may one be lost.
TEST_CASE("a first row without a key that was turned down is not delivered because the second one was") {
    MockCluster cluster;
    cluster.create_topic("t", 1);
    cluster.create_topic("u", 1);
    Publisher publisher(cluster.settings({{"batch.num.messages", "1"}}));
    RowContent elsewhere = row_of("elsewhere");
    elsewhere.topic = "u";
    CHECK_FALSE(publisher.producer.publish(TopicIndex{1}, elsewhere, slot(9)));
    REQUIRE(publisher.collect_reports(1));  // connected, with a producer id

    cluster.delay_answers(500ms);
    cluster.answer_produce({RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS});
    RowContent first = row_of("first");
    first.key.reset();
    RowContent second = row_of("second");
    second.key.reset();
    CHECK_FALSE(publisher.producer.publish(topic_t, first, slot(0)));
    CHECK_FALSE(publisher.producer.publish(topic_t, second, slot(1)));
    REQUIRE(publisher.collect_reports(3));
    CHECK(publisher.reports.delivered == std::vector{slot(9), slot(1)});
    REQUIRE(publisher.reports.failed.size() == 1);
    CHECK(publisher.reports.failed[0].slot == slot(0));
    CHECK(publisher.reports.failed[0].failure.kind == FailureKind::in_doubt);

    const std::vector<Record> records = cluster.consume("t", 1);
    REQUIRE(records.size() == 1);  // librdkafka says delivered, and it is not there
    CHECK(records[0].value == "second");
}

TEST_CASE("rows without a key go where the operator's partitioner sends them") {
    constexpr std::int32_t partitions = 16;
    for (const std::string partitioner : {"murmur2", "consistent", "fnv1a", "murmur2_random"}) {
        CAPTURE(partitioner);
        MockCluster cluster;
        cluster.create_topic("t", partitions);
        Publisher publisher(cluster.settings({{"partitioner", partitioner}, {"sticky.partitioning.linger.ms", "1"}}));
        RowContent keyless = row_of("x");
        keyless.key.reset();
        CHECK_FALSE(publisher.producer.publish(topic_t, row_of("contact", ""), slot(50)));
        for (std::size_t i = 0; i < 50; ++i) {
            CHECK_FALSE(publisher.producer.publish(topic_t, keyless, slot(i)));
            REQUIRE(publisher.collect_reports(i + 2));
        }
        std::set<std::int32_t> seen;
        for (const Record& record : cluster.consume("t", 51))
            if (!record.key) seen.insert(record.partition);
        CHECK((seen.size() == 1) == (partitioner != "murmur2_random"));
    }
}

TEST_CASE("with one request at a time, one that was turned down is sent again before the next") {
    MockCluster cluster;
    cluster.create_topic("t", 1);
    Publisher publisher(cluster.settings({{"batch.num.messages", "1"}, {"max.in.flight", "1"}}));
    publisher.make_contact(row_of("contact"));
    cluster.delay_answers(100ms);
    cluster.answer_produce({RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS});
    CHECK_FALSE(publisher.producer.publish(topic_t, row_of("first"), slot(0)));
    CHECK_FALSE(publisher.producer.publish(topic_t, row_of("second"), slot(1)));
    REQUIRE(publisher.collect_reports(2));
    CHECK(publisher.reports.delivered == std::vector{slot(0), slot(1)});

    const std::vector<Record> records = cluster.consume("t", 3);
    REQUIRE(records.size() == 3);
    CHECK(records[1].value == "first");
    CHECK(records[2].value == "second");
}

TEST_CASE("that librdkafka began a new epoch is told once") {
    MockCluster cluster;
    cluster.create_topic("t", 1);
    Publisher publisher(cluster.settings({{"batch.num.messages", "1"}}));
    CHECK_FALSE(publisher.producer.publish(topic_t, row_of("before"), slot(0)));
    REQUIRE(publisher.collect_reports(1));
    // Its first epoch is told by statistics that come when nothing is under way.
    CHECK_FALSE(publisher.collect_until([&] { return publisher.reports.epoch_bumped; }, 1200ms));

    cluster.delay_answers(100ms);
    cluster.answer_produce({RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS, RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER});
    CHECK_FALSE(publisher.producer.publish(topic_t, row_of("first"), slot(1)));
    CHECK_FALSE(publisher.producer.publish(topic_t, row_of("second"), slot(2)));
    REQUIRE(publisher.collect_until([&] { return publisher.reports.epoch_bumped; }));
    REQUIRE(publisher.collect_reports(3));
    CHECK(publisher.reports.delivered == std::vector{slot(0), slot(1), slot(2)});
    publisher.reports.clear();
    CHECK_FALSE(publisher.collect_until([&] { return publisher.reports.epoch_bumped; }, 1200ms));
}

}  // namespace outbox
