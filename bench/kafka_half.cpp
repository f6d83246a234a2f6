#include <poll.h>

#include <iostream>
#include <string>
#include <vector>

#include "app/boot_clock.hpp"
#include "app/wakeups.hpp"
#include "kafka/producer.hpp"
#include "probe.hpp"

namespace outbox::bench {

int kafka_half(const Options& options) {
    const RelaySettings settings;
    Producer producer({{{"bootstrap.servers", options.bootstrap}, {"compression.type", options.compression}}, {}},
                      settings);
    Wakeups wakeups;
    ProducerReports reports;
    const std::vector<std::string> contents = payloads(options.payload_bytes);
    std::vector<std::string> keys;
    keys.reserve(10'000);
    for (int i = 0; i < 10'000; ++i) keys.push_back("key-" + std::to_string(i));
    RowContent row{
        .topic = options.topic, .key = {}, .payload = {}, .headers = "{}", .event_id = {}, .created_at_us = 0};

    while (!producer.connected()) {
        wakeups.sleep({}, {producer.descriptor(), POLLIN}, std::chrono::milliseconds(100));
        producer.collect(reports, boot_now());
    }
    const double cpu_before = cpu_seconds();
    const Instant begin = boot_now();
    std::uint64_t sent = 0;
    std::uint64_t delivered = 0;
    while (delivered < options.rows) {
        // Batches as the relay reads them, so that acknowledgements are collected as often as it does.
        for (std::uint32_t i = 0;
             i < settings.batch_rows && sent < options.rows && sent - delivered < settings.in_flight_rows; ++i) {
            row.key = keys[sent % keys.size()];
            row.payload = contents[sent % contents.size()];
            if (producer.publish(TopicIndex{}, row, Slot{static_cast<std::uint32_t>(sent % 1'000'000)})) break;
            ++sent;
        }
        reports.clear();
        producer.collect(reports, boot_now());
        delivered += reports.delivered.size();
        if (!reports.failed.empty()) return 1;
        if (sent - delivered >= settings.in_flight_rows || sent == options.rows)
            wakeups.sleep({}, {producer.descriptor(), POLLIN}, std::chrono::milliseconds(100));
    }
    const double seconds = std::chrono::duration<double>(boot_now() - begin).count();
    std::cout << R"({"rows_per_second": )" << static_cast<double>(options.rows) / seconds << R"(, "cpu_seconds": )"
              << cpu_seconds() - cpu_before << "}\n";
    return 0;
}

}  // namespace outbox::bench
