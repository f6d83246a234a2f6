// A strict model of Postgres as the relay's statements see it: the tables, the writers of outbox.message, the
// operators, and any number of relay sessions, each a pipeline of statements. Nothing happens by itself: whoever drives
// it decides when a statement takes effect and when its answer arrives. tests/conformance holds it to a real Postgres.
// One thread.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "core/messages.hpp"
#include "core/topics.hpp"
#include "sim/postgres_answer.hpp"
#include "sim/postgres_tables.hpp"

namespace outbox::sim {

class PostgresModel {
public:
    using Answer = PostgresAnswer;

    explicit PostgresModel(std::vector<std::string> topics = {"orders"});

    // ---- time: true time, and the database's clock, which may be stepped against it ----
    void at(Instant true_now);  // ends sessions that have been idle in a transaction for too long
    Instant true_now() const { return true_now_; }
    void step_clock(Duration by) { clock_offset_ += by; }
    std::int64_t clock_us() const;  // microseconds since 2000-01-01

    // ---- sessions ----
    SessionId connect(const WorkerName& worker);  // the first answer is SessionOpened
    // The relay loses the session. Of what it sent and was not executed yet, the first `reached` statements are with
    // the server already, which does not know: they may still be executed, and nobody will get their answers.
    // `noticed`: after these the server knows, and rolls back what is open; otherwise it waits for the rest of a
    // transaction.
    void cut(SessionId session, std::size_t reached = 0, bool noticed = true);
    bool connected(SessionId session) const { return sessions_.at(session).connected; }
    void send(SessionId session, const Action& action, const Topics& topics, Instant now);
    // The oldest statement takes effect. False: there is none, or it waits for a lock. Probe is two statements, and so
    // is a claim, executed one at a time.
    bool execute(SessionId session);
    // The oldest statement is cancelled (a time-out, a deadlock). False: that ended the session, as the relay only
    // tries deletes and burials again.
    bool refuse(SessionId session);
    std::optional<Answer> take_answer(SessionId session, Topics& topics);
    std::size_t waiting(SessionId session) const { return sessions_.at(session).commands.size(); }
    std::size_t answers(SessionId session) const { return sessions_.at(session).answers.size(); }
    const WorkerName& worker_of(SessionId session) const { return sessions_.at(session).worker; }
    std::size_t sessions() const { return sessions_.size(); }

    // ---- writers ----
    WriterId begin();
    RowId insert(WriterId writer, const NewRow& row);  // draws the id and takes the writers' lock
    void commit(WriterId writer);                      // of a prepared one: COMMIT PREPARED
    void rollback(WriterId writer);
    void prepare(WriterId writer);
    std::vector<WriterId> writers(bool prepared) const;  // the open ones, or the prepared ones
    WriterId writer_of(const Holder& holder) const;      // 0: none of these
    bool is_open(WriterId writer) const { return writers_.contains(writer); }

    // ---- others: snapshots that keep dead rows, locks ----
    ReaderId open_reader();
    void close_reader(ReaderId reader);
    void vacuum();  // removes the dead rows that nobody's snapshot needs
    std::size_t dead_rows() const { return dead_.size(); }
    // Deletes, burials and inserts wait; reads do not. As where a table is rewritten, all rows lie elsewhere
    // afterwards.
    void lock_messages(bool locked);
    void lock_lanes(LaneSet lanes) { locked_lanes_ = lanes; }  // acquisitions skip these, renewals and releases wait

    // ---- operators ----
    void pause(std::string_view topic);  // "*": everything
    void resume(std::string_view topic);
    void set_rate(std::optional<std::uint64_t> rows_per_second);
    void unblock(TopicName topic, std::string_view key);  // the key's text
    void unblock_all();
    // The dead letters that `which` names become rows again, in the order they arrived, under ids of their own. Returns
    // their events.
    std::vector<std::uint64_t> requeue(const std::function<bool(const MessageRow&)>& which);

