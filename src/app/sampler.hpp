// Looks at the outbox from outside, every few seconds and at a bounded cost: backlog, oldest row, dead letters, lanes
// nobody owns. On a connection and a thread of its own, so that a slow answer never delays a row.
// start(), stop() and the destructor: the owner's thread. sample(): any thread, also before and after.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <thread>

#include "app/published.hpp"
#include "app/wakeups.hpp"
#include "core/row.hpp"
#include "postgres/client.hpp"
#include "postgres/outbox_status.hpp"
#include "postgres/settings.hpp"
#include "telemetry/metrics.hpp"

namespace outbox {

class Sampler {
public:
    // `floor` tells below which id nothing waits, as far as this process can know.
    // `leases`: lanes that nobody leases are missed by somebody.
    Sampler(PostgresSettings postgres, Metrics& metrics, bool leases, std::function<RowId()> floor);
    ~Sampler();  // returns when its thread has ended
    Sampler(const Sampler&) = delete;
    Sampler& operator=(const Sampler&) = delete;

    void start();
    void stop();

    struct Sample {
        OutboxNumbers outbox;
        double taken_at = 0;  // unix seconds
    };
    std::shared_ptr<const Sample> sample() const { return sample_.get(); }  // null before the first

private:
    void run(const std::stop_token& stop);
    void take_sample();

    const PostgresSettings postgres_;
    const bool leases_;
    const std::function<RowId()> floor_;
    Metrics& metrics_;

    std::unique_ptr<Client> client_;  // the sampler's thread only
    Published<Sample> sample_;

    Wakeups wakeups_;
    std::jthread thread_;  // last: joined before the members it uses are destroyed
};

}  // namespace outbox
