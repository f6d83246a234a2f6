#include "telemetry/metrics.hpp"

#include <doctest/doctest.h>

#include <array>
#include <atomic>
#include <string>
#include <thread>
#include <vector>

using namespace outbox;

namespace {

const ProcessFacts facts{"0.1.0", "2.0.2", "15.0", 7, 1'795'000'000};
constexpr TopicIndex orders{0};
constexpr TopicIndex refunds{1};

bool has(const std::string& scrape, const std::string& line) {
    return ("\n" + scrape).find("\n" + line + "\n") != std::string::npos;
}

double value_of(const std::string& scrape, const std::string& series) {
    const auto at = ("\n" + scrape).find("\n" + series + " ");
    REQUIRE_MESSAGE(at != std::string::npos, series);
    return std::stod(scrape.substr(at + series.size()));
}

}  // namespace

TEST_CASE("a fresh process exports closed label sets at zero") {
    const Metrics metrics(facts, 1);
    const std::string scrape = metrics.scrape(0);
    for (const char* reason : {"back_pressure", "row", "topic", "cluster", "in_doubt", "fatal"}) {
        CHECK(has(scrape, std::string("outbox_delivery_errors_total{reason=\"") + reason + "\"} 0"));
    }
    for (const char* op : {"read", "delete", "bury", "probe", "renew", "acquire", "release"}) {
        CHECK(has(scrape, std::string("outbox_db_operation_duration_seconds_count{op=\"") + op + "\"} 0"));
    }
    for (const char* circuit : {"cluster", "topic"}) {
        for (const char* to : {"closed", "half_open", "open"}) {
            CHECK(has(scrape, std::string("outbox_circuit_transitions_total{circuit=\"") + circuit + "\",to=\"" + to +
                                  "\"} 0"));
        }
    }
    CHECK(has(scrape, R"(outbox_build_info{libpq="15.0",librdkafka="2.0.2",version="0.1.0"} 1)"));
    CHECK(has(scrape, "outbox_schema_version_expected 7"));
    CHECK(has(scrape, "outbox_postgres_connected 0"));
    CHECK(value_of(scrape, "process_start_time_seconds") == 1'795'000'000);
}

TEST_CASE("deliveries are counted by topic, over workers that number their topics differently") {
    Metrics metrics(facts, 2);
    metrics.worker(0).topic_named(orders, "orders");
    metrics.worker(0).topic_named(refunds, "refunds");
    metrics.worker(1).topic_named(TopicIndex{0}, "refunds");
    const std::array first{DeliveredRow{orders, 100, 0.002, 0.001}, DeliveredRow{refunds, 30, 0.002, 0.001},
                           DeliveredRow{orders, 200, 0.002, 0.001}};
    const std::array second{DeliveredRow{TopicIndex{0}, 5, 10.0, 0.001}};
    metrics.worker(0).delivered({first, 1000});
    metrics.worker(1).delivered({second, 900});
    metrics.worker(0).delivered({first, 1001.5});
    const std::string scrape = metrics.scrape(2000);
    CHECK(has(scrape, R"(outbox_messages_delivered_total{topic="orders"} 4)"));
    CHECK(has(scrape, R"(outbox_messages_delivered_total{topic="refunds"} 3)"));
    CHECK(has(scrape, R"(outbox_delivered_bytes_total{topic="orders"} 600)"));
    CHECK(has(scrape, R"(outbox_delivered_bytes_total{topic="refunds"} 65)"));
    CHECK(value_of(scrape, "outbox_last_delivery_timestamp_seconds") == 1001.5);
}

TEST_CASE("a latency equal to a bound belongs to its bucket, and one below zero counts as zero") {
    Metrics metrics(facts, 1);
    metrics.worker(0).topic_named(orders, "orders");
    const std::array rows{DeliveredRow{orders, 1, 10.0, -1.0}, DeliveredRow{orders, 1, 10.5, 0.25},
                          DeliveredRow{orders, 1, 5000.0, 0.25}};
    metrics.worker(0).delivered({rows, 1});
    const std::string scrape = metrics.scrape(2);
    CHECK(has(scrape, R"(outbox_delivery_latency_seconds_bucket{le="5"} 0)"));
    CHECK(has(scrape, R"(outbox_delivery_latency_seconds_bucket{le="10"} 1)"));
    CHECK(has(scrape, R"(outbox_delivery_latency_seconds_bucket{le="30"} 2)"));
    CHECK(has(scrape, R"(outbox_delivery_latency_seconds_bucket{le="1800"} 2)"));
    CHECK(has(scrape, R"(outbox_delivery_latency_seconds_bucket{le="+Inf"} 3)"));
    CHECK(has(scrape, "outbox_delivery_latency_seconds_sum 5020.5"));
    CHECK(has(scrape, "outbox_acknowledgement_seconds_sum 0.5"));
}

TEST_CASE("gauges are added up over the workers, the lag is the largest") {
    Metrics metrics(facts, 2);
    metrics.worker(0).standing({10, 1000, 33, 1, 7});
    metrics.worker(1).standing({5, 500, 31, 2, 90});
    const std::string scrape = metrics.scrape(0);
    CHECK(has(scrape, "outbox_in_flight_rows 15"));
    CHECK(has(scrape, "outbox_in_flight_bytes 1500"));
    CHECK(has(scrape, "outbox_lanes_owned 64"));
    CHECK(has(scrape, "outbox_parked_topics 3"));
    CHECK(has(scrape, "outbox_low_mark_lag_ids 90"));
}

TEST_CASE("the cluster's circuit is shown where it is worst, limits and open topics are added up") {
    Metrics metrics(facts, 2);
    metrics.worker(0).standing({.cluster_circuit = Circuit::State::half_open,
                                .open_topic_circuits = 1,
                                .recovery_rows_per_second = 2000,
                                .in_flight_limit_rows = 1250});
    metrics.worker(1).standing({.open_topic_circuits = 2, .in_flight_limit_rows = 20'000});
    CHECK(has(metrics.scrape(0), "outbox_cluster_circuit 1"));
    CHECK(has(metrics.scrape(0), "outbox_open_topic_circuits 3"));
    CHECK(has(metrics.scrape(0), "outbox_recovery_rows_per_second 2000"));
    CHECK(has(metrics.scrape(0), "outbox_in_flight_limit_rows 21250"));
    metrics.worker(1).standing({.cluster_circuit = Circuit::State::open});
    CHECK(has(metrics.scrape(0), "outbox_cluster_circuit 2"));
}

TEST_CASE("each move of a circuit counts for its kind and for the state it goes to") {
    Metrics metrics(facts, 2);
    metrics.worker(0).circuit_moved(CircuitKind::cluster, Circuit::State::open);
    metrics.worker(1).circuit_moved(CircuitKind::cluster, Circuit::State::open);
    metrics.worker(1).circuit_moved(CircuitKind::cluster, Circuit::State::half_open);
    metrics.worker(0).circuit_moved(CircuitKind::topic, Circuit::State::closed);
    const std::string scrape = metrics.scrape(0);
    CHECK(has(scrape, R"(outbox_circuit_transitions_total{circuit="cluster",to="open"} 2)"));
    CHECK(has(scrape, R"(outbox_circuit_transitions_total{circuit="cluster",to="half_open"} 1)"));
    CHECK(has(scrape, R"(outbox_circuit_transitions_total{circuit="cluster",to="closed"} 0)"));
    CHECK(has(scrape, R"(outbox_circuit_transitions_total{circuit="topic",to="closed"} 1)"));
    CHECK(has(scrape, R"(outbox_circuit_transitions_total{circuit="topic",to="open"} 0)"));
}

TEST_CASE("the process is connected when all of its workers are") {
    Metrics metrics(facts, 2);
    metrics.worker(0).session(true);
    metrics.worker(0).producer(true);
    CHECK(has(metrics.scrape(0), "outbox_postgres_connected 0"));
    CHECK(has(metrics.scrape(0), "outbox_kafka_connected 0"));
    metrics.worker(1).session(true);
    metrics.worker(1).producer(true);
    CHECK(has(metrics.scrape(0), "outbox_postgres_connected 1"));
    CHECK(has(metrics.scrape(0), "outbox_kafka_connected 1"));
}

TEST_CASE("the first session is no reconnect, every later one is") {
    Metrics metrics(facts, 1);
    WorkerMetrics& worker = metrics.worker(0);
    worker.session(false);
    worker.session(true);
    worker.session(true);
    CHECK(has(metrics.scrape(0), "outbox_postgres_reconnects_total 0"));
    worker.session(false);
    worker.session(true);
    CHECK(has(metrics.scrape(0), "outbox_postgres_reconnects_total 1"));
}

TEST_CASE("rows, errors, statements and replacements are counted") {
    Metrics metrics(facts, 1);
    WorkerMetrics& worker = metrics.worker(0);
    worker.rows_read(1000, 0.004);
    worker.rows_deleted(900, 0.003);
    worker.database_operation(DatabaseOperation::probe, 0.0001);
    worker.failed(FailureKind::in_doubt, 12);
    worker.dead_letter("MSG_SIZE_TOO_LARGE");
    worker.dead_letter("MSG_SIZE_TOO_LARGE");
    worker.producer_replaced();
    worker.delete_retried();
    worker.isolated();
    worker.isolated();
    const std::string scrape = metrics.scrape(0);
    CHECK(has(scrape, "outbox_rows_read_total 1000"));
    CHECK(has(scrape, "outbox_rows_deleted_total 900"));
    CHECK(has(scrape, R"(outbox_db_operation_duration_seconds_count{op="read"} 1)"));
    CHECK(has(scrape, R"(outbox_db_operation_duration_seconds_count{op="delete"} 1)"));
    CHECK(has(scrape, R"(outbox_db_operation_duration_seconds_bucket{op="probe",le="0.0005"} 1)"));
    CHECK(has(scrape, R"(outbox_delivery_errors_total{reason="in_doubt"} 12)"));
    CHECK(has(scrape, R"(outbox_dead_letters_total{reason="MSG_SIZE_TOO_LARGE"} 2)"));
    CHECK(has(scrape, "outbox_producer_replacements_total 1"));
    CHECK(has(scrape, "outbox_delete_retries_total 1"));
    CHECK(has(scrape, "outbox_isolated_rows_total 2"));
}

TEST_CASE("the oldest row's age grows with the scrapes, also when sampling is stuck") {
    Metrics metrics(facts, 1);
    metrics.sampled({.taken_at = 500,
                     .backlog_rows = 3,
                     .backlog_estimated = true,
                     .oldest_pending_at = 400,
                     .dead_letter_rows = 2,
                     .lanes_uncovered = 4,
                     .schema_version = 7,
                     .blocked_keys = 5,
                     .paused = true,
                     .paused_topics = 6});
    const std::string scrape = metrics.scrape(500);
    CHECK(has(scrape, "outbox_backlog_rows 3"));
    CHECK(has(scrape, "outbox_backlog_estimated 1"));
    CHECK(has(scrape, "outbox_oldest_pending_timestamp_seconds 400"));
    CHECK(has(scrape, "outbox_backlog_sample_timestamp_seconds 500"));
    CHECK(has(scrape, "outbox_dead_letter_rows 2"));
    CHECK(has(scrape, "outbox_lanes_uncovered 4"));
    CHECK(has(scrape, "outbox_schema_version 7"));
    CHECK(has(scrape, "outbox_blocked_keys 5"));
    CHECK(has(scrape, "outbox_paused 1"));
    CHECK(has(scrape, "outbox_paused_topics 6"));
    CHECK(has(scrape, "outbox_oldest_pending_age_seconds 100"));
    CHECK(has(metrics.scrape(560), "outbox_oldest_pending_age_seconds 160"));
    CHECK(has(metrics.scrape(390), "outbox_oldest_pending_age_seconds 0"));
    metrics.sampled({.taken_at = 600});
    CHECK(has(metrics.scrape(900), "outbox_paused 0"));
    CHECK(has(metrics.scrape(900), "outbox_oldest_pending_age_seconds 0"));
}

TEST_CASE("topics and codes beyond the bound count as __other__") {
    Metrics metrics(facts, 1);
    WorkerMetrics& worker = metrics.worker(0);
    for (std::uint32_t index = 0; index < 250; ++index) {
        worker.topic_named(TopicIndex{index}, "topic-" + std::to_string(index));
        const std::array row{DeliveredRow{TopicIndex{index}, 1, 0, 0}};
        worker.delivered({row, 1});
        worker.dead_letter("CODE_" + std::to_string(index));
    }
    worker.topic_named(TopicIndex{0}, "topic-0");  // known already: no further value
    const std::string scrape = metrics.scrape(0);
    CHECK(has(scrape, R"(outbox_messages_delivered_total{topic="topic-199"} 1)"));
    CHECK(has(scrape, R"(outbox_messages_delivered_total{topic="__other__"} 50)"));
    CHECK(has(scrape, R"(outbox_delivered_bytes_total{topic="__other__"} 50)"));
    CHECK(has(scrape, R"(outbox_dead_letters_total{reason="CODE_49"} 1)"));
    CHECK(has(scrape, R"(outbox_dead_letters_total{reason="__other__"} 200)"));
}

TEST_CASE("process figures are those of this process") {
    const Metrics metrics(facts, 1);
    const std::string scrape = metrics.scrape(0);
    CHECK(value_of(scrape, "process_resident_memory_bytes") > 1'000'000);
    CHECK(value_of(scrape, "process_virtual_memory_bytes") > value_of(scrape, "process_resident_memory_bytes"));
    CHECK(value_of(scrape, "process_open_fds") >= 1);
    CHECK(value_of(scrape, "process_max_fds") >= value_of(scrape, "process_open_fds"));
    CHECK(value_of(scrape, "process_cpu_seconds_total") > 0);
}

TEST_CASE("scrapes during updates lose nothing") {
    constexpr int batches = 500;
    Metrics metrics(facts, 2);
    std::atomic<bool> done = false;
    std::vector<std::thread> scrapers;
    scrapers.reserve(2);
    for (int i = 0; i < 2; ++i) {
        scrapers.emplace_back([&] {
            double before = 0;
            while (!done) {
                const double now = value_of(metrics.scrape(1), "outbox_delivery_latency_seconds_count");
                if (now < before) FAIL_CHECK("a counter fell");
                before = now;
            }
        });
    }
    std::vector<std::thread> workers;
    workers.reserve(2);
    for (std::size_t index = 0; index < 2; ++index) {
        workers.emplace_back([&metrics, index] {
            WorkerMetrics& worker = metrics.worker(index);
            worker.topic_named(orders, "orders");
            const std::vector<DeliveredRow> rows(100, DeliveredRow{orders, 1, 0.01, 0.01});
            for (int batch = 0; batch < batches; ++batch) {
                worker.delivered({rows, 1});
                worker.standing({100, 100, 32, 0, 0});
                worker.session(batch % 2 == 0);
                metrics.sampled({.taken_at = 1});
            }
        });
    }
    for (auto& worker : workers) worker.join();
    done = true;
    for (auto& scraper : scrapers) scraper.join();
    const std::string scrape = metrics.scrape(1);
    CHECK(has(scrape, R"(outbox_messages_delivered_total{topic="orders"} 100000)"));
    CHECK(has(scrape, "outbox_delivery_latency_seconds_count 100000"));
}
