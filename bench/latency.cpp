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

constexpr std::uint64_t warm_up_rows = 200;

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

std::string insert_statement(const Options& options) {
    return "INSERT INTO outbox.message (topic, key, payload) VALUES ('" + options.topic +
           "', 'key-' || ($1::text::int8 % 10000), convert_to(rpad($1::text, " + std::to_string(options.payload_bytes) +
           ", ' '), 'UTF8'))";
}

void print_percentiles(std::vector<double> milliseconds) {
    std::sort(milliseconds.begin(), milliseconds.end());
    const auto at = [&](double part) {
        return milliseconds[std::min(milliseconds.size() - 1,
                                     static_cast<std::size_t>(part * static_cast<double>(milliseconds.size())))];
    };
    std::cout << R"({"rows": )" << milliseconds.size() << R"(, "p50_ms": )" << at(0.5) << R"(, "p90_ms": )" << at(0.9)
              << R"(, "p99_ms": )" << at(0.99) << R"(, "p999_ms": )" << at(0.999) << R"(, "max_ms": )"
              << milliseconds.back() << "}\n";
}

}  // namespace

int latency(const Options& options) {
    Consumer consumer(options);
    // When each row's COMMIT returned; written by the writer before the reader can need it, 0 until then.
    std::vector<std::atomic<Instant::rep>> committed(options.rows);
    std::jthread writer([&](const std::stop_token& stop) {
        Client client({options.dsn, std::nullopt}, "bench", Role::app);
        const std::string statement = insert_statement(options);
        // A topic's first records wait for metadata and a connection; that is not what is measured here. Rows numbered
        // past the end warm everything up, and are passed over by the reader.
        for (std::uint64_t i = 0; i < warm_up_rows; ++i) client.execute(statement, {std::to_string(options.rows + i)});
        std::this_thread::sleep_for(std::chrono::seconds(2));
        const Instant begin = boot_now();
        for (std::uint64_t i = 0; i < options.rows && !stop.stop_requested(); ++i) {
            const Instant due = begin + std::chrono::nanoseconds(1'000'000'000 * i / options.rows_per_second);
            const Instant now = boot_now();
            if (due > now) std::this_thread::sleep_for(due - now);
            client.execute(statement, {std::to_string(i)});
            committed[i].store(boot_now().time_since_epoch().count(), std::memory_order_release);
        }
    });

    std::vector<double> milliseconds;
    const Instant deadline = boot_now() + std::chrono::seconds(60 + options.rows / options.rows_per_second);
    while (milliseconds.size() < options.rows) {
        if (boot_now() > deadline) throw std::runtime_error("rows are missing after a minute");
        const Message message = consumer.poll(100);
        if (!message || message->err != RD_KAFKA_RESP_ERR_NO_ERROR) continue;
        const Instant::rep received = boot_now().time_since_epoch().count();
        const auto row = std::stoull(std::string(static_cast<const char*>(message->payload), message->len));
        if (row >= options.rows) continue;
        Instant::rep at = 0;
        while ((at = committed[row].load(std::memory_order_acquire)) == 0)
            std::this_thread::yield();  // it overtook COMMIT's answer
        milliseconds.push_back(static_cast<double>(std::max<Instant::rep>(received - at, 0)) * 1e-6);
    }
    print_percentiles(std::move(milliseconds));
    return 0;
}

}  // namespace outbox::bench