    // ---- the server ----
    void restart(std::int64_t ids_skipped =
                     0);  // sessions are cut, open writers rolled back; prepared ones go by another name afterwards
    // A standby that lacks the last commits takes over. The ids drawn for them are drawn again, after `ids_skipped`.
    void failover(std::size_t commits_lost, std::int64_t ids_skipped = 0);
    // Before Postgres 14.1 a prepared transaction lost its virtual transaction id at once, not at the next restart.
    void rename_prepared_at_once(bool at_once) { rename_prepared_at_once_ = at_once; }

    // ---- what is there, and what was ----
    const std::vector<MessageRow>& messages() const { return messages_; }  // by id, uncommitted ones too
    const MessageRow* find(RowId id) const;
    const Fleet& fleet() const { return fleet_; }
    const Operators& operators() const { return operators_; }
    const std::vector<DeadLetter>& dead_letters() const { return dead_letters_; }
    RowId last_drawn() const { return RowId{last_id_}; }
    // By MessageRow::event; the first is nobody's.
    const std::vector<EventHistory>& history() const { return history_; }
    const std::vector<OwnerChange>& owner_changes() const { return owner_changes_; }
    // A claim ended, or was rolled back, and this event's row is still there: others may claim it.
    std::function<void(std::uint64_t event)> unlocked = [](std::uint64_t) {};
    std::uint64_t commits() const { return commits_; }
    std::uint64_t rows_examined() const { return rows_examined_; }
    // What no correct relay asks of a database.
    const std::vector<std::string>& violations() const { return violations_; }

    const std::string& name_of(TopicName topic) const { return topics_.at(static_cast<std::size_t>(topic)); }
    TopicName topic_named(std::string_view name);  // known or new
    static std::string key_text(const MessageRow& row);
    static EventId event_id(std::uint64_t event);
    static std::uint64_t event_of(const EventId& id);
    // The lane of key 0, 1, …; without it, lane = key % 64.
    void set_lanes_of_keys(std::vector<std::uint8_t> lanes) { lanes_of_keys_ = std::move(lanes); }

private:
    struct Open {};
    struct Command {
        std::variant<Open, RenewLeases, AcquireLanes, ReleaseLanes, LeaveFleet, ReadRows, Probe, DeleteRows, BuryRow,
                     EndClaim, ReadControl, ReadBlockedKeys, ReadCrashes, WithdrawNote, ForgetCrashes>
            action;
        Instant sent_at{};
        std::vector<RowId> ids{};
        std::vector<EventId> event_ids{};
        std::vector<std::uint64_t> places{};
        std::vector<std::uint8_t> known{};
        std::vector<TopicName> without{};
        std::vector<RowId> without_keys_of{};
        std::optional<TopicName> topic{};
        std::string code{};
        std::optional<Answer> first_half{};  // of two statements
    };
    struct Session {
        WorkerName worker;
        bool connected = true;
        bool noticed = false;     // the server knows that it is cut
        bool claim_sent = false;  // and its end was not
        Instant idle_since{};
        std::deque<Command> commands{};
        std::deque<Answer> answers{};
    };
    struct Writer {
        std::uint64_t holder = 0;       // virtual transaction; 0: holds no lock yet
        std::uint64_t transaction = 0;  // what it goes by when it is prepared and has no virtual transaction
        std::uint64_t begun = 0;
        bool prepared = false;
        bool renamed = false;
    };
    struct Dead {
        std::int64_t id;
        std::uint64_t died;
    };
    // How to take a commit back.
    struct Undo {
        enum class Kind : std::uint8_t { statement, commit, prepare, commit_prepared, rollback_prepared, requeue };
        Kind kind = Kind::statement;
        WriterId writer_id = 0;
        Writer writer{};
        std::vector<RowId> inserted{};
        std::vector<MessageRow> removed{};
        std::optional<Fleet> fleet{};
        std::optional<Operators> operators{};
        std::size_t dead_letters = 0;
        std::vector<DeadLetter> letters{};  // with requeue: all, as they were
        std::int64_t highest_id = 0;
    };

