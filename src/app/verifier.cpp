#include "app/verifier.hpp"

#include <random>
#include <utility>

#include "app/boot_clock.hpp"
#include "kafka/consumer.hpp"

namespace outbox {

namespace {

using namespace std::chrono_literals;

constexpr std::chrono::milliseconds kafka_patience = 10s;
constexpr std::chrono::milliseconds poll_time = 20ms;
constexpr Duration aftermath = 1s;                // after the last one came: duplicates and phantoms may follow
constexpr std::size_t outstanding_max = 500'000;  // the writers wait then: a bound for our memory

void take_outcomes(MarkedLoad& load, Verification& verification) {
    for (const auto& [event, fate, at] : load.take()) {
        switch (fate) {
            case Fate::committed:
                verification.committed(event, at);
                break;
            case Fate::rolled_back:
                verification.rolled_back(event);
                break;
            case Fate::in_doubt:
                verification.in_doubt(event);
                break;
        }
    }
}

void take_record(const ConsumedRecord& record, const LoadSettings& settings, Instant at, Verification& verification) {
    if (record.header(run_header) != settings.run) return;  // other traffic, or another run
    const auto event = read_mark(settings.run, record.key, record.payload, settings.payload_bytes);
    if (event)
        verification.seen(*event, at);
    else
        verification.seen_altered();
}

}  // namespace

std::string draw_run_id() {
    std::random_device random;
    std::string id;
    for (int digit = 0; digit < 16; ++digit) id += "0123456789abcdef"[random() & 15U];
    return id;
}

VerifierResult verify_delivery(const PostgresSettings& postgres, const KafkaSettings& kafka,
                               const LoadSettings& settings, std::chrono::milliseconds patience) {
    Consumer consumer(kafka, settings.topic, kafka_patience);  // its ends are known before the first event is written
    Verification verification(settings.keys);
    const Instant begin = boot_now();
    MarkedLoad load(postgres, settings);

    ConsumedRecord record;
    std::uint64_t delivered = 0;
    Instant written_at = begin;
    Instant progress_at = begin;
    for (bool writing = true;;) {
        const bool came = consumer.next(record, poll_time);
        const Instant now = boot_now();
        // In this order: a record is looked at with all that its writer had said by then, and a writer that has
        // finished has said all it had to say.
        const bool finished = load.finished();
        take_outcomes(load, verification);
        if (came) take_record(record, settings, now, verification);
        load.hold(verification.outstanding() >= outstanding_max);

        if (writing) written_at = now;
        if (writing || verification.so_far().delivered != delivered) progress_at = now;
        delivered = verification.so_far().delivered;
        writing = !finished;
        if (writing) continue;
        const Duration quiet = now - progress_at;
        if (quiet >= (verification.outstanding() == 0 ? aftermath : Duration(patience))) break;
    }
    return {verification.finish(), std::chrono::duration<double>(written_at - begin).count()};
}

}  // namespace outbox
