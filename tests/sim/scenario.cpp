#include "sim/scenario.hpp"

#include <algorithm>
#include <array>

#include "sim/random.hpp"

namespace outbox::sim {

namespace {

using namespace std::chrono_literals;

constexpr std::array<std::string_view, fault_kinds> names{"cut_session",
                                                          "cut_unnoticed",
                                                          "restart_database",
                                                          "database_down",
                                                          "failover",
                                                          "slow_database",
                                                          "step_clock",
                                                          "refuse_deletes",
                                                          "lock_messages",
                                                          "lock_lanes",
                                                          "broker_down",
                                                          "broker_stands_still",
                                                          "cut_broker",
                                                          "slow_brokers",
                                                          "throttle",
                                                          "too_few_replicas",
                                                          "kafka_unreachable",
                                                          "topic_denied",
                                                          "topic_missing",
                                                          "change_limits",
                                                          "producer_fails",
                                                          "queue_full",
                                                          "odd_error",
                                                          "kill",
                                                          "terminate",
                                                          "terminate_twice",
                                                          "rolling_restart",
                                                          "join",
                                                          "flap",
                                                          "pause_host",
                                                          "pause_topic",
                                                          "pause_all",
                                                          "change_rate",
                                                          "unblock",
                                                          "requeue"};

// How a run is troubled: a few kinds at a time, so that what each does shows, and now and then all of them.
std::vector<FaultKind> kinds_of(Random& random) {
    std::vector<FaultKind> kinds;
    const std::uint64_t how = random.below(10);
    if (how == 0) return kinds;                                                                // nothing at all
    if (how == 1) return {FaultKind::terminate, FaultKind::rolling_restart, FaultKind::join};  // nothing unclean
    const std::size_t count = how == 2 ? fault_kinds : random.between<std::size_t>(1, 5);
    for (std::size_t i = 0; i < count; ++i)
        kinds.push_back(how == 2 ? static_cast<FaultKind>(i) : static_cast<FaultKind>(random.below(fault_kinds)));
    return kinds;
}

Duration length_of(FaultKind kind, Random& random) {
    switch (kind) {
        case FaultKind::failover:
        case FaultKind::database_down:
        case FaultKind::restart_database:
            return random.between(Duration(50ms), Duration(2s));
        case FaultKind::broker_stands_still:
            return random.percent(20) ? random.between(Duration(9s), Duration(13s))
                                      : random.between(Duration(100ms), Duration(4s));
        case FaultKind::pause_host:
        case FaultKind::kill:
        case FaultKind::cut_unnoticed:
            return random.between(Duration(10ms), Duration(7s));
        default:
            return random.between(Duration(50ms), Duration(5s));
    }
}

void plan_topics(Scenario& scenario, Random& random) {
    const std::uint64_t topics = random.between<std::uint64_t>(1, 4);
    for (std::uint64_t i = 0; i < topics; ++i) {
        PlannedTopic topic;
        topic.name = "t" + std::to_string(i);
        topic.partitions = random.between<std::uint32_t>(1, 3);
        if (random.percent(15)) topic.batch_bytes_max = random.between<std::uint32_t>(2'000, 20'000);
        topic.compacted = random.percent(10);
        scenario.topics.push_back(std::move(topic));
    }
    if (random.percent(10)) scenario.topics.push_back({.name = "forbidden"});
}

struct Habits {  // of the writers of one run
    std::int32_t keys = 8;
    std::uint64_t poison_percent = 0;
    std::uint64_t large_percent = 0;
    std::uint64_t keyless_percent = 0;
    std::uint64_t late_percent = 0;  // transactions that take long
    std::uint64_t roll_back_percent = 0;
    std::uint64_t prepare_percent = 0;
};

PlannedRow plan_row(const Scenario& scenario, const Habits& habits, Random& random) {
    PlannedRow row;
    row.topic = static_cast<std::uint32_t>(random.below(scenario.topics.size()));
    row.key = random.percent(habits.keyless_percent)
                  ? -1
                  : static_cast<std::int32_t>(random.below(static_cast<std::uint64_t>(habits.keys)));
    row.payload_bytes = random.between<std::uint32_t>(20, 400);
    if (random.percent(habits.large_percent))
        row.payload_bytes =
            random.percent(10) ? scenario.message_bytes_max + 1 : random.between<std::uint32_t>(1'000, 30'000);
    row.poison = random.percent(habits.poison_percent);
    row.long_key = row.key >= 0 && row.poison && random.percent(10);
    return row;
}

void plan_writers(Scenario& scenario, Random& random) {
    Habits habits;
    habits.keys = random.between<std::int32_t>(1, 40);
    if (random.percent(30)) habits.poison_percent = random.between<std::uint64_t>(1, 4);
    if (random.percent(30)) habits.large_percent = random.between<std::uint64_t>(1, 20);
    if (random.percent(40)) habits.keyless_percent = random.between<std::uint64_t>(5, 60);
    if (random.percent(60)) habits.late_percent = random.between<std::uint64_t>(2, 30);
    if (random.percent(50)) habits.roll_back_percent = random.between<std::uint64_t>(2, 25);
    if (random.percent(30)) habits.prepare_percent = random.between<std::uint64_t>(2, 20);
    const std::uint64_t rows = random.between<std::uint64_t>(40, 250);
    const bool backlog = random.percent(25);
    const Duration bursts_every = random.between(Duration(20ms), Duration(2s));
    for (std::uint64_t planned = 0; planned < rows;) {
        Transaction one;
        Duration at = random.between(Duration::zero(), scenario.calm_at);
        at = at / bursts_every * bursts_every + random.between(Duration::zero(), Duration(5ms));
        one.at = backlog && random.percent(70) ? Duration(static_cast<std::int64_t>(planned)) : at;
        one.lasts = random.percent(habits.late_percent) ? random.between(Duration(20ms), Duration(3s))
                                                        : random.between(Duration(100us), Duration(10ms));
        if (random.percent(habits.roll_back_percent)) one.end = Transaction::End::roll_back;
        if (random.percent(habits.prepare_percent)) {
            one.end =
                random.percent(70) ? Transaction::End::prepare_and_commit : Transaction::End::prepare_and_roll_back;
            one.prepared_for = random.between(Duration(1ms), Duration(2s));
        }
        const std::uint64_t size =
            random.percent(20) ? random.between<std::uint64_t>(5, 30) : random.between<std::uint64_t>(1, 4);
        for (std::uint64_t i = 0; i < size; ++i) one.rows.push_back(plan_row(scenario, habits, random));
        planned += size;
        scenario.transactions.push_back(std::move(one));
    }
    if (random.percent(30))
        scenario.readers.push_back({random.between(Duration::zero(), scenario.calm_at / 2), Duration(100s)});
}

void plan_faults(Scenario& scenario, Random& random) {
    const std::vector<FaultKind> kinds = kinds_of(random);
    if (kinds.empty()) return;
    const std::uint64_t count = random.between<std::uint64_t>(1, 14);
    for (std::uint64_t i = 0; i < count; ++i) {
        Fault fault;
        fault.kind = kinds[random.below(kinds.size())];
        fault.at = random.between(Duration(100ms), scenario.calm_at - 100ms);
        fault.lasts = std::min(length_of(fault.kind, random), scenario.calm_at - fault.at);
        fault.pick = random.next();
        scenario.faults.push_back(fault);
    }
    std::sort(scenario.faults.begin(), scenario.faults.end(),
              [](const Fault& a, const Fault& b) { return a.at < b.at; });
}

void plan_relay(Scenario& scenario, Random& random) {
    RelaySettings& relay = scenario.options.relay;
    relay.workers = random.percent(25) ? 2 : 1;
    relay.lease_ttl = random.between(Duration(1s), Duration(4s));
    relay.batch_rows = random.between<std::uint32_t>(2, 60);
    relay.in_flight_rows = relay.batch_rows * random.between<std::uint32_t>(1, 8);
    relay.in_flight_bytes =
        random.percent(30) ? random.between<std::uint64_t>(20'000, 200'000) : std::uint64_t{4} << 20U;
    relay.poll_min = random.between(Duration(1ms), Duration(10ms));
    relay.poll_max = relay.poll_min + random.between(Duration(10ms), Duration(150ms));
    relay.drain_timeout = random.percent(20) ? random.between(Duration(100ms), Duration(2s)) : Duration(20s);
    scenario.options.topics.allow = {"t*"};
    if (random.percent(30)) scenario.options.poison.policy = PoisonPolicy::block_key;
    scenario.options.pacing.recovery_rows_per_second =
        random.percent(50) ? 1000 : random.between<std::uint64_t>(20, 300);
    if (random.percent(15)) scenario.options.pacing.max_rows_per_second = random.between<std::uint64_t>(50, 500);
}

}  // namespace

std::string_view name_of(FaultKind kind) {
    return names[static_cast<std::size_t>(kind)];
}

Scenario scenario_of(std::uint64_t seed) {
    Random random(seed);
    Scenario scenario;
    scenario.seed = seed;
    scenario.calm_at = random.between(Duration(2s), Duration(16s));
    scenario.replicas = random.between<std::uint32_t>(1, random.percent(20) ? 5 : 3);
    scenario.brokers = random.between<std::uint32_t>(1, 3);
    scenario.producers_fail_on_gaps = random.percent(25);
    scenario.producer_batch_rows = random.between<std::uint32_t>(1, 40);
    scenario.limits_told = random.percent(50);
    scenario.prepared_renamed = random.percent(40);
    scenario.drift_ppm = random.percent(50) ? 0 : 1'000;
    scenario.statement_fastest = random.between(Duration(50us), Duration(2ms));
    scenario.statement_slowest = scenario.statement_fastest + random.between(Duration(500us), Duration(30ms));
    scenario.message_bytes_max = 200'000;
    plan_relay(scenario, random);
    plan_topics(scenario, random);
    plan_writers(scenario, random);
    plan_faults(scenario, random);
    // Of its own randomness: what else a seed plans is the same in either mode.
    if (Random(~seed ^ 0xc1a1).percent(25)) {
        scenario.options.relay.claim = ClaimMode::rows;
        scenario.options.poison.policy = PoisonPolicy::dead_letter;  // the other one is refused with claims
    }
    return scenario;
}

}  // namespace outbox::sim