    bool waits(SessionId session, const Command& command) const;
    bool waits_for_rows(SessionId session, const Command& command) const;
    void watch_claims(SessionId session, const Action& action);
    Answer run(SessionId session, Command& command);
    Answer renew(const WorkerName& worker, const RenewLeases& action, Instant sent_at);
    Answer acquire(const WorkerName& worker, Instant sent_at);
    void release(const WorkerName& worker, LaneSet lanes);
    void leave(const WorkerName& worker);
    Answer read(const WorkerName& worker, const Command& command, const ReadRows& action);
    bool wanted(const MessageRow& row, const Command& command, const ReadRows& action);
    Answer lowest_claimable(const Command& command, const ReadRows& action) const;
    Answer claim(SessionId session, Command& command, const ReadRows& action);
    bool claimable(const MessageRow& row, const Command& command, const ReadRows& action) const;
    void end_claim(SessionId session);
    void complete(RowHead& head, const MessageRow& row, Topics& topics) const;
    std::uint64_t dead_between(RowId after, RowId upto) const;
    Answer probe_holders(Answer answer) const;
    Answer remove(SessionId session, const Command& command);
    void bury(SessionId session, const BuryRow& action, const std::string& code);
    Answer control() const;
    Answer blocked_keys() const;
    Answer crashes(const WorkerName& worker) const;
    void note(const WorkerName& worker, std::optional<RowId> from, std::optional<RowId> upto);
    bool is_blocked(const MessageRow& row, const std::vector<RowId>& by) const;
    void forget_crashes(const WorkerName& worker);
    BlockedDigest blocked_digest() const;
    WorkerRow* worker_row(const EventId& id);
    std::pair<std::uint32_t, std::uint32_t> living_and_rank(const WorkerName& worker) const;
    void mend_times_ahead(const WorkerName& worker);

    void end_everything();
    void take_back(Undo undo);
    Undo& log(Undo::Kind kind);
    void log_fleet();
    void log_operators();
    void add_dead(RowId id, std::uint64_t died);
    void put_back(const MessageRow& row, EventHistory::State state);
    void gone(const MessageRow& row, EventHistory::State state, SessionId by);
    void owner_changed(std::uint8_t lane);
    std::vector<MessageRow>::iterator position(RowId id);
    MessageRow* committed(RowId id, const EventId& event_id);
    std::uint8_t lane_of(const NewRow& row, RowId id) const;
    ControlRow& upserted_control(std::string_view topic);
    void violation(std::string what) { violations_.push_back(std::move(what)); }

    std::vector<std::string> topics_;
    std::vector<std::uint8_t> lanes_of_keys_;
    Instant true_now_{};
    Duration clock_offset_{};

    std::vector<MessageRow> messages_;
    std::vector<Dead> dead_;  // by id
    std::int64_t last_id_ = 0;
    std::int64_t highest_id_ = 0;  // of what was committed or prepared
    Fleet fleet_;
    Operators operators_;
    std::vector<DeadLetter> dead_letters_;
    bool messages_locked_ = false;
    LaneSet locked_lanes_;

    std::map<WriterId, Writer> writers_;
    WriterId last_writer_ = 0;
    std::uint64_t last_holder_ = 0;
    std::uint64_t last_transaction_ = 1000;
    bool rename_prepared_at_once_ = false;
    std::map<ReaderId, std::uint64_t> readers_;
    ReaderId last_reader_ = 0;
    std::uint64_t step_ = 0;  // orders deaths and snapshots

    std::deque<Session> sessions_;
    std::set<SessionId> claims_;  // the sessions in a transaction
    std::deque<Undo> undo_;
    std::vector<EventHistory> history_;
    std::vector<OwnerChange> owner_changes_;
    std::uint64_t commits_ = 0;
    std::uint64_t rows_examined_ = 0;
    std::vector<std::string> violations_;
    bool failed_ = false;  // the statement under way, by an error that ends the session
};

}  // namespace outbox::sim
