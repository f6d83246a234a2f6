#include "sim/worker.hpp"

#include <algorithm>
#include <variant>

#include "core/backoff.hpp"
#include "core/overloaded.hpp"

namespace outbox::sim {

namespace {

using namespace std::chrono_literals;

// As app/worker.cpp has them.
constexpr Backoff session_backoff{100ms, 5s};
constexpr Duration nap_max = 1s;
constexpr Duration leave_allowance = 2s;

// More than any turn of the loop can have to do, and more turns than can be in vain.
constexpr std::size_t actions_max = 2000;
constexpr std::uint32_t idle_turns_max = 10;

}  // namespace

Worker::Worker(Surroundings& world, Host& host, WorkerName name, const RelayOptions& options, RelayLimits limits,
               Random random, std::function<void()> ended)
    : world_(world),
      host_(host),
      name_(std::move(name)),
      options_(options),
      random_(random),
      relay_(options, limits),
      on_end_(std::move(ended)) {}

void Worker::trace(const Action& action) const {
    if (!world_.traced) return;
    std::visit(Overloaded{[&](const ReadRows& read) {
                              trace("reads (", read.after.value, ", ", read.upto == no_row ? -1 : read.upto.value,
                                    "] of ", read.lanes.size(), " lanes, limit ", read.limit,
                                    read.topic ? ", one topic" : "");
                          },
                          [&](const DeleteRows& rows) {
                              std::string ids;
                              for (const RowId id : rows.ids) ids += " " + std::to_string(id.value);
                              trace("deletes", rows.event_ids.empty() ? "" : " (by event)", ids);
                          },
                          [&](const BuryRow& row) { trace("buries ", row.id.value, ": ", row.code); },
                          [&](const ReleaseLanes& release) { trace("releases ", release.lanes.size(), " lanes"); },
                          [&](const LeaveFleet&) { trace("leaves"); }, [](const auto&) {}},
               action);
}

void Worker::turn_at(Instant when) {
    when = std::max(when, host_.stands_still_until);
    if (dead_ || ended_ || when >= turn_at_) return;
    turn_at_ = when;
    world_.schedule.at(when, [self = shared_from_this(), when] {
        if (self->dead_ || self->ended_ || self->turn_at_ != when) return;
        self->turn_at_ = never;
        if (self->world_.schedule.now() < self->host_.stands_still_until)
            return self->turn_at(self->host_.stands_still_until);
        self->turn();
    });
}

void Worker::turn() {
    const Instant now = host_.clock(world_.schedule.now());
    ++turns_;
    done_ = 0;
    serve_producer(now);
    serve_session(now);
    step_drain(now);
    act(now);
    check(now, done_);
    if (!ended_) turn_at(host_.when(next_turn(now)));
}

Instant Worker::next_turn(Instant now) const {
    Instant until = std::min(relay_.wake_at(now), now + nap_max);
    if (!link_) until = std::min(until, session_retry_at_);
    if (!producer_ && !drain_requested_) until = std::min(until, producer_retry_at_);
    return std::max(std::min(until, drain_deadline_), now);
}

void Worker::check(Instant now, std::size_t done) {
    const Window& window = relay_.window();
    if (window.rows() > options_.relay.in_flight_rows) world_.ledger.violation("more rows in the window than allowed");
    if (window.bytes_in_flight() > options_.relay.in_flight_bytes && window.rows_in_flight() > 1)
        world_.ledger.violation("more bytes in flight than allowed");
    if (done > 0 || now >= idle_since_ + 1ms) {
        idle_turns_ = 0;
        idle_since_ = now;
    } else if (++idle_turns_ > idle_turns_max) {
        world_.ledger.violation("a busy loop: the worker turns and has nothing to do");
    }
}

// ---- Postgres --------------------------------------------------------------------------------------------------

void Worker::serve_session(Instant now) {
    if (!link_) {
        if (now < session_retry_at_) return;
        link_ = connect();
        deleted_.clear();
        gate_ = {};
    }
    while (link_) {
        auto answer = next_answer();
        if (!answer) break;
        take(*answer, now);
    }
    if ((link_ && link_->broken()) || (deletes_link_ && deletes_link_->broken())) lose_session(now);
}

std::shared_ptr<SessionLink> Worker::connect() {
    auto link = std::make_shared<SessionLink>(world_.postgres, world_.schedule, random_.fork(), world_.ledger,
                                              world_.database, name_, [self = weak_from_this()] {
                                                  if (const auto worker = self.lock()) worker->wake();
                                              });
    link->connect();
    return link;
}

// As postgres/sessions.cpp has it.
std::optional<PostgresModel::Answer> Worker::next_answer() {
    if (opened_) {
        if (!deletes_link_->take_answer(relay_.topics())) return std::nullopt;
        return std::exchange(opened_, std::nullopt);
    }
    while (deletes_link_) {
        auto answer = deletes_link_->take_answer(relay_.topics());
        if (!answer) break;
        deleted_.push_back(*std::move(answer));
        gate_.delete_answered();
    }
    if (gate_.let_through()) {
        std::optional<PostgresModel::Answer> answer(std::move(deleted_.front()));
        deleted_.pop_front();
        return answer;
    }
    auto answer = link_->take_answer(relay_.topics());
    if (!answer) return answer;
    if (std::holds_alternative<RowsRead>(answer->event)) gate_.read_answered();
    if (relay_.claims_rows() || !std::holds_alternative<SessionOpened>(answer->event)) return answer;
    opened_ = std::move(answer);
    deletes_link_ = connect();
    return std::nullopt;
}

void Worker::take(PostgresModel::Answer& answer, Instant now) {
    ++done_;
    ask_limits(now);
    std::visit(Overloaded{[&](const FleetLeft&) { left_ = true; }, [](const NoteTaken&) {}, [](const ClaimEnded&) {},
                          [&](const SessionOpened& event) {
                              session_ready_ = true;
                              trace("has a session");
                              relay_.on(event, now);
                          },
                          [&](const RowsRead&) {
                              batch_ = std::move(answer);
                              relay_.on(std::get<RowsRead>(batch_.event), now);
                          },
                          [&](const auto& event) { relay_.on(event, now); }},
               answer.event);
    act(now);
}

void Worker::lose_session(Instant now) {
    ++done_;
    if (session_ready_) session_failures_ = 0;
    ++session_failures_;
    trace("has lost its session");
    session_retry_at_ = now + session_backoff.delay(session_failures_, static_cast<double>(random_.below(1000)) / 1000);
    session_ready_ = false;
    relay_.on(SessionLost{}, now);
    act(now);
    close_links();
    if (relay_.drained()) left_ = true;
}

void Worker::close_links() {
    for (auto* const link : {&link_, &deletes_link_}) {
        if (*link) (*link)->close();
        link->reset();
    }
    opened_.reset();
}

// ---- actions ---------------------------------------------------------------------------------------------------

void Worker::act(Instant now) {
    while (const auto action = relay_.next(now)) {
        if (++done_ > actions_max) {
            world_.ledger.violation("a busy loop: actions without end");
            return;
        }
        if (const auto* rows = std::get_if<Publish>(&*action)) {
            carry_out(*rows, now);
            continue;
        }
        if (!link_) {
            world_.ledger.violation("a statement without a session");
            return;
        }
        trace(*action);
        if (const auto* const read = std::get_if<ReadRows>(&*action)) gate_.read_sent(read->after);
        const auto* const rows = deletes_link_ ? std::get_if<DeleteRows>(&*action) : nullptr;
        if (rows != nullptr) gate_.delete_sent(*std::max_element(rows->ids.begin(), rows->ids.end()));
        (rows != nullptr ? deletes_link_ : link_)->send(*action, std::as_const(relay_).topics(), now);
    }
}

void Worker::carry_out(const Publish& publish, Instant now) {
    refused_.clear();
    std::vector<std::pair<TopicIndex, Failure>> refusing;
    std::optional<Failure> stopped;
    LaneSet closed_lanes;
    for (const Admission& row : publish.rows) {
        if (!stopped && (!producer_ || producer_dying_)) stopped = Failure{FailureKind::in_doubt, "PRODUCER_LOST", ""};
        if (stopped) {
            refused_.push_back({row.slot, *stopped, true});
            continue;
        }
        const Window::Entry& entry = relay_.window().entry(row.slot);
        if (const auto refused = std::find_if(refusing.begin(), refusing.end(),
                                              [&](const auto& one) { return one.first == entry.topic; });
            refused != refusing.end()) {
            refused_.push_back({row.slot, refused->second, true});
            continue;
        }
        if (closed_lanes.contains(entry.lane)) {
            refused_.push_back({row.slot, {FailureKind::in_doubt, "KEY_BLOCKED", ""}, true});
            continue;
        }
        const auto failure = this->publish(row, now);
        if (!failure) continue;
        refused_.push_back({row.slot, *failure, true});
        if (failure->kind == FailureKind::row && options_.poison.policy == PoisonPolicy::block_key)
            closed_lanes.add(entry.lane);
        if (failure->kind == FailureKind::topic) refusing.emplace_back(entry.topic, *failure);
        if (failure->kind != FailureKind::row && failure->kind != FailureKind::topic) stopped = failure;
    }
    if (refused_.empty()) return;
    relay_.on(Failed{refused_}, now);
    if (producer_ && producer_->fatal() && !producer_dying_) lose_producer(now);
}

std::optional<Failure> Worker::publish(const Admission& admission, Instant) {
    const MessageRow& content = batch_.rows.at(admission.row);
    const Window::Entry& row = relay_.window().entry(admission.slot);
    if (PostgresModel::event_of(row.event_id) != content.event)
        world_.ledger.violation("a row was published with another's content");
    const Record record{content.event, content.key, row.bytes, world_.ledger.is_poison(content.event)};
    const auto failure = producer_->publish(static_cast<std::uint32_t>(content.topic), record, admission.slot);
    trace("publishes ", row.id.value, failure ? ", refused: " : "", failure ? failure->code : std::string_view());
    if (failure) return failure;
    published(content.event, row);
    in_flight_.insert_or_assign(static_cast<std::uint32_t>(admission.slot), Held{content.event, row.lane});
    return std::nullopt;
}

void Worker::published(std::uint64_t event, const Window::Entry& row) {
    if (!events_in_flight_.insert(event).second) world_.ledger.violation("published while it was in flight");
    world_.postgres.at(world_.schedule.now());
    if (relay_.claims_rows()) {
        // A claim that ended with its session may be somebody else's by now.
        if (!link_ || !link_->open() || !world_.postgres.connected(link_->id()))
            world_.ledger.may_come_again(event);
        else if (!has_claimed(event, row.id))
            world_.ledger.violation("published without a claim: row " + std::to_string(row.id.value));
        return;
    }
    const LaneRow& lease = world_.postgres.fleet().lanes[row.lane];
    if (lease.owner == name_.id && lease.expires_at_us > world_.postgres.clock_us()) return;
    if (world_.schedule.now() < world_.leases_unsure_until)
        world_.ledger.may_come_again(event);
    else
        world_.ledger.violation("published without a lease: row " + std::to_string(row.id.value) + ", lane " +
                                std::to_string(row.lane));
}

bool Worker::has_claimed(std::uint64_t event, RowId id) const {
    const MessageRow* const row = world_.postgres.find(id);
    return row != nullptr && row->event == event && row->claimed_by == link_->id();
}

void Worker::excuse(LaneSet lanes) {
    for (const auto& [slot, held] : in_flight_)
        if (lanes.contains(held.lane)) world_.ledger.may_come_again(held.event);
    for (const auto& [event, lane] : acknowledged_)
        if (lanes.contains(lane)) world_.ledger.may_come_again(event);
}

void Worker::released(Slot slot) {
    const auto found = in_flight_.find(static_cast<std::uint32_t>(slot));
    if (found == in_flight_.end()) return;  // never left this process
    events_in_flight_.erase(found->second.event);
    in_flight_.erase(found);
}

void Worker::acknowledged(Slot slot) {
    const Held held = in_flight_.at(static_cast<std::uint32_t>(slot));
    if (!world_.ledger.is_persisted(held.event)) world_.ledger.violation("acknowledged and not in the log");
    world_.ledger.acknowledged(held.event);
    trace("event ", held.event, " is acknowledged");
    acknowledged_.insert_or_assign(held.event, held.lane);
    released(slot);
}

// ---- the rest --------------------------------------------------------------------------------------------------

void Worker::step_drain(Instant now) {
    if (!drain_requested_) return;
    if (drain_deadline_ == never) {
        drain_deadline_ = now + options_.relay.drain_timeout;
        relay_.drain();
        ++done_;
    }
    if (hurry_requested_ && !purged_) drain_deadline_ = std::min(drain_deadline_, now);
    const bool late = now >= drain_deadline_;
    if (late && !session_ready_) return end();
    if (late && !purged_) {
        purged_ = true;
        ++done_;
        drain_deadline_ = now + leave_allowance;
        if (producer_) producer_->purge();
    } else if (late) {
        return end();
    }
    if (left_) end();
}

void Worker::end() {
    if (ended_) return;
    act(host_.clock(world_.schedule.now()));
    if (!left_ || relay_.window().rows() > 0) excuse(LaneSet::all());
    ended_ = true;
    if (producer_) producer_->die({});
    close_links();
    on_end_();
}

void Worker::die(Duration late_by) {
    dead_ = true;
    excuse(LaneSet::all());
    if (producer_) producer_->die(late_by);
    close_links();
}

}  // namespace outbox::sim
