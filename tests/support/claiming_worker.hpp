// A relay that claims rows, with a session and a producer of its own, over a table and a broker that several of them
// share. Strict: what breaks a promise is a violation. For tests of several workers; one alone, with much more that may
// happen to it, is relay_world.hpp.
#pragma once

#include <algorithm>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <variant>
#include <vector>

#include "core/overloaded.hpp"
#include "core/relay.hpp"

namespace outbox::claiming {

inline constexpr Duration lease_ttl = std::chrono::seconds(3);

struct Row {
    RowId id;
    EventId event_id{};
    std::string topic;
    int writer = 0;              // 0: committed
    std::optional<int> owner{};  // the worker whose transaction has locked it
};

// Table and broker.
struct Shared {
    std::map<std::int64_t, Row> table;
    std::set<int> writers;
    std::int64_t last_id = 0;
    std::uint64_t last_event = 0;
    std::set<EventId> committed;
    std::map<EventId, int> persisted;  // how often
    std::vector<std::string> violations;
    Instant now{std::chrono::seconds(1000)};

    void violation(const std::string& what) { violations.push_back(what); }
};

inline RelayOptions options() {
    RelayOptions options;
    options.relay.claim = ClaimMode::rows;
    options.relay.lease_ttl = lease_ttl;
    options.relay.batch_rows = 8;
    options.relay.in_flight_rows = 64;
    return options;
}

class ClaimingWorker {
public:
    ClaimingWorker(int number, Shared& shared) : number_(number), shared_(shared) { boot(); }

    void boot() {
        relay_ = std::make_unique<Relay>(options(), RelayLimits{.seed = static_cast<std::uint64_t>(number_)});
        relay_->on(ProducerOpened{}, shared_.now);
        open_session();
    }

    void open_session() {
        session_ = true;
        relay_->on(SessionOpened{}, shared_.now);
        act();
    }

    void cut() {
        if (!session_) return;
        session_ = false;
        release();
        commands_.clear();
        answers_.clear();
        relay_->on(SessionLost{}, shared_.now);
        act();
        open_session();
    }

    void crash() {
        release();
        commands_.clear();
        answers_.clear();
        in_flight_.clear();
        boot();
    }

    void act() {
        while (const auto action = relay_->next(shared_.now)) send(*action);
    }

    bool execute() {
        if (commands_.empty()) return false;
        const Command command = std::move(commands_.front());
        commands_.pop_front();
        run(command);
        return true;
    }

    bool answer() {
        if (answers_.empty()) return false;
        Answer answer = std::move(answers_.front());
        answers_.pop_front();
        std::visit(Overloaded{[](std::monostate) {},
                              [&](RowsRead& event) {
                                  batch_ = answer.rows;
                                  event.rows = answer.heads;
                                  relay_->on(event, shared_.now);
                              },
                              [&](ProbeAnswered& event) {
                                  event.holders = answer.holders;
                                  relay_->on(event, shared_.now);
                              },
                              [&](auto& event) { relay_->on(event, shared_.now); }},
                   answer.event);
        act();
        return true;
    }

    std::size_t deliver(std::size_t rows_max) {
        std::vector<Slot> slots;
        for (; slots.size() < rows_max && !in_flight_.empty(); in_flight_.pop_front()) {
            ++shared_.persisted[in_flight_.front().event_id];
            slots.push_back(in_flight_.front().slot);
        }
        if (!slots.empty()) relay_->on(Delivered{slots}, shared_.now);
        act();
        return slots.size();
    }

    void fail() {
        std::vector<FailedRow> rows;
        for (const Sent& sent : in_flight_) rows.push_back({sent.slot, {FailureKind::in_doubt, "TEST", ""}, false});
        in_flight_.clear();
        if (!rows.empty()) relay_->on(Failed{rows}, shared_.now);
        act();
    }

    void drain() {
        relay_->drain();
        act();
    }

    const Relay& relay() const { return *relay_; }
    std::size_t in_flight() const { return in_flight_.size(); }
    bool dry() const { return in_flight_.empty() && relay_->window().rows() == 0; }
    std::uint32_t living = 1;
    Duration held_longest{};

private:
    struct Command {
        Action action;
        std::vector<RowId> ids{};
        std::vector<EventId> event_ids{};
        std::vector<std::uint8_t> known{};
    };
    struct Answer {
        std::variant<std::monostate, LeasesRenewed, RowsRead, ProbeAnswered, RowsDeleted, RowsBuried, ControlRead,
                     BlockedKeysRead, CrashesRead>
            event{};
        std::vector<RowHead> heads{};
        std::vector<Row> rows{};
        std::vector<Holder> holders{};
    };
    struct Sent {
        Slot slot{};
        EventId event_id{};
    };

