// Watches one worker's events pass, and turns them into metrics and log lines: the worker itself neither counts nor
// words anything that is an event of the relay. Owned by the worker; its thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <span>
#include <string>
#include <vector>

#include "app/transitions.hpp"
#include "core/relay.hpp"
#include "kafka/producer.hpp"
#include "postgres/session.hpp"
#include "telemetry/worker_metrics.hpp"

namespace outbox {

class WorkerObserver {
public:
    WorkerObserver(std::size_t worker, WorkerMetrics& metrics)
        : worker_(worker), metrics_(metrics), transitions_(worker, metrics) {}

    // Before the relay takes the event: it tells what was, as well.
    void answered(const Answer& answer, const Relay& relay, Instant now);
    void delivered(std::span<const Slot> slots, const Relay& relay, Instant now);
    void failed(std::span<const FailedRow> rows);
    void burying(const BuryRow& burial);
    void session_lost();
    void noticed(const std::vector<ProducerNotice>& notices) const;
    void stands(const Relay& relay, Instant now);

private:
    // A burial that was sent and not answered yet.
    struct Burial {
        RowId id;
        std::string code;
        std::string reason;
        bool block_key = false;
        bool isolated = false;
    };

    void buried(double took);
    void refused(const Answer& answer);
    void name_topics(const Topics& topics);

    const std::size_t worker_;
    WorkerMetrics& metrics_;
    Transitions transitions_;
    std::size_t topics_named_ = 0;
    bool refusing_ = false;  // the database refuses deletes: said once
    std::deque<Burial> burials_;
    std::vector<DeliveredRow> delivered_rows_;
    // Database clock minus our boot clock, so that a row's age is computed on one clock.
    std::int64_t database_clock_offset_us_ = 0;
};

}  // namespace outbox
