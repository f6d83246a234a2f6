#include "app/marked_load.hpp"

#include <algorithm>
#include <optional>
#include <random>
#include <utility>

#include "app/boot_clock.hpp"
#include "core/token_bucket.hpp"
#include "core/verification.hpp"
#include "postgres/client.hpp"

namespace outbox {

namespace {

using namespace std::chrono_literals;

constexpr Duration nap_max = 20ms;
constexpr Duration reconnect_pause = 500ms;

// unnest returns the rows in the arrays' order, and ids are drawn as publish() is called.
constexpr const char* publish_events =
    "SELECT outbox.publish($1::text, e.key, e.payload, $2::jsonb) "
    "FROM unnest($3::text[], $4::text[]) AS e(key, payload)";

// An array literal; the texts are ours and hold nothing but what may be quoted so.
void append_quoted(std::string& array, const std::string& text) {
    array += array.empty() ? "{\"" : ",\"";
    for (const char c : text) {
        if (c == '"') array += '\\';
        array += c;
    }
    array += '"';
}

}  // namespace

// One thread's connection and its keys.
class MarkedLoad::Writer {
public:
    Writer(MarkedLoad& load, std::uint32_t number)
        : load_(load),
          number_(number),
          sequences_((load.settings_.keys - number + load.settings_.writers - 1) / load.settings_.writers),
          random_(number + 1) {}

    // False when Postgres is away: what was under way has been reported.
    bool transaction(std::size_t count) {
        if (!connect()) return false;
        const std::vector<MarkedEvent> events = draw(count);
        bool commit_sent = false;
        try {
            client_->execute("BEGIN");
            insert(events);
            if (events.front().doomed) {
                client_->execute("ROLLBACK");
                load_.report(events, Fate::rolled_back, {});
                return true;
            }
            commit_sent = true;
            client_->execute("COMMIT");
            load_.report(events, Fate::committed, boot_now());
            return true;
        } catch (const PostgresError& error) {
            load_.report(events, commit_sent ? Fate::in_doubt : Fate::rolled_back, {});
            client_.reset();
            if (!error.unreachable()) throw;
            return false;
        }
    }

private:
    bool connect() {
        try {
            if (!client_) client_.emplace(load_.postgres_, "outbox-relay verify", Role::app);
            return true;
        } catch (const PostgresError& error) {
            if (!error.unreachable()) throw;
            return false;
        }
    }

    std::vector<MarkedEvent> draw(std::size_t count) {
        const bool doomed = random_() % 100 < load_.settings_.rollback_percent;
        std::vector<MarkedEvent> events(count);
        for (MarkedEvent& event : events) {
            const auto own = static_cast<std::uint32_t>(random_() % sequences_.size());
            event = {own * load_.settings_.writers + number_, ++sequences_[own], doomed};
        }
        return events;
    }

    void insert(const std::vector<MarkedEvent>& events) {
        const LoadSettings& settings = load_.settings_;
        std::string keys;
        std::string payloads;
        for (const MarkedEvent& event : events) {
            append_quoted(keys, marked_key(settings.run, event.key));
            append_quoted(payloads, marked_payload(settings.run, event, settings.payload_bytes));
        }
        const std::string headers = R"({")" + std::string(run_header) + R"(": ")" + settings.run + R"("})";
        client_->execute(publish_events, {settings.topic, headers, keys + "}", payloads + "}"});
    }

    MarkedLoad& load_;
    std::uint32_t number_;
    std::vector<std::uint64_t> sequences_;  // of the own keys: number, number + writers, …
    std::minstd_rand random_;
    std::optional<Client> client_;
};

MarkedLoad::MarkedLoad(PostgresSettings postgres, LoadSettings settings)
    : postgres_(std::move(postgres)), settings_(std::move(settings)), running_(settings_.writers) {
    for (std::uint32_t number = 0; number < settings_.writers; ++number)
        threads_.emplace_back([this, number](const std::stop_token& stop) {
            try {
                write(number, stop);
            } catch (const std::exception&) {
                const std::lock_guard lock(mutex_);
                failure_ = std::current_exception();
            }
            --running_;
        });
}

MarkedLoad::~MarkedLoad() {
    for (std::jthread& thread : threads_) thread.request_stop();
}

void MarkedLoad::write(std::uint32_t number, const std::stop_token& stop) {
    Writer writer(*this, number);
    // 0 is no ceiling, for the bucket as for the settings.
    const std::uint64_t remainder = number < settings_.events_per_second % settings_.writers ? 1 : 0;
    const std::uint64_t rate = settings_.events_per_second / settings_.writers + remainder;
    // As many events as are due go into one transaction: one at a slow rate, several at one that needs it.
    TokenBucket due(rate, unreported_max);
    const Instant begin = boot_now();
    due.take(due.unlimited() ? 0 : due.available(begin));
    for (const Instant end = begin + settings_.duration; !stop.stop_requested();) {
        const Instant now = boot_now();
        if (now >= end) return;
        const std::uint64_t count = held_ ? 0 : std::min(due.available(now), unreported_max);
        if (count == 0) {
            const Duration wait = held_ ? nap_max : std::min<Duration>(due.when(1, now) - now, nap_max);
            std::this_thread::sleep_for(wait);
            continue;
        }
        due.take(count);
        if (!writer.transaction(count)) std::this_thread::sleep_for(reconnect_pause);
    }
}

void MarkedLoad::report(const std::vector<MarkedEvent>& events, Fate fate, Instant at) {
    const std::lock_guard lock(mutex_);
    for (const MarkedEvent& event : events) outcomes_.push_back({event, fate, at});
}

std::vector<WriterOutcome> MarkedLoad::take() {
    const std::lock_guard lock(mutex_);
    if (failure_) std::rethrow_exception(failure_);
    std::vector<WriterOutcome> taken;
    taken.swap(outcomes_);
    return taken;
}

}  // namespace outbox
