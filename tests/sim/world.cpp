#include "sim/world.hpp"

#include <algorithm>
#include <exception>
#include <ostream>

#include "sim/world_writing.hpp"

namespace outbox::sim {

namespace {

using namespace std::chrono_literals;

std::vector<std::string> topic_names(const Scenario& scenario) {
    std::vector<std::string> names;
    for (const PlannedTopic& topic : scenario.topics) names.push_back(topic.name);
    return names;
}

// Where brokers only reject what they had announced, the relay sees to it that no innocent row is rejected along.
bool overtaking_possible(const Scenario& scenario) {
    const auto rejects = [](const Fault& fault) {
        return fault.kind == FaultKind::topic_denied || fault.kind == FaultKind::topic_missing ||
               fault.kind == FaultKind::change_limits || fault.kind == FaultKind::odd_error;
    };
    const auto has_poison = [](const Transaction& one) {
        return std::any_of(one.rows.begin(), one.rows.end(), [](const PlannedRow& row) { return row.poison; });
    };
    return !scenario.limits_told || std::any_of(scenario.faults.begin(), scenario.faults.end(), rejects) ||
           std::any_of(scenario.transactions.begin(), scenario.transactions.end(), has_poison);
}

constexpr Duration vacuum_every = 1s;

}  // namespace

World::World(const Scenario& scenario, std::ostream* trace)
    : scenario_(scenario),
      trace_(trace),
      random_(~scenario.seed),
      postgres_(topic_names(scenario)),
      cluster_(random_.fork(), scenario.brokers),
      ledger_(postgres_),
      surroundings_{schedule_, postgres_, cluster_, database_, ledger_, {}, {}, 0, trace != nullptr, {}} {
    database_.fastest = scenario.statement_fastest;
    database_.slowest = scenario.statement_slowest;
    database_.executed = [this](SessionId) { after_statement(); };
    surroundings_.producer.batch_rows = scenario.producer_batch_rows;
    surroundings_.producer.limits_told = scenario.limits_told;
    postgres_.rename_prepared_at_once(scenario.prepared_renamed);
    surroundings_.producer.fatal_on_gap = scenario.producers_fail_on_gaps;
    surroundings_.trace = [this](const std::string& what) { this->trace(what); };
    for (const PlannedTopic& topic : scenario.topics) {
        KafkaCluster::Topic& one = cluster_.topic(cluster_.add_topic(topic.name, topic.partitions));
        one.batch_bytes_max = topic.batch_bytes_max;
        one.compacted = topic.compacted;
    }
    postgres_.unlocked = [this](std::uint64_t event) { let_go(event); };
    ledger_.set_ordered(!claims_rows());
    ledger_.set_overtaking_possible(overtaking_possible(scenario));
    ledger_.on_violation = [this](const std::string& what) { this->trace("VIOLATION: " + what); };
    cluster_.persisted = [this](const Record& record, std::uint32_t topic) {
        if (trace_ != nullptr) this->trace("event " + std::to_string(record.event) + " is in the log");
        ledger_.persisted(record.event, topic);
    };
    cluster_.overtaken = [this](std::uint64_t event) { ledger_.may_be_overtaken(event); };
    cluster_.broker_changed = [this](std::uint32_t broker) {
        for (Worker* const worker : living())
            if (worker->producer() != nullptr) worker->producer()->broker_changed(broker);
    };
    std::vector<std::uint8_t> lanes;
    for (int key = 0; key < 64; ++key) lanes.push_back(static_cast<std::uint8_t>(random_.below(lane_count)));
    postgres_.set_lanes_of_keys(std::move(lanes));
}

World::~World() = default;

void World::trace(const std::string& what) {
    if (trace_ == nullptr) return;
    const auto since = std::chrono::duration<double>(schedule_.now().time_since_epoch()).count() - 1000;
    std::string time = std::to_string(since);
    *trace_ << std::string(time.size() < 11 ? 11 - time.size() : 0, ' ') << time << "  " << what << "\n";
}

void World::vacuum() {
    postgres_.vacuum();
    schedule_.in(vacuum_every, [this] { vacuum(); });
}

Outcome World::run() {
    const Instant start = schedule_.now();
    try {
        vacuum();
        for (std::uint32_t i = 0; i < scenario_.replicas; ++i) start_process();
        for (const Transaction& one : scenario_.transactions)
            schedule_.at(start + one.at, [this, &one] { begin(one); });
        for (const PlannedReader& reader : scenario_.readers)
            schedule_.at(start + reader.at, [this, &reader] {
                const ReaderId id = postgres_.open_reader();
                schedule_.in(reader.lasts, [this, id] { postgres_.close_reader(id); });
            });
        for (const Fault& fault : scenario_.faults) schedule_.at(start + fault.at, [this, &fault] { strike(fault); });
        run_until(start + scenario_.calm_at);
        if (ledger_.violations().empty()) make_peace();
        expect_rest();
        expect_quiet();
    } catch (const std::exception& error) {
        ledger_.violation(std::string("the relay's own invariant: ") + error.what());
    }
    return {ledger_.violations(), coverage()};
}

}  // namespace outbox::sim
