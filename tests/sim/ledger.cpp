#include "sim/ledger.hpp"

namespace outbox::sim {

Ledger::Event& Ledger::at(std::uint64_t event) {
    if (event >= events_.size()) events_.resize(event + 1);
    return events_[event];
}

std::string Ledger::describe(std::uint64_t event) const {
    const EventHistory& past = postgres_.history().at(event);
    return "row " + std::to_string(past.row.value) + " (event " + std::to_string(event) + ", " +
           postgres_.name_of(past.topic) + ", key " + std::to_string(past.key) + ", lane " + std::to_string(past.lane) +
           ")";
}

void Ledger::violation(std::string what) {
    if (on_violation) on_violation(what);
    violations_.push_back(std::move(what));
}

void Ledger::cure() {
    for (Event& event : events_) event.poison = false;
}

void Ledger::inserted(std::uint64_t event, bool poison, bool bad) {
    at(event).poison = poison;
    at(event).bad = bad;
    at(event).timeline = timeline_;
}

void Ledger::before_failover() {
    before_failover_.clear();
    for (const EventHistory& event : postgres_.history()) before_failover_.push_back(event.state);
}

// A commit, a deletion or a burial that was taken back: the event may come again, and out of its turn.
void Ledger::failed_over() {
    using State = EventHistory::State;
    ++timeline_;
    for (std::uint64_t event = 1; event < postgres_.history().size(); ++event) {
        const State before = before_failover_[event];
        const State after = postgres_.history()[event].state;
        if (before == after || before == State::open || before == State::rolled_back) continue;
        may_come_again(event);
        at(event).taken_back = at(event).overtaken = true;
    }
}

void Ledger::persisted(std::uint64_t event, std::uint32_t topic) {
    using State = EventHistory::State;
    const EventHistory& past = postgres_.history().at(event);
    Event& one = at(event);
    const bool committed = past.state != State::open && past.state != State::rolled_back;
    if (!committed && !one.taken_back) violation("a phantom: " + describe(event));
    if (one.times++ > 0) {
        ++duplicates_;
        if (one.excuses == 0) return violation("a duplicate without a cause: " + describe(event));
        --one.excuses;
        return;
    }
    ++firsts_;
    if (!ordered_ || past.key < 0 || past.state == State::lost_by_failover) return;
    const std::pair place(one.timeline, past.row);
    auto& last = last_[{topic, past.long_key ? ~past.key : past.key}];  // another key, as its text is another
    if (place < last && one.overtaken)
        ++overtaken_;
    else if (place < last)
        violation("out of order within its key: " + describe(event));
    last = std::max(last, place);
}

void Ledger::deleted(std::uint64_t event) {
    if (!at(event).acknowledged) violation("deleted before it was acknowledged: " + describe(event));
}

void Ledger::buried(std::uint64_t event, const std::string& code) {
    if (at(event).bad || code == "TOPIC_NOT_ALLOWED" || code == "RELAY_CRASHED") return;
    violation("buried without a reason, " + code + ": " + describe(event));
}

std::uint64_t Ledger::waiting() const {
    std::uint64_t waiting = 0;
    for (const MessageRow& row : postgres_.messages())
        if (row.writer == 0) ++waiting;
    return waiting;
}

void Ledger::look_for_losses() {
    using State = EventHistory::State;
    for (std::uint64_t event = 1; event < postgres_.history().size(); ++event) {
        const EventHistory& past = postgres_.history()[event];
        if (past.state == State::deleted && at(event).times == 0) violation("lost: " + describe(event));
        if (past.state == State::committed && postgres_.find(past.row) == nullptr)
            violation("gone: " + describe(event));
    }
}

}  // namespace outbox::sim
