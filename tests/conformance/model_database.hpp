// The simulator's model behind the conformance cases' interface: a statement is executed when its answer is asked for,
// and one that waits for a lock is refused, as by lock_timeout. Test threads only.
#pragma once

#include <deque>

#include "conformance/database.hpp"
#include "core/topics.hpp"
#include "sim/postgres_model.hpp"

namespace outbox::conformance {

class ModelDatabase : public Database {
public:
    ModelDatabase();

    Session connect(int worker, Duration lease_ttl = 60s, int process = 0) override;
    void send(Session session, const Action& action) override;
    Reply receive(Session session) override;
    void cut(Session session) override;

    Writer begin() override;
    using Database::insert;
    RowId insert(Writer writer, const NewEvent& event) override;
    void commit(Writer writer) override { model.commit(writer); }
    void rollback(Writer writer) override { model.rollback(writer); }
    void prepare(Writer writer) override { model.prepare(writer); }

    void pause(std::string_view topic) override { model.pause(topic); }
    void resume(std::string_view topic) override { model.resume(topic); }
    void set_rate(std::optional<std::uint64_t> rows_per_second) override { model.set_rate(rows_per_second); }
    void unblock(std::string_view topic, std::int32_t key) override;
    void requeue() override {
        model.requeue([](const sim::MessageRow&) { return true; });
    }
    void open_reader() override { model.open_reader(); }
    void lock_messages(bool locked) override { model.lock_messages(locked); }
    void lock_lanes(LaneSet lanes) override { model.lock_lanes(lanes); }
    void pass_time(Duration time) override { model.step_clock(time); }
    void let_time_pass() override { model.at(model.true_now() + 100ms); }
    void restart() override { model.restart(20); }
    void lose_last_commit() override { model.failover(1); }

    std::vector<std::int64_t> rows() override;
    EventId event_of(RowId id) override;
    std::uint8_t lane_of_key(std::int32_t key) override { return static_cast<std::uint8_t>(key % lane_count); }
    std::vector<std::int64_t> dead_letters() override;
    LaneState lane(std::uint8_t lane) override;
    std::vector<int> workers() override;
    std::string dump() override;

    sim::PostgresModel model;

private:
    std::deque<Topics> topics_;  // of each session
};

}  // namespace outbox::conformance
