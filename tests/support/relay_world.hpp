// A small, strict world for Relay, in memory: the outbox table with its writers, the session that executes statements
// in the order they were sent, and the broker. Nothing happens by itself: a test, or run_for(), moves it on.
// crash() ends the relay abruptly and puts a new one over the same table.
// Whatever breaks a promise of the relay is written down in `violations`.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <variant>
#include <vector>

#include "core/relay.hpp"

namespace outbox {

struct RelayWorldSettings : RelayOptions {
    RelayLimits limits;
};

struct NewRow {
    int key = 0;  // its lane is key % 64; below 0: none
    std::string topic = "orders";
    std::uint32_t bytes = 200;
};

class RelayWorld {
public:
    explicit RelayWorld(RelayWorldSettings settings = {});

    // ---- writers ----
    using Writer = std::uint64_t;
    Writer begin();
    RowId insert(Writer writer, const NewRow& row);
    void commit(Writer writer);
    void rollback(Writer writer);
    void prepare(Writer writer);  // commit() and rollback() end it as well
    RowId insert(const NewRow& row = {});
    void insert_many(std::size_t count, const NewRow& row = {});

    // ---- the session ----
    void open_session();
    void lose_session();
    bool execute();  // the oldest statement takes effect; its answer is on its way
    bool answer();   // the oldest answer arrives
    void answer_all();
    void steal(std::uint8_t lane) { owners[lane] = Owner::another; }

    // ---- the broker ----
    void open_producer();
    void lose_producer();
    std::size_t deliver(std::size_t rows_max);
    void fail(FailureKind kind, const std::vector<std::size_t>& places);  // positions in `in_flight`
    void fail_all(FailureKind kind);
    void fail_topic(FailureKind kind, const std::string& topic);
    void stick(const std::string& topic);    // its rows are not acknowledged from now on
    void unstick(const std::string& topic);  // they are again, the ones held up first
    std::size_t stuck() const { return stuck_rows_.size(); }

    // ---- operators ----
    void pause(bool paused);
    void pause_topic(const std::string& topic, bool paused);
    void set_rate(std::optional<std::uint64_t> rows_per_second);
    void unblock(int key);  // in every topic

    // ---- time ----
    void start();  // session, producer, leases: ready to relay
    void act();    // everything the relay wants now
    bool step();   // everything that is on its way arrives
    // The process dies and another starts: what was in flight is gone, but for the first rows, which the broker wrote.
    void crash(std::size_t persisted = 0);
    void run_for(Duration duration);
    void prove(const std::string& topic);  // the broker has taken a row of it
    Writer hold_low();                     // a writer that stays open keeps `low` where it is
    std::string problems() const;          // all violations
    bool drained_dry() const { return table.empty() && in_flight.empty() && relay.window().rows() == 0; }

    enum class Owner : std::uint8_t { nobody, us, another };
    struct Row {
        RowId id;
        EventId event_id{};
        NewRow row;
        Writer writer = 0;  // 0: committed
        std::uint8_t lane() const { return static_cast<std::uint8_t>((row.key < 0 ? id.value : row.key) % lane_count); }
    };
    struct Record {
        Slot slot{};
        Row row;
        Instant sent_at;
    };

    Relay relay;
    Instant now{std::chrono::seconds(1000)};
    std::map<std::int64_t, Row> table;
    std::deque<Record> in_flight;
    std::vector<RowId> published;  // as handed to the producer
    std::vector<RowId> persisted;  // as the broker wrote them
    std::vector<RowId> buried;
    std::map<std::pair<std::string, int>, Row> blocked_keys;
    std::vector<Attempt> attempts;   // the notes of the processes that crashed, the latest first
    std::size_t refuse_deletes = 0;  // so many deletes and burials are refused from now on
    std::vector<RowId> noted;        // the note: ids of the last read that wrote them down
    std::size_t crashes_forgotten = 0;
    std::set<RowId> poison;     // the broker rejects the batch one of these is in: all rows of its topic and lane
    bool gapless = false;       // and then whatever is behind it, whereupon the producer has to be replaced
    Duration broker_latency{};  // from the publication to the acknowledgement
    std::size_t wake_ups = 0;   // of run_for(), that found nothing on its way
    std::uint32_t told_in_flight = 0;  // by the last renewal
    std::int64_t told_revision = 0;
    std::vector<Action> actions;  // spans in them are stale, but their sizes are not
    std::vector<ReadRows> reads;  // the same
    std::vector<RowId> deleted;   // asked for by executed statements
    std::size_t guarded_deletes = 0;
    std::size_t claims = 0;
    std::set<RowId> locked;   // by claims of other workers
    Duration held_longest{};  // a claim
    std::vector<std::string> violations;
    std::array<Owner, lane_count> owners{};
    std::uint32_t living = 1;
    std::uint32_t rank = 0;
    std::int64_t last_id = 0;
    std::uint64_t bytes_in_flight_max = 0;
    bool broker_up = true;
    bool left = false;
    std::set<EventId> lost;  // committed and neither persisted nor buried yet

private:
    struct Command {
        Action action;
        Instant sent_at;
        std::vector<RowId> ids;
        std::vector<EventId> event_ids;
        std::vector<std::uint8_t> known;
        std::vector<TopicIndex> without;
        std::vector<RowId> without_keys_of;
    };
    struct Left {};
    struct Noted {};
    struct Answer {
        std::variant<LeasesRenewed, LanesAcquired, LanesReleased, RowsRead, ProbeAnswered, RowsDeleted, DeleteRefused,
                     RowsBuried, BurialRefused, ControlRead, BlockedKeysRead, CrashesRead, Noted, Left>
            event;
        std::vector<RowHead> rows{};
        std::vector<Row> contents{};
        std::vector<Holder> holders{};
        std::vector<std::string> paused_topics{};
        std::vector<KeyBlock> blocked{};
    };

    void reject(const Row& culprit);
    void send(const Action& action);
    void publish(const Publish& action);
    void no_busy_loop();
    Answer run(const Command& command);
    Answer run_read(const Command& command, const ReadRows& read);
    Answer run_delete(const Command& command);
    Answer run_acquire(const Command& command);
    Answer run_burial(const BuryRow& burial);
    Answer run_control();
    Answer run_blocked_keys();
    bool refused();
    static std::uint64_t hash_of(const NewRow& row);
    BlockedDigest blocked_digest() const;
    void persist(const Row& row);
    void violation(const std::string& what, RowId id);
    void look_at_claim(const Action& action);
    void look_at_delete(const Command& command);
    bool claims_rows() const { return settings_.relay.claim == ClaimMode::rows; }

    RelayWorldSettings settings_;
    std::deque<Command> commands_;
    std::deque<Answer> answers_;
    std::vector<Row> batch_;          // contents of the last read
    std::map<Writer, bool> writers_;  // true: prepared
    std::set<EventId> in_flight_events_;
    std::set<std::string> stuck_;
    std::deque<Record> stuck_rows_;
    std::set<EventId> acknowledged_;
    std::set<EventId> seen_;
    std::map<std::pair<std::string, int>, RowId> last_of_key_;
    LaneSet given_back_;
    std::int64_t control_revision_ = 0;
    bool paused_ = false;
    std::set<std::string> paused_topics_;
    std::optional<std::uint64_t> rate_;
    Writer next_writer_ = 1;
    std::uint64_t next_event_ = 1;
    std::int64_t processes_ = 0;
    bool session_ = false;
    bool producer_ = false;
    std::optional<Instant> claimed_at_;  // a claim is open since
    std::set<RowId> claimed_;            // what it holds
};

}  // namespace outbox