    void send(const Action& action) {
        if (const auto* publish = std::get_if<Publish>(&action)) {
            for (const Admission& row : publish->rows) in_flight_.push_back({row.slot, batch_.at(row.row).event_id});
            return;
        }
        Command command{action};
        const auto* const rows = std::get_if<DeleteRows>(&action);
        const bool ends = std::holds_alternative<EndClaim>(action) || (rows != nullptr && rows->ends_claim);
        if (ends != claimed_at_.has_value()) shared_.violation("said inside a claim, or a claim ended twice");
        if (ends && claimed_at_) {
            held_longest = std::max(held_longest, shared_.now - *claimed_at_);
            claimed_at_.reset();
        }
        if (rows != nullptr) {
            command.ids.assign(rows->ids.begin(), rows->ids.end());
            command.event_ids.assign(rows->event_ids.begin(), rows->event_ids.end());
        }
        if (const auto* read = std::get_if<ReadRows>(&action)) {
            command.known.assign(read->known.begin(), read->known.end());
            if (read->claim) claimed_at_ = shared_.now;
        }
        commands_.push_back(std::move(command));
    }

    void release() {
        unlock();
        claimed_at_.reset();
    }

    void run(const Command& command) {
        answers_.push_back(std::visit(
            Overloaded{[&](const RenewLeases& renew) -> Answer {
                           if (renew.leases) shared_.violation("leases where rows are claimed");
                           return {LeasesRenewed{shared_.now, {}, living, static_cast<std::uint32_t>(number_)}};
                       },
                       [&](const ReadRows& read) { return run_read(command, read); },
                       [&](const Probe&) -> Answer {
                           Answer answer{ProbeAnswered{RowId{shared_.last_id}, {}}};
                           for (const int writer : shared_.writers)
                               answer.holders.push_back({static_cast<std::uint64_t>(writer), false});
                           return answer;
                       },
                       [&](const DeleteRows& rows) { return run_delete(command, rows); },
                       [&](const EndClaim&) -> Answer {
                           unlock();
                           return {};
                       },
                       [&](const BuryRow&) -> Answer { return {RowsBuried{}}; },
                       [&](const ReadControl&) -> Answer { return {ControlRead{}}; },
                       [&](const ReadBlockedKeys&) -> Answer { return {BlockedKeysRead{}}; },
                       [&](const ReadCrashes&) -> Answer { return {CrashesRead{}}; },
                       [&](const auto&) -> Answer { return {}; }},
            command.action));
    }

    Answer run_read(const Command& command, const ReadRows& read) {
        Answer answer{RowsRead{}};
        RowId& lowest = std::get<RowsRead>(answer.event).lowest;
        for (auto at = shared_.table.upper_bound(read.after.value);
             at != shared_.table.end() && answer.rows.size() < read.limit; ++at) {
            Row& row = at->second;
            if (row.id > read.upto) break;
            if (row.writer != 0) continue;
            if (read.claim) {
                lowest = std::min(lowest, row.id);
                const std::int64_t bit = row.id.value - read.known_base.value;
                const auto byte = static_cast<std::size_t>(bit / 8);
                const bool known = bit >= 0 && byte < command.known.size() &&
                                   ((unsigned{command.known[byte]} >> static_cast<unsigned>(bit % 8)) & 1U) != 0;
                if (known || row.owner) continue;
                row.owner = number_;
            }
            answer.heads.push_back({.id = row.id,
                                    .event_id = row.event_id,
                                    .topic = relay_->topics().index_of(row.topic),
                                    .bytes = 200,
                                    .lane = static_cast<std::uint8_t>(row.id.value % lane_count)});
            answer.rows.push_back(row);
        }
        return answer;
    }

    Answer run_delete(const Command& command, const DeleteRows& rows) {
        if (!rows.ends_claim && (!rows.skip_locked || command.event_ids.empty()))
            shared_.violation("waits for the locks of others");
        for (std::size_t i = 0; i < command.ids.size(); ++i) {
            const auto found = shared_.table.find(command.ids[i].value);
            if (found == shared_.table.end()) continue;
            const Row& row = found->second;
            if (!command.event_ids.empty() && command.event_ids[i] != row.event_id) continue;
            if (rows.ends_claim && row.owner != number_) shared_.violation("deleted without its lock");
            if (!rows.ends_claim && row.owner && row.owner != number_) continue;
            if (!shared_.persisted.contains(row.event_id)) shared_.violation("deleted before it was acknowledged");
            shared_.table.erase(found);
        }
        if (rows.ends_claim) unlock();
        return {RowsDeleted{}};
    }

    void unlock() {
        for (auto& [id, row] : shared_.table)
            if (row.owner == number_) row.owner.reset();
    }

    int number_;
    Shared& shared_;
    std::unique_ptr<Relay> relay_;
    bool session_ = false;
    std::deque<Command> commands_;
    std::deque<Answer> answers_;
    std::vector<Row> batch_;
    std::deque<Sent> in_flight_;
    std::optional<Instant> claimed_at_;
};

}  // namespace outbox::claiming
