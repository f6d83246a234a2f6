#include "app/sampler.hpp"

#include <algorithm>
#include <utility>

#include "app/boot_clock.hpp"
#include "telemetry/log.hpp"

namespace outbox {

namespace {

using namespace std::chrono_literals;

constexpr Duration sample_every = 5s;
constexpr Duration busy_sample_every = 1s;       // while rows wait, somebody is looking
constexpr Duration first_samples_every = 500ms;  // until one has been taken

Duration pause_after(const std::shared_ptr<const Sampler::Sample>& sample) {
    if (!sample) return first_samples_every;
    return sample->outbox.backlog.rows > 0 ? busy_sample_every : sample_every;
}

}  // namespace

Sampler::Sampler(PostgresSettings postgres, Metrics& metrics, bool leases, std::function<RowId()> floor)
    : postgres_(std::move(postgres)), leases_(leases), floor_(std::move(floor)), metrics_(metrics) {}

Sampler::~Sampler() = default;

void Sampler::start() {
    thread_ = std::jthread([this](const std::stop_token& stop) {
        const std::stop_callback wake_on_stop(stop, [this] { wakeups_.interrupt(); });
        run(stop);
    });
}

void Sampler::stop() {
    thread_ = {};
}

void Sampler::run(const std::stop_token& stop) {
    while (!stop.stop_requested()) {
        try {
            take_sample();
        } catch (const std::exception& error) {
            // The workers say what is wrong with the database, and a stale sample raises an alert of its own.
            log(LogLevel::debug, "sample_failed", error.what());
            client_.reset();
        }
        if (stop.stop_requested()) return;
        wakeups_.sleep({}, {}, pause_after(sample_.get()));
    }
}

void Sampler::take_sample() {
    if (!client_ || !client_->connected())
        client_ = std::make_unique<Client>(postgres_, "outbox-relay sampler", Role::relay, std::chrono::seconds(3));
    auto sample = std::make_shared<Sample>();
    sample->outbox = read_outbox_numbers(*client_, {.floor = floor_().value});
    sample->taken_at = unix_now();

    const OutboxNumbers& outbox = sample->outbox;
    BacklogSample seen;
    seen.taken_at = sample->taken_at;
    seen.backlog_rows = static_cast<std::uint64_t>(outbox.backlog.rows);
    seen.backlog_estimated = outbox.backlog.estimated;
    seen.oldest_pending_at =
        outbox.backlog.oldest_age_seconds ? sample->taken_at - *outbox.backlog.oldest_age_seconds : 0;
    seen.dead_letter_rows = static_cast<std::uint64_t>(outbox.dead_letters);
    seen.blocked_keys = static_cast<std::uint64_t>(outbox.keys_blocked);
    seen.paused = outbox.paused;
    seen.paused_topics = static_cast<std::uint32_t>(outbox.paused_topics);
    if (!leases_) sample->outbox.lanes_uncovered = 0;
    seen.lanes_uncovered = static_cast<std::uint32_t>(outbox.lanes_uncovered);
    seen.schema_version = static_cast<std::uint32_t>(outbox.schema_version);
    metrics_.sampled(seen);
    sample_.set(std::move(sample));
}

}  // namespace outbox
