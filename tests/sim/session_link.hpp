// One worker's connection to the Postgres model: statements take time to get there, run one after the other, and their
// answers take time to come back. When it breaks, what was sent may still be executed, and no answer tells. One thread.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <variant>
#include <vector>

#include "sim/ledger.hpp"
#include "sim/postgres_model.hpp"
#include "sim/random.hpp"
#include "sim/schedule.hpp"

namespace outbox::sim {

// How the database and the way to it are at the moment; shared by all links.
struct DatabaseWeather {
    Duration fastest{};
    Duration slowest{};
    bool slow = false;
    bool down = false;
    std::uint32_t refusals = 0;               // deletes and burials to come that are refused
    std::function<void(SessionId)> executed;  // after each statement
};

class SessionLink : public std::enable_shared_from_this<SessionLink> {
public:
    SessionLink(PostgresModel& postgres, Schedule& schedule, Random random, Ledger& ledger, DatabaseWeather& weather,
                const WorkerName& worker, std::function<void()> wake);

    void connect();
    void send(const Action& action, const Topics& topics, Instant now);
    std::optional<PostgresModel::Answer> take_answer(Topics& topics);
    bool broken() const { return broken_; }  // as the worker knows
    void close();                            // the worker gives it up
    // The connection breaks; the worker notices after `unnoticed_for`.
    void cut(Duration unnoticed_for);
    SessionId id() const { return *session_; }
    bool open() const { return session_.has_value() && !cut_; }

private:
    struct Sent {
        std::vector<RowId> ids;
        bool refusable = false;
        bool claims = false;
    };

    Duration trip();
    void serve_in(Duration delay);
    void serve();
    void look_whether_it_lives();
    void account(const std::vector<std::pair<RowId, std::uint64_t>>& before);

    PostgresModel& postgres_;
    Schedule& schedule_;
    Random random_;
    Ledger& ledger_;
    DatabaseWeather& weather_;
    const WorkerName worker_;
    const std::function<void()> wake_;
    std::optional<SessionId> session_;
    std::deque<Sent> sent_;
    std::size_t arrived_ = 0;  // answers
    Instant last_arrival_{};
    bool serving_ = false;
    bool cut_ = false;
    bool broken_ = false;
    bool closed_ = false;
};

}  // namespace outbox::sim
