// World's faults, what operators do, and the peace that follows.
#include <algorithm>

#include "sim/world.hpp"

namespace outbox::sim {

using namespace std::chrono_literals;

void World::strike(const Fault& fault) {
    ++struck_[static_cast<std::size_t>(fault.kind)];
    trace("fault: " + std::string(name_of(fault.kind)) + " for " +
          std::to_string(std::chrono::duration_cast<std::chrono::milliseconds>(fault.lasts).count()) + " ms");
    postgres_.at(schedule_.now());
    if (fault.kind <= FaultKind::lock_lanes)
        strike_database(fault);
    else if (fault.kind <= FaultKind::odd_error)
        strike_kafka(fault);
    else if (fault.kind <= FaultKind::pause_host)
        strike_processes(fault);
    else
        operate(fault);
}

void World::cut_everybody() {
    for (Worker* const worker : living())
        for (SessionLink* const link : {worker->link(), worker->deletes_link()})
            if (link != nullptr) link->cut(random_.between(Duration::zero(), Duration(20ms)));
}

void World::stop_database(Duration lasts) {
    database_.down = true;
    schedule_.in(lasts, [this] { database_.down = false; });
}

void World::strike_database(const Fault& fault) {
    Worker* const worker = pick_worker(fault.pick);
    SessionLink* link = worker == nullptr ? nullptr : worker->link();
    if (worker != nullptr && fault.pick / 64 % 2 == 1 && worker->deletes_link() != nullptr)
        link = worker->deletes_link();
    const auto after = [&](auto what) { schedule_.in(fault.lasts, what); };
    switch (fault.kind) {
        case FaultKind::cut_session:
            if (link != nullptr) link->cut({});
            break;
        case FaultKind::cut_unnoticed:
            if (link != nullptr) link->cut(fault.lasts);
            break;
        case FaultKind::database_down:
        case FaultKind::restart_database:
            cut_everybody();
            postgres_.restart();
            sort_writers_out();
            stop_database(fault.kind == FaultKind::database_down ? fault.lasts : fault.lasts / 20);
            break;
        case FaultKind::failover:
            cut_everybody();
            ledger_.before_failover();
            postgres_.failover(fault.pick % 40,
                               fault.pick % 3 == 0 ? static_cast<std::int64_t>(fault.pick / 8 % 40) : 0);
            ledger_.failed_over();
            look_at_owners_taken_back();
            surroundings_.leases_unsure_until = schedule_.now() + fault.lasts + scenario_.options.relay.lease_ttl;
            sort_writers_out();
            stop_database(fault.lasts);
            break;
        case FaultKind::slow_database:
            database_.slow = true;
            after([this] { database_.slow = false; });
            break;
        case FaultKind::step_clock: {
            // Forwards leases end early; backwards those of the dead end late.
            const bool back = fault.pick % 2 == 0;
            const Duration by = Duration(1ms) * static_cast<std::int64_t>(fault.pick % (back ? 4'000 : 7'200'000));
            postgres_.step_clock(back ? -by : by);
            if (back) clock_behind_ += by;
            surroundings_.leases_unsure_until = schedule_.now() + scenario_.options.relay.lease_ttl;
            break;
        }
        case FaultKind::refuse_deletes:
            database_.refusals += 1 + static_cast<std::uint32_t>(fault.pick % 6);
            break;
        case FaultKind::lock_messages:
            messages_locked_ = true;
            postgres_.lock_messages(true);
            after([this] {
                messages_locked_ = false;
                postgres_.lock_messages(false);
            });
            break;
        default:  // lock_lanes
            postgres_.lock_lanes(LaneSet(fault.pick));
            after([this] { postgres_.lock_lanes({}); });
    }
}

void World::strike_kafka(const Fault& fault) {
    const auto broker = static_cast<std::uint32_t>(fault.pick % cluster_.brokers());
    const auto topic = static_cast<std::uint32_t>(fault.pick % cluster_.topics().size());
    Worker* const worker = pick_worker(fault.pick);
    const auto after = [&](auto what) { schedule_.in(fault.lasts, what); };
    switch (fault.kind) {
        case FaultKind::broker_down:
        case FaultKind::broker_stands_still:
            cluster_.set_broker(broker, fault.kind == FaultKind::broker_down ? KafkaCluster::Broker::down
                                                                             : KafkaCluster::Broker::standing_still);
            schedule_.in(random_.between(Duration(200ms), Duration(3s)), [this] { cluster_.elect(); });
            after([this, broker] { cluster_.set_broker(broker, KafkaCluster::Broker::up); });
            break;
        case FaultKind::cut_broker:
            if (worker != nullptr && worker->producer() != nullptr) worker->producer()->cut(broker);
            break;
        case FaultKind::slow_brokers:
            cluster_.slowness = Duration(1ms) * static_cast<std::int64_t>(fault.pick % 3000);
            after([this] { cluster_.slowness = {}; });
            break;
        case FaultKind::throttle:
            cluster_.throttling = true;
            cluster_.slowness = 300ms;
            after([this] {
                cluster_.throttling = false;
                cluster_.slowness = {};
            });
            break;
        case FaultKind::too_few_replicas:
            cluster_.short_of_replicas_percent = static_cast<std::uint32_t>(fault.pick % 100);
            after([this] { cluster_.short_of_replicas_percent = 0; });
            break;
        case FaultKind::kafka_unreachable:
            if (Process* const process = pick_running(fault.pick)) {
                set_reachable(*process, false);
                after([this, process] { set_reachable(*process, true); });
            }
            break;
        case FaultKind::topic_denied:
            cluster_.topic(topic).denied = true;
            after([this, topic] { cluster_.topic(topic).denied = false; });
            break;
        case FaultKind::topic_missing:
            cluster_.topic(topic).exists = false;
            after([this, topic] { cluster_.topic(topic).exists = true; });
            break;
        case FaultKind::change_limits:
            cluster_.topic(topic).batch_bytes_max = scenario_.topics[topic].batch_bytes_max / 2;
            after([this, topic] { cluster_.topic(topic).batch_bytes_max = scenario_.topics[topic].batch_bytes_max; });
            break;
        case FaultKind::queue_full:
            if (worker != nullptr && worker->producer() != nullptr) {
                worker->producer()->fill_queue(true);
                after([one = worker->producer()->shared_from_this()] { one->fill_queue(false); });
            }
            break;
        case FaultKind::odd_error:
            if (worker != nullptr && worker->producer() != nullptr) worker->producer()->fail_oddly();
            break;
        default:  // producer_fails
            if (worker != nullptr && worker->producer() != nullptr) worker->producer()->fail_fatally();
    }
}

void World::set_reachable(Process& process, bool reachable) {
    process.host.kafka_reachable = reachable;
    for (const auto& worker : process.workers)
        if (worker->running() && worker->producer() != nullptr) worker->producer()->set_reachable(reachable);
}

void World::strike_processes(const Fault& fault) {
    Process* const process = pick_running(fault.pick);
    if (process == nullptr) return;
    switch (fault.kind) {
        case FaultKind::kill:
            kill(*process, fault.lasts / 3, fault.pick % 4 != 0);
            break;
        case FaultKind::terminate:
        case FaultKind::terminate_twice:
            terminate(*process, fault.kind == FaultKind::terminate_twice, fault.pick % 4 != 0);
            break;
        case FaultKind::rolling_restart:
            roll();
            break;
        case FaultKind::join:
            if (running() < 5) start_process();
            break;
        case FaultKind::flap:
            for (int i = 0; i < 4; ++i) {
                schedule_.in(fault.lasts / 4 * i, [this] {
                    if (!calm_ && running() < 5) start_process();
                });
                schedule_.in(fault.lasts / 4 * i + fault.lasts / 8, [this, i] {
                    if (!calm_ && processes_.back()->running())
                        i % 2 == 0 ? terminate(*processes_.back(), false, false) : kill(*processes_.back(), {}, false);
                });
            }
            break;
        default:  // pause_host
            process->host.stands_still_until = schedule_.now() + fault.lasts;
    }
}

void World::operate(const Fault& fault) {
    const std::string& topic = scenario_.topics[fault.pick % scenario_.topics.size()].name;
    const auto after = [&](auto what) { schedule_.in(fault.lasts, what); };
    switch (fault.kind) {
        case FaultKind::pause_topic:
            postgres_.pause(topic);
            after([this, topic] { postgres_.resume(topic); });
            break;
        case FaultKind::pause_all:
            postgres_.pause("*");
            after([this] { postgres_.resume("*"); });
            break;
        case FaultKind::change_rate:
            postgres_.set_rate(20 + fault.pick % 500);
            after([this] { postgres_.set_rate(std::nullopt); });
            break;
        case FaultKind::unblock:
            if (fault.pick % 2 == 0) ledger_.cure();
            postgres_.unblock_all();
            break;
        default:  // requeue
            if (fault.pick % 2 == 0) ledger_.cure();
            requeue();
    }
}

// Dead letters, but for those of keys that a writer has locked: whoever requeues has to wait for them, too.
void World::requeue() {
    const auto free = [this](const MessageRow& row) {
        return row.key < 0 || !key_locks_.contains({static_cast<std::uint32_t>(row.topic), row.key});
    };
    for (const std::uint64_t event : postgres_.requeue(free)) {
        ledger_.requeued(event);
        ++requeued_;
    }
    burials_seen_ = postgres_.dead_letters().size();
}

// What still lasted ends; somebody is there to do the work.
void World::make_peace() {
    trace("calm");
    calm_ = true;
    postgres_.at(schedule_.now());
    database_.down = database_.slow = false;
    database_.refusals = 0;
    messages_locked_ = false;
    postgres_.lock_messages(false);
    postgres_.lock_lanes({});
    cluster_.slowness = {};
    cluster_.throttling = false;
    for (std::uint32_t broker = 0; broker < cluster_.brokers(); ++broker)
        if (cluster_.broker(broker) != KafkaCluster::Broker::up) cluster_.set_broker(broker, KafkaCluster::Broker::up);
    for (std::size_t i = 0; i < scenario_.topics.size(); ++i) {
        KafkaCluster::Topic& topic = cluster_.topic(static_cast<std::uint32_t>(i));
        topic.denied = false;
        topic.exists = true;
        topic.batch_bytes_max = scenario_.topics[i].batch_bytes_max;
        if (postgres_.operators().control.contains(topic.name)) postgres_.resume(topic.name);
    }
    if (postgres_.operators().control.contains("*")) postgres_.resume("*");
    postgres_.set_rate(std::nullopt);
    for (const auto& process : processes_) {
        process->host.stands_still_until = std::min(process->host.stands_still_until, schedule_.now());
        set_reachable(*process, true);
        for (const auto& worker : process->workers) worker->wake();
    }
    while (running() < std::min(scenario_.replicas, 2U)) start_process();
}

}  // namespace outbox::sim
