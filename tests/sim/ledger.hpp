// The judge: what became of every event, and whether that was allowed. Each duplicate needs a cause: whenever something
// unclean happens to a worker, the rows it held at that moment may each get into the log once more, and no others. One
// thread.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "sim/postgres_model.hpp"

namespace outbox::sim {

class Ledger {
public:
    explicit Ledger(const PostgresModel& postgres) : postgres_(postgres) {}

    // `bad`: it may turn out that it cannot be published, by poison or for another reason.
    void inserted(std::uint64_t event, bool poison, bool bad);
    void cure();  // what was poison is none any more
    void persisted(std::uint64_t event, std::uint32_t topic);
    void acknowledged(std::uint64_t event) { at(event).acknowledged = true; }
    void may_come_again(std::uint64_t event) {
        ++at(event).excuses;
        ++excuses_;
    }
    void may_be_overtaken(std::uint64_t event) { at(event).overtaken = overtaking_possible_; }
    void set_overtaking_possible(bool possible) { overtaking_possible_ = possible; }
    void set_ordered(bool ordered) { ordered_ = ordered; }  // false: rows are claimed, and keep no order
    void deleted(std::uint64_t event);
    void buried(std::uint64_t event, const std::string& code);
    void requeued(std::uint64_t event) { at(event).timeline = timeline_; }  // under an id that is drawn today
    void before_failover();
    void failed_over();

    bool is_poison(std::uint64_t event) const { return event < events_.size() && events_[event].poison; }
    bool is_persisted(std::uint64_t event) const { return event < events_.size() && events_[event].times > 0; }
    // Of all committed events: is each in the log or buried? Those that are not, and are in the table, wait.
    std::uint64_t waiting() const;
    void look_for_losses();

    void violation(std::string what);
    std::function<void(const std::string&)> on_violation;
    const std::vector<std::string>& violations() const { return violations_; }
    std::uint64_t first_deliveries() const { return firsts_; }
    std::uint64_t duplicates() const { return duplicates_; }
    std::uint64_t overtaken() const { return overtaken_; }
    std::uint64_t excuses() const { return excuses_; }

private:
    struct Event {
        std::uint32_t times = 0;  // in the log
        std::uint32_t excuses = 0;
        std::uint32_t timeline = 0;
        bool poison = false;
        bool bad = false;
        bool acknowledged = false;
        bool overtaken = false;
        bool taken_back = false;  // by a failover
    };

    Event& at(std::uint64_t event);
    std::string describe(std::uint64_t event) const;

    const PostgresModel& postgres_;
    std::vector<Event> events_;
    std::map<std::pair<std::uint32_t, std::int32_t>, std::pair<std::uint32_t, RowId>> last_;  // by topic and key
    std::vector<std::string> violations_;
    std::vector<EventHistory::State> before_failover_;
    std::uint32_t timeline_ = 0;  // goes up with every failover: ids are given again
    std::uint64_t firsts_ = 0;
    std::uint64_t duplicates_ = 0;
    std::uint64_t overtaken_ = 0;
    bool overtaking_possible_ = true;
    bool ordered_ = true;
    std::uint64_t excuses_ = 0;
};

}  // namespace outbox::sim
