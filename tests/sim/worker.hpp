// One simulated worker: the relay that ships, driven as app/worker.cpp drives it: reports are collected, answers taken,
// actions carried out, whatever breaks is rebuilt with backoff. It lives on a host whose clock has its own offset and
// drift, and which may stand still while the world goes on. One thread.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <sstream>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "core/delete_gate.hpp"
#include "core/relay.hpp"
#include "sim/kafka_producer.hpp"
#include "sim/ledger.hpp"
#include "sim/session_link.hpp"

namespace outbox::sim {

struct Host {
    Duration offset{};
    std::int64_t drift_ppm = 0;
    Instant stands_still_until{};
    bool kafka_reachable = true;

    Instant clock(Instant world) const { return world + offset + elapsed(world) * drift_ppm / 1'000'000; }
    // When its clock will show `host`, a trifle late rather than early.
    Instant when(Instant host) const {
        return host - offset - elapsed(host - offset) + elapsed(host - offset) * 1'000'000 / (1'000'000 + drift_ppm) +
               std::chrono::microseconds(1);
    }

private:
    static Duration elapsed(Instant world) { return world - Instant(std::chrono::seconds(1000)); }
};

// What all workers share: the world they live in.
struct Surroundings {
    Schedule& schedule;
    PostgresModel& postgres;
    KafkaCluster& cluster;
    DatabaseWeather& database;
    Ledger& ledger;
    KafkaProducer::Traits producer;
    Instant leases_unsure_until{};  // a clock step or a failover: the table may not know what workers trust in
    std::uint64_t producers = 0;
    bool traced = false;
    std::function<void(const std::string&)> trace;
};

class Worker : public std::enable_shared_from_this<Worker> {
public:
    Worker(Surroundings& world, Host& host, WorkerName name, const RelayOptions& options, RelayLimits limits,
           Random random, std::function<void()> ended);

    void start() { wake(); }
    void drain() {
        drain_requested_ = true;
        wake();
    }
    void hurry() {
        hurry_requested_ = true;
        wake();
    }
    void die(Duration late_by);  // kill -9
    bool ended() const { return ended_; }
    bool running() const { return !ended_ && !dead_; }
    void wake() { turn_at(world_.schedule.now()); }

    const WorkerName& name() const { return name_; }
    const Relay& relay() const { return relay_; }
    // The main one, and the one that deletes; null where there is none.
    SessionLink* link() { return link_.get(); }
    SessionLink* deletes_link() { return deletes_link_.get(); }
    KafkaProducer* producer() { return producer_.get(); }
    Host& host() { return host_; }
    std::uint64_t turns() const { return turns_; }
    // The rows it holds of these lanes may get into the log once more: somebody else will send them, too.
    void excuse(LaneSet lanes);
    std::uint32_t held_of(std::uint8_t lane) const { return relay_.window().held_of(lane); }
    bool holds(std::uint64_t event) const { return events_in_flight_.contains(event) || acknowledged_.contains(event); }

private:
    void turn_at(Instant when);
    void turn();
    void check(Instant now, std::size_t done);
    template <class... Parts>
    void trace(const Parts&... parts) const {
        if (!world_.traced) return;
        std::ostringstream line;
        line << "  worker " << name_.pid << "/" << std::hex << int{name_.id[0]} << std::dec << ": ";
        (line << ... << parts);
        world_.trace(line.str());
    }
    void trace(const Action& action) const;
    void serve_producer(Instant now);
    void tell_of_cluster(Instant now);
    void ask_limits(Instant now);
    void lose_producer(Instant now);
    void finish_retiring(Instant now);
    void drop_producer();
    void serve_session(Instant now);
    void take(PostgresModel::Answer& answer, Instant now);
    std::shared_ptr<SessionLink> connect();
    std::optional<PostgresModel::Answer> next_answer();
    void lose_session(Instant now);
    void close_links();
    void act(Instant now);
    void carry_out(const Publish& publish, Instant now);
    std::optional<Failure> publish(const Admission& row, Instant now);
    void published(std::uint64_t event, const Window::Entry& row);
    bool has_claimed(std::uint64_t event, RowId id) const;
    void step_drain(Instant now);
    void end();
    Instant next_turn(Instant now) const;
    void released(Slot slot);
    void acknowledged(Slot slot);

    Surroundings& world_;
    Host& host_;
    const WorkerName name_;
    const RelayOptions options_;
    Random random_;
    Relay relay_;
    const std::function<void()> on_end_;

    std::shared_ptr<SessionLink> link_;
    std::shared_ptr<SessionLink> deletes_link_;
    std::deque<PostgresModel::Answer> deleted_;
    DeleteGate gate_;
    std::optional<PostgresModel::Answer> opened_;  // the main one's, until both are
    bool session_ready_ = false;
    std::uint32_t session_failures_ = 0;
    Instant session_retry_at_{};
    std::shared_ptr<KafkaProducer> producer_;
    bool producer_announced_ = false;
    bool producer_dying_ = false;
    Instant producer_patience_until_{};
    bool connected_ = false;
    std::uint32_t producer_failures_ = 0;
    Instant producer_retry_at_{};
    std::size_t limits_asked_ = 0;
    Instant limits_again_at_{};
    ProducerReports reports_;
    PostgresModel::Answer batch_;  // the rows of the last read
    std::vector<FailedRow> refused_;

    bool drain_requested_ = false;
    bool hurry_requested_ = false;
    bool purged_ = false;
    bool left_ = false;
    bool ended_ = false;
    bool dead_ = false;
    Instant drain_deadline_ = never;

    Instant turn_at_ = never;  // world time
    std::uint64_t turns_ = 0;
    std::uint32_t idle_turns_ = 0;  // in a row, within a millisecond
    Instant idle_since_{};
    std::size_t done_ = 0;  // in this turn
    // What the relay's rows are, for the ledger: in flight by slot, and acknowledged.
    struct Held {
        std::uint64_t event;
        std::uint8_t lane;
    };
    std::unordered_map<std::uint32_t, Held> in_flight_;
    std::unordered_map<std::uint64_t, std::uint8_t> acknowledged_;  // event to lane
    std::unordered_set<std::uint64_t> events_in_flight_;
};

}  // namespace outbox::sim
