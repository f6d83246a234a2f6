#include "sim/session_link.hpp"

#include <utility>

namespace outbox::sim {

namespace {

using namespace std::chrono_literals;

constexpr Duration lock_patience = 5ms;  // until a statement that waits for a lock is looked at again

}  // namespace

SessionLink::SessionLink(PostgresModel& postgres, Schedule& schedule, Random random, Ledger& ledger,
                         DatabaseWeather& weather, const WorkerName& worker, std::function<void()> wake)
    : postgres_(postgres),
      schedule_(schedule),
      random_(random),
      ledger_(ledger),
      weather_(weather),
      worker_(worker),
      wake_(std::move(wake)) {}

Duration SessionLink::trip() {
    const Duration drawn = random_.latency(weather_.fastest, weather_.slowest);
    return weather_.slow ? drawn * 20 + 50ms : drawn;
}

void SessionLink::connect() {
    schedule_.in(trip() * 3, [self = shared_from_this()] {
        if (self->closed_) return;
        if (self->weather_.down) return self->cut({});
        self->postgres_.at(self->schedule_.now());
        self->session_ = self->postgres_.connect(self->worker_);
        self->sent_.push_back({});
        self->serve_in(self->trip());
    });
}

void SessionLink::send(const Action& action, const Topics& topics, Instant now) {
    if (cut_) return;  // into the void
    postgres_.at(schedule_.now());
    if (!postgres_.connected(*session_)) return cut({});
    postgres_.send(*session_, action, topics, now);
    Sent sent;
    if (const auto* rows = std::get_if<DeleteRows>(&action)) {
        sent.ids.assign(rows->ids.begin(), rows->ids.end());
        sent.refusable = true;
    }
    if (std::holds_alternative<BuryRow>(action)) sent.refusable = true;
    if (const auto* read = std::get_if<ReadRows>(&action)) sent.claims = read->claim;
    sent_.push_back(std::move(sent));
    serve_in(trip());
}

void SessionLink::serve_in(Duration delay) {
    if (std::exchange(serving_, true)) return;
    schedule_.in(delay, [self = shared_from_this()] { self->serve(); });
}

void SessionLink::serve() {
    serving_ = false;
    if (sent_.empty()) return;
    if (postgres_.waiting(*session_) == 0) return sent_.clear();  // the server is gone, and they with it
    postgres_.at(schedule_.now());
    std::vector<std::pair<RowId, std::uint64_t>> before;
    for (const RowId id : sent_.front().ids)
        if (const MessageRow* row = postgres_.find(id)) before.emplace_back(id, row->event);
    const std::size_t answers = postgres_.answers(*session_);
    const std::size_t waiting = postgres_.waiting(*session_);
    if (sent_.front().refusable && weather_.refusals > 0 && !cut_) {
        --weather_.refusals;
        static_cast<void>(postgres_.refuse(*session_));
    } else if (!postgres_.execute(*session_)) {
        return serve_in(lock_patience);
    }
    account(before);
    weather_.executed(*session_);
    if (postgres_.waiting(*session_) < waiting) {
        if (sent_.front().claims)
            schedule_.in(worker_.lease_ttl + 1ms, [self = shared_from_this()] { self->look_whether_it_lives(); });
        sent_.pop_front();
    }
    if (postgres_.answers(*session_) > answers) {
        last_arrival_ = std::max(last_arrival_ + 1ns, schedule_.now() + trip());
        schedule_.at(last_arrival_, [self = shared_from_this()] {
            if (self->cut_ || self->closed_) return;
            ++self->arrived_;
            self->wake_();
        });
    }
    if (!sent_.empty()) serve_in(random_.latency(weather_.fastest / 4, weather_.slowest / 4));
}

// The server ends a session that is idle in a transaction for too long.
void SessionLink::look_whether_it_lives() {
    postgres_.at(schedule_.now());
    if (!cut_ && !postgres_.connected(*session_)) cut({});
}

void SessionLink::account(const std::vector<std::pair<RowId, std::uint64_t>>& before) {
    for (const auto& [id, event] : before) {
        const MessageRow* const row = postgres_.find(id);
        if (row == nullptr || row->event != event) ledger_.deleted(event);
    }
}

std::optional<PostgresModel::Answer> SessionLink::take_answer(Topics& topics) {
    if (cut_ || arrived_ == 0) return std::nullopt;
    --arrived_;
    return postgres_.take_answer(*session_, topics);
}

void SessionLink::close() {
    closed_ = true;
    if (!cut_) cut({});
}

void SessionLink::cut(Duration unnoticed_for) {
    if (cut_) return;
    cut_ = true;
    arrived_ = 0;
    if (session_) {
        const std::size_t reached = random_.below(sent_.size() + 1);
        postgres_.cut(*session_, reached, unnoticed_for == Duration::zero());
        sent_.resize(reached);
        if (!serving_ && !sent_.empty()) serve_in(trip());
    }
    schedule_.in(unnoticed_for, [self = shared_from_this()] {
        self->broken_ = true;
        if (!self->closed_) self->wake_();
    });
}

}  // namespace outbox::sim
