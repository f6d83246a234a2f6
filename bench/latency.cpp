#include <librdkafka/rdkafka.h>

#include <algorithm>
#include <atomic>
#include <iostream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "app/boot_clock.hpp"
#include "core/owned.hpp"
#include "postgres/client.hpp"
#include "probe.hpp"

namespace outbox::bench {

namespace {

using Kafka = std::unique_ptr<rd_kafka_t, FreeWith<rd_kafka_destroy>>;
using Message = std::unique_ptr<rd_kafka_message_t, FreeWith<rd_kafka_message_destroy>>;

// At the measured rate, before anything is measured: a topic's first records wait for metadata and a connection, and a
// relay that had nothing to do looks less often. Rows numbered past the end, which the reader passes over.
constexpr std::uint64_t warm_up_seconds = 3;
std::uint64_t warm_up_rows(const Options& options) {
    const std::uint64_t each = options.rows_per_transaction;
    return warm_up_seconds * options.rows_per_second / each * each;
}

// A plain consumer of the whole topic, from its end.
class Consumer {
public:
    explicit Consumer(const Options& options) {
        rd_kafka_conf_t* conf = rd_kafka_conf_new();
        const auto set = [&](const char* name, const std::string& value) {
            rd_kafka_conf_set(conf, name, value.c_str(), nullptr, 0);
        };
        set("bootstrap.servers", options.bootstrap);
        set("group.id", "bench");
        set("fetch.wait.max.ms", "10");
        set("socket.nagle.disable", "true");
        set("auto.offset.reset", "latest");
        kafka_.reset(rd_kafka_new(RD_KAFKA_CONSUMER, conf, nullptr, 0));
        if (!kafka_) throw std::runtime_error("cannot create the consumer");
        rd_kafka_poll_set_consumer(kafka_.get());
        const rd_kafka_metadata_t* metadata = nullptr;
        rd_kafka_topic_t* topic = rd_kafka_topic_new(kafka_.get(), options.topic.c_str(), nullptr);
        if (rd_kafka_metadata(kafka_.get(), 0, topic, &metadata, 10'000) != RD_KAFKA_RESP_ERR_NO_ERROR)
            throw std::runtime_error("no metadata");
        rd_kafka_topic_partition_list_t* partitions = rd_kafka_topic_partition_list_new(16);
        for (int i = 0; i < metadata->topics[0].partition_cnt; ++i)
            rd_kafka_topic_partition_list_add(partitions, options.topic.c_str(), i)->offset = RD_KAFKA_OFFSET_END;
        rd_kafka_assign(kafka_.get(), partitions);
        rd_kafka_topic_partition_list_destroy(partitions);
        rd_kafka_metadata_destroy(metadata);
        rd_kafka_topic_destroy(topic);
    }
    ~Consumer() { rd_kafka_consumer_close(kafka_.get()); }
    Consumer(const Consumer&) = delete;
    Consumer& operator=(const Consumer&) = delete;

    Message poll(int milliseconds) { return Message(rd_kafka_consumer_poll(kafka_.get(), milliseconds)); }

private:
    Kafka kafka_;
};

// Rows of one transaction: $2 of them, numbered from $1 on.
std::string insert_statement(const Options& options) {
    if (!options.insert.empty()) return options.insert;
    return "INSERT INTO outbox.message (topic, key, payload) SELECT '" + options.topic +
           "', 'key-' || (n % 10000), convert_to(rpad(n::text, " + std::to_string(options.payload_bytes) +
           ", ' '), 'UTF8') FROM generate_series($1::text::int8, $1::text::int8 + $2::text::int8 - 1) AS n";
}

// The first number in the payload, which may stand in JSON.
std::uint64_t row_number(const rd_kafka_message_t& message) {
    const std::string payload(static_cast<const char*>(message.payload), message.len);
    return std::stoull(payload.substr(std::min(payload.size(), payload.find_first_of("0123456789"))));
}

// Sessions that insert in turn, each transaction at its time.
class Writers {
public:
    explicit Writers(const Options& options) : committed_(options.rows) {
        for (std::uint32_t i = 0; i < options.writers; ++i) results_.emplace_back();
        for (std::uint32_t i = 0; i < options.writers; ++i)
            threads_.emplace_back([this, options, i](const std::stop_token& stop) { write(options, i, stop); });
    }

    // When the row's COMMIT returned; waits, as a record may overtake COMMIT's answer.
    Instant::rep committed(std::uint64_t row) const {
        Instant::rep at = 0;
        while ((at = committed_[row].load(std::memory_order_acquire)) == 0) std::this_thread::yield();
        return at;
    }

    // What the writers saw, when all of them are through.
    std::string report(const Options& options) {
        for (std::jthread& thread : threads_) thread.join();
        std::vector<double> all;
        Instant end{};
        for (const Result& result : results_) {
            all.insert(all.end(), result.milliseconds.begin(), result.milliseconds.end());
            end = std::max(end, result.end);
        }
        const double seconds = std::chrono::duration<double>(end - due(options, warm_up_rows(options))).count();
        return R"("inserted_per_second": )" + std::to_string(static_cast<double>(options.rows) / seconds) +
               R"(, "insert": {)" + percentiles(std::move(all)) + "}";
    }

private:
    struct Result {
        std::vector<double> milliseconds;
        Instant end{};
    };

    void write(const Options& options, std::uint32_t writer, const std::stop_token& stop) {
        Client client({options.dsn, std::nullopt}, "bench", Role::app);
        const std::string statement = insert_statement(options);
        Instant unset{};
        begin_.compare_exchange_strong(unset, boot_now());
        const std::uint64_t each = options.rows_per_transaction;
        const std::uint64_t warm_up = warm_up_rows(options);
        const std::uint64_t all = warm_up + options.rows;
        Result& result = results_[writer];
        for (std::uint64_t i = writer * each; i < all && !stop.stop_requested(); i += options.writers * each) {
            std::this_thread::sleep_for(due(options, i) - boot_now());
            const Instant asked = boot_now();
            const std::uint64_t count = std::min(each, all - i);
            const std::uint64_t first = i < warm_up ? options.rows + i : i - warm_up;
            client.execute(statement, {std::to_string(first), std::to_string(count)});
            if (i < warm_up) continue;
            result.end = boot_now();
            result.milliseconds.push_back(std::chrono::duration<double, std::milli>(result.end - asked).count());
            for (std::uint64_t row = first; row < first + count; ++row)
                committed_[row].store(result.end.time_since_epoch().count(), std::memory_order_release);
        }
    }

    Instant due(const Options& options, std::uint64_t row) const {
        return begin_.load() + std::chrono::nanoseconds(1'000'000'000 * row / options.rows_per_second);
    }

    std::vector<std::atomic<Instant::rep>> committed_;
    std::atomic<Instant> begin_{Instant{}};
    std::vector<Result> results_;
    std::vector<std::jthread> threads_;
};

}  // namespace

int insert_latency(const Options& options) {
    Writers writers(options);
    std::cout << "{" << writers.report(options) << "}\n";
    return 0;
}

int latency(const Options& options) {
    Consumer consumer(options);
    Writers writers(options);
    std::vector<double> milliseconds;
    const Instant deadline = boot_now() + std::chrono::seconds(60 + options.rows / options.rows_per_second);
    while (milliseconds.size() < options.rows) {
        if (boot_now() > deadline) throw std::runtime_error("rows are missing after a minute");
        const Message message = consumer.poll(100);
        if (!message || message->err != RD_KAFKA_RESP_ERR_NO_ERROR) continue;
        const Instant::rep received = boot_now().time_since_epoch().count();
        const std::uint64_t row = row_number(*message);
        if (row >= options.rows) continue;
        const Instant::rep waited = std::max<Instant::rep>(received - writers.committed(row), 0);
        milliseconds.push_back(static_cast<double>(waited) * 1e-6);
    }
    const std::string written = writers.report(options);
    std::cout << R"({"rows": )" << options.rows << ", " << percentiles(std::move(milliseconds)) << ", " << written
              << "}\n";
    return 0;
}

}  // namespace outbox::bench
