#include "app/worker.hpp"

#include <poll.h>

#include <algorithm>
#include <functional>
#include <utility>

#include "app/boot_clock.hpp"
#include "core/overloaded.hpp"
#include "telemetry/log.hpp"

namespace outbox {

namespace {

using namespace std::chrono_literals;

constexpr Backoff session_backoff{100ms, 5s};
constexpr Duration session_trial = 2s;              // a session that breaks sooner has not mended anything
constexpr Duration answer_patience = 5s;            // an answer that takes longer is worth a word
constexpr std::uint32_t refusals_worth_a_word = 3;  // deletes refused in a row before readiness tells
constexpr Duration nap_max = 1s;          // the loop turns at least this often, so that its progress can be watched
constexpr Duration stream_pause = 150us;  // between two looks at a large answer
constexpr Duration leave_allowance = 2s;  // after the drain deadline: for the last deletes and the release
constexpr Duration floor_interval = 1s;

double seconds(Duration duration) {
    return std::chrono::duration<double>(duration).count();
}
}  // namespace

Worker::Worker(std::size_t index, WorkerSettings settings, WorkerIdentity identity, WorkerMetrics& metrics,
               std::function<void()> ended)
    : index_(index),
      settings_(std::move(settings)),
      identity_(std::move(identity)),
      ended_(std::move(ended)),
      metrics_(metrics),
      observer_(index, metrics),
      random_(std::random_device{}()),
      relay_(settings_.relay, {message_bytes_max(settings_.kafka), random_()}),
      troubles_(WorkerTroubles{"connecting", "connecting"}) {}

Worker::~Worker() {
    hurry();
    drain();
}

void Worker::start() {
    thread_ = std::jthread([this] { run(); });
}

void Worker::drain() {
    drain_requested_ = true;
    wakeups_.interrupt();
}

void Worker::hurry() {
    hurry_requested_ = true;
    wakeups_.interrupt();
}

WorkerTroubles Worker::troubles() const {
    return *troubles_.get();
}

void Worker::run() {
    try {
        Wakeups::Woken woken;
        while (end_ == WorkerEnd::running) {
            const Instant now = boot_now();
            turn(woken, now);
            turns_.fetch_add(1, std::memory_order_relaxed);
            if (end_ != WorkerEnd::running) break;
            woken = sleep(boot_now());
        }
    } catch (const SchemaNewer& error) {
        log(LogLevel::error, "schema_newer", error.what());
        end_ = WorkerEnd::schema_newer;
    } catch (const std::exception& error) {
        log(LogLevel::error, "worker_broken", error.what(), {{"worker", static_cast<std::int64_t>(index_)}});
        end_ = WorkerEnd::broken;
    }
    ended_();
}

void Worker::turn(Wakeups::Woken woken, Instant now) {
    serve_producer(woken.producer, now);
    serve_session(woken.session, now);
    step_drain(now);
    try {
        act(now);
    } catch (const SchemaNewer&) {
        throw;
    } catch (const PostgresError& error) {
        lose_session(error, now);
    }
    judge_session(now);
    judge_kafka();
    observer_.stands(relay_, now);
    lanes_.store(relay_.lanes().owned().bits(), std::memory_order_relaxed);
    if (now >= floor_at_) {
        floor_.store(relay_.floor().value, std::memory_order_relaxed);
        floor_at_ = now + floor_interval;
    }
}

Wakeups::Woken Worker::sleep(Instant now) {
    Wakeups::Source session;
    Wakeups::Source deletes;
    if (session_) {
        const auto sources = session_->sources();
        session = {sources[0].descriptor, sources[0].wanted};
        deletes = {sources[1].descriptor, sources[1].wanted};
    }
    Wakeups::Source producer;
    if (producer_) producer = {producer_->descriptor(), POLLIN};
    if (!session_ || !session_->streaming(now)) return wakeups_.sleep(session, producer, nap(now), deletes);
    session.wanted = 0;
    Wakeups::Woken woken = wakeups_.sleep(session, producer, std::min(nap(now), stream_pause), deletes);
    woken.session = true;
    return woken;
}

Duration Worker::nap(Instant now) const {
    Instant until = std::min(relay_.wake_at(now), now + nap_max);
    if (session_) until = std::min(until, session_->deadline());
    if (!session_) until = std::min(until, session_retry_at_);
    if (!producer_) until = std::min(until, producer_retry_at_);
    until = std::min(until, drain_deadline_);
    return std::max(until - now, Duration::zero());
}

// ---- Postgres --------------------------------------------------------------------------------------------------

void Worker::open_session(Instant now) {
    session_ =
        std::make_unique<Sessions>(settings_.postgres, identity_, settings_.relay.relay.lease_ttl,
                                   settings_.schema_version, settings_.relay.relay.claim == ClaimMode::lanes, now);
}

void Worker::serve_session(bool readable, Instant now) {
    try {
        if (!session_) {
            if (now < session_retry_at_) return;
            open_session(now);
        }
        if (readable || now >= session_->deadline()) session_->pump(now);
        while (auto answer = session_->next_answer(relay_.topics(), now)) take(*answer, now);
    } catch (const SchemaNewer&) {
        throw;
    } catch (const PostgresError& error) {
        lose_session(error, now);
    }
}

void Worker::take(Answer& answer, Instant now) {
    ask_limits(now);
    if (std::holds_alternative<SessionOpened>(answer.event)) {
        session_ready_ = true;
        session_opened_at_ = now;
    }
    observer_.answered(answer, relay_, now);
    if (!answer.refusal.empty()) {
        if (++deletes_refused_ >= refusals_worth_a_word) trouble(&WorkerTroubles::postgres, answer.refusal);
    } else if (std::holds_alternative<RowsDeleted>(answer.event) || std::holds_alternative<RowsBuried>(answer.event)) {
        deletes_refused_ = 0;
    }
    std::visit(Overloaded{[&](const FleetLeft&) { left_ = true; }, [](const NoteTaken&) {}, [](const ClaimEnded&) {},
                          [&](const auto& event) { relay_.on(event, now); }},
               answer.event);
    act(now);  // a batch that was read has to be published before the next answer replaces it
}

void Worker::lose_session(const PostgresError& error, Instant now) {
    session_refused_ = !error.unreachable();
    if (session_ready_ && !session_refused_) session_failures_ = 0;
    ++session_failures_;
    const Duration delay = session_backoff.delay(session_failures_, jitter());
    session_retry_at_ = now + delay;
    const bool news = troubles().postgres != error.what();
    if (news)
        log(LogLevel::warn, session_ready_ ? "postgres_lost" : "postgres_waiting",
            std::string(error.what()) + ", trying again",
            {{"worker", static_cast<std::int64_t>(index_)},
             {"sqlstate", error.sqlstate()},
             {"retry_in_seconds", seconds(delay)}});
    trouble(&WorkerTroubles::postgres, error.what());
    session_ready_ = false;
    deletes_refused_ = 0;
    observer_.session_lost();
    relay_.on(SessionLost{}, now);
    act(now);  // rows just read may still be published; nothing else is due without a session
    session_.reset();
    if (relay_.drained()) left_ = true;  // the farewell went out; nothing is left to be told
}

// A session that follows a refused statement (a grant is missing, a disk is full) is well only when it has lasted: it
// must neither look ready in between nor be tried at full speed.
void Worker::judge_session(Instant now) {
    if (!session_ready_) return;
    const bool proven = !session_refused_ || now >= session_opened_at_ + session_trial;
    if (now - session_->waiting_since() >= answer_patience) {
        if (troubles().postgres.empty()) trouble(&WorkerTroubles::postgres, "no answer for more than 5 s");
    } else if (proven && deletes_refused_ == 0 && !troubles().postgres.empty()) {
        session_failures_ = 0;
        trouble(&WorkerTroubles::postgres, {});
    }
}

// ---- actions ---------------------------------------------------------------------------------------------------

void Worker::act(Instant now) {
    while (const auto action = relay_.next(now)) std::visit([&](const auto& one) { carry_out(one, now); }, *action);
}

template <class SessionAction>
void Worker::carry_out(const SessionAction& action, Instant now) {
    session_->send(action, now);
}

void Worker::carry_out(const ReadRows& action, Instant now) {
    session_->send(action, std::as_const(relay_).topics(), now);
}

void Worker::carry_out(const BuryRow& burial, Instant now) {
    session_->send(burial, now);
    observer_.burying(burial);
}

void Worker::carry_out(const Publish& publish, Instant now) {
    refused_.clear();
    refusing_.clear();
    std::optional<Failure> stopped;
    LaneSet closed_lanes;
    const WallTime published_at = wall_now();
    for (const Admission& row : publish.rows) {
        // A refusal that is about neither the row nor its topic stops the batch: what follows must not overtake it.
        if (!stopped && (!producer_ || producer_dying_)) stopped = Failure{FailureKind::in_doubt, "PRODUCER_LOST", ""};
        if (stopped) {
            refused_.push_back({row.slot, *stopped, true});
            continue;
        }
        // Nor may a later row overtake where only the topic refuses: it may be found between two rows.
        if (const auto refused = std::find_if(refusing_.begin(), refusing_.end(),
                                              [&](const auto& one) { return one.first == row.topic; });
            refused != refusing_.end()) {
            refused_.push_back({row.slot, refused->second, true});
            continue;
        }
        if (closed_lanes.contains(row.lane)) {
            refused_.push_back({row.slot, {FailureKind::in_doubt, "KEY_BLOCKED", ""}, true});
            continue;
        }
        const auto failure = producer_->publish(row.topic, session_->rows().content(row.row), row.slot, published_at);
        if (!failure) continue;
        refused_.push_back({row.slot, *failure, true});
        // Where a row blocks its key, the key's later rows must wait for the next read, which leaves them out.
        if (failure->kind == FailureKind::row && settings_.relay.poison.policy == PoisonPolicy::block_key)
            closed_lanes.add(row.lane);
        if (failure->kind == FailureKind::topic) refusing_.emplace_back(row.topic, *failure);
        if (failure->kind != FailureKind::row && failure->kind != FailureKind::topic) stopped = failure;
    }
    if (flusher_ && !publish.more_follow) flusher_->ask();
    if (refused_.empty()) return;
    observer_.failed(refused_);
    relay_.on(Failed{refused_}, now);
    if (producer_ && producer_->fatal() && !producer_dying_) lose_producer(now);
}

// ---- the rest --------------------------------------------------------------------------------------------------

void Worker::step_drain(Instant now) {
    if (!drain_requested_) return;
    if (drain_deadline_ == never) {
        drain_deadline_ = now + settings_.relay.relay.drain_timeout;
        relay_.drain();
        log(LogLevel::info, "draining",
            "reading has stopped; what is in flight is finished and the lanes are handed over",
            {{"worker", static_cast<std::int64_t>(index_)},
             {"rows_in_flight", static_cast<std::int64_t>(relay_.window().rows_in_flight())}});
    }
    if (hurry_requested_ && !purged_) drain_deadline_ = std::min(drain_deadline_, now);
    const bool late = now >= drain_deadline_;
    if (late && !session_ready_) end_ = WorkerEnd::drained;  // nothing can be deleted or handed over any more
    if (late && !purged_) {
        purged_ = true;
        drain_deadline_ = now + leave_allowance;
        if (relay_.window().rows_in_flight() > 0)
            log(LogLevel::warn, "drain_cut_short",
                "rows in flight were not acknowledged in time: they stay, and may be sent again",
                {{"rows_in_flight", static_cast<std::int64_t>(relay_.window().rows_in_flight())}});
        if (producer_) producer_->purge();
    } else if (late) {
        end_ = WorkerEnd::drained;
    }
    if (left_) end_ = WorkerEnd::drained;
}

void Worker::trouble(std::string WorkerTroubles::*side, std::string text) {
    WorkerTroubles now = troubles();
    now.*side = std::move(text);
    troubles_.set(std::make_shared<const WorkerTroubles>(std::move(now)));
}

}  // namespace outbox
