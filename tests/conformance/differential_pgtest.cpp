// The same random steps on the model and on a real Postgres: every answer, and the tables in the end, have to agree.
#include <doctest/doctest.h>

#include <cstdlib>
#include <map>
#include <random>
#include <utility>

#include "conformance/model_database.hpp"
#include "conformance/server_database.hpp"

namespace outbox::conformance {

namespace {

constexpr int keys = 12;

class Differential {
public:
    explicit Differential(std::uint64_t seed) : random_(seed) {
        std::vector<std::uint8_t> lanes;
        for (int key = 0; key < keys; ++key) lanes.push_back(server_.lane_of_key(key));
        model_.model.set_lanes_of_keys(lanes);
        for (int i = 0; i < 2; ++i) connect();
    }

    void step() {
        switch (below(15)) {
            case 0:
            case 1:
                return write();
            case 2:
            case 3:
                return end_writer();
            case 4:
                return operate();
            case 5:
                return pass_time();
            case 6:
                if (sessions_.size() == 4 || below(3) == 0) return reconnect();
                connect();
                return;
            case 7:
                return claim();
            default:
                return talk();
        }
    }

    void finish() {
        unlock();
        while (!claims_.empty()) end_claim(claims_.begin()->first);
        const auto session = sessions_.empty() ? connect() : sessions_.front();
        for (const Action& action : std::vector<Action>{everything(), Probe{}, ReadControl{}, ReadBlockedKeys{}}) {
            both([&](Database& database) { database.send(session, action); });
            compare(session);
        }
        say("the tables");
        const std::string model = model_.dump();
        const std::string server = server_.dump();
        CAPTURE(steps_);
        REQUIRE(model == server);
    }

private:
    int below(int bound) { return static_cast<int>(random_() % static_cast<unsigned>(bound)); }

    template <class Step>
    void both(Step step) {
        step(static_cast<Database&>(model_));
        step(static_cast<Database&>(server_));
    }

    void say(const std::string& what) { steps_ += "\n" + what; }

    Database::Session connect() {
        const int worker = 1 + below(5);
        const Duration ttl = below(2) == 0 ? 110s : 66s;
        const int process = 1 + below(3);
        const auto session = model_.connect(worker, ttl, process);
        REQUIRE(server_.connect(worker, ttl, process) == session);
        sessions_.push_back(session);
        say("session " + std::to_string(session) + " of worker " + std::to_string(worker) + ", process " +
            std::to_string(process) + (ttl == 110s ? "" : ", short leases"));
        return session;
    }

    // With nothing under way: what becomes of that is another matter (see the cases).
    void reconnect() {
        const auto place = sessions_.begin() + below(static_cast<int>(sessions_.size()));
        say("cut " + std::to_string(*place));
        both([&](Database& database) { database.cut(*place); });
        claims_.erase(*place);
        sessions_.erase(place);
        connect();
    }

    void write() {
        if (writers_.empty() || (writers_.size() < 4 && below(2) == 0)) {
            const auto writer = model_.begin();
            REQUIRE(server_.begin() == writer);
            writers_.push_back(writer);
        }
        const auto writer = writers_[static_cast<std::size_t>(below(static_cast<int>(writers_.size())))];
        for (int rows = 1 + below(3); rows > 0; --rows) {
            NewEvent event;
            event.topic = topic_names[below(3)];
            event.key = below(keys + 2) - 2;
            event.payload_bytes = static_cast<std::uint32_t>(below(200));
            const RowId id = model_.insert(writer, event);
            REQUIRE(server_.insert(writer, event) == id);
            say("writer " + std::to_string(writer) + " inserts " + std::to_string(id.value));
            last_id_ = id.value;
        }
    }

    void end_writer() {
        auto& from = prepared_.empty() || (!writers_.empty() && below(2) == 0) ? writers_ : prepared_;
        if (from.empty()) return write();
        const auto place = from.begin() + below(static_cast<int>(from.size()));
        const auto writer = *place;
        from.erase(place);
        const int how = below(6);
        say("writer " + std::to_string(writer) + " ends: " + std::to_string(how));
        if (how == 0) return both([&](Database& database) { database.rollback(writer); });
        if (how > 1 || &from == &prepared_) return both([&](Database& database) { database.commit(writer); });
        both([&](Database& database) { database.prepare(writer); });
        prepared_.push_back(writer);
    }

    void operate() {
        const std::string_view topic = below(4) == 0 ? "*" : topic_names[below(3)];
        const int key = below(keys);
        const int what = below(5);
        const LaneSet locked(random_() & random_() & random_());
        say("operator " + std::to_string(what) + " " + std::string(topic) + " " + std::to_string(key));
        const auto rate = below(2) == 0 ? std::optional<std::uint64_t>{} : std::uint64_t{100};
        both([&](Database& database) {
            if (what == 0) return database.pause(topic);
            if (what == 1) return database.resume(topic);
            if (what == 2) return database.set_rate(rate);
            if (what == 3) return database.unblock(topic, key);
            database.lock_lanes(locked);
        });
        if (what == 4) locked_ = locked;
    }

    void unlock() {
        if (std::exchange(locked_, LaneSet{}).empty()) return;
        say("operator unlocks the lanes");
        both([](Database& database) { database.lock_lanes({}); });
    }

    // In steps that leave no answer to a few seconds more or less. On the server it writes to the lanes.
    void pass_time() {
        unlock();
        const Duration time = 44s * (below(8) == 0 ? 170 : below(6) - 1);
        say("time passes: " + std::to_string(time / 1s) + " s");
        both([&](Database& database) { database.pass_time(time); });
    }

    void talk() {
        if (below(3) == 0) unlock();
        const auto session = some_session();
        if (claims_.contains(session)) return end_claim(session);
        const int statements = 1 + below(3);
        for (int i = 0; i < statements; ++i) {
            const Action action = some_action();
            say("session " + std::to_string(session) + " sends action " + std::to_string(action.index()));
            both([&](Database& database) { database.send(session, action); });
        }
        for (int i = 0; i < statements; ++i) compare(session);
    }

    void claim() {
        const auto session = some_session();
        if (claims_.contains(session)) return;
        ReadRows read = some_read();
        read.noted = false;
        read.claim = true;
        say("session " + std::to_string(session) + " claims");
        both([&](Database& database) { database.send(session, read); });
        auto& rows = claims_[session];
        for (const std::int64_t id : compare(session).ids())
            if (below(2) == 0) rows.push_back(RowId{id});
    }

    void end_claim(Database::Session session) {
        const std::vector<RowId> ids = std::move(claims_.extract(session).mapped());
        DeleteRows rows{ids, {}};
        rows.ends_claim = true;
        const Action end = ids.empty() ? Action(EndClaim{}) : Action(rows);
        say("session " + std::to_string(session) + " ends its claim");
        both([&](Database& database) { database.send(session, end); });
        compare(session);
    }

    Reply compare(Database::Session session) {
        Reply reply = model_.receive(session);
        const std::string model = reply.text();
        const std::string server = server_.receive(session).text();
        CAPTURE(steps_);
        REQUIRE(model == server);
        say(model);
        return reply;
    }

    Database::Session some_session() {
        return sessions_[static_cast<std::size_t>(below(static_cast<int>(sessions_.size())))];
    }
    Action some_action();
    ReadRows some_read();
    Action some_deletion();
    RowId some_id() { return RowId{below(static_cast<int>(last_id_) + 3)}; }
    EventId some_event() {
        return below(4) == 0 ? EventId{} : sim::PostgresModel::event_id(static_cast<std::uint64_t>(some_id().value));
    }

    std::mt19937_64 random_;
    ModelDatabase model_;
    ServerDatabase server_;
    std::vector<Database::Session> sessions_;
    std::map<Database::Session, std::vector<RowId>> claims_;  // open, with what their ends will delete
    std::vector<Database::Writer> writers_;
    std::vector<Database::Writer> prepared_;
    LaneSet locked_;
    std::int64_t last_id_ = 0;
    std::vector<RowId> ids_;
    std::vector<EventId> events_;
    std::vector<std::uint8_t> known_;
    std::vector<TopicIndex> without_;
    std::vector<RowId> without_keys_of_;
    std::string steps_;
};

Action Differential::some_action() {
    // While lanes are locked, to renew or to release could mean to wait.
    switch (const int kind = below(20)) {
        case 0:
        case 1:
            if (!locked_.empty()) return AcquireLanes{};
            return RenewLeases{static_cast<std::uint32_t>(below(100)), below(5), kind == 0};
        case 2:
        case 3:
            return AcquireLanes{};
        case 4:
            if (!locked_.empty()) return AcquireLanes{};
            return ReleaseLanes{LaneSet(random_() & random_())};
        case 5:
            return LeaveFleet{};
        case 6:
        case 7:
            return Probe{};
        case 8:
            return ReadControl{};
        case 9:
            return ReadBlockedKeys{};
        case 10:
            return ReadCrashes{};
        case 11:
            if (below(3) == 0) return ForgetCrashes{};
            if (below(2) == 0) return WithdrawNote{};
            return ReadCrashes{};
        default:
            return kind < 16 ? some_read() : some_deletion();
    }
}

ReadRows Differential::some_read() {
    ReadRows read = everything();
    read.after = below(2) == 0 ? RowId{} : some_id();
    if (below(3) == 0) read.upto = some_id();
    if (below(2) == 0) read.lanes = LaneSet(random_() | random_());
    read.limit = static_cast<std::uint32_t>(below(2) == 0 ? 1000 : below(6));
    read.payload_bytes_max = static_cast<std::uint32_t>(50 + below(200));
    switch (below(4)) {
        case 0:
            read.noted = true;
            break;
        case 1:
            read.topic = TopicIndex{static_cast<std::uint32_t>(below(3))};
            break;
        case 2:
            read.known_base = RowId{read.after.value + 1};
            known_.clear();
            for (int bytes = below(4); bytes > 0; --bytes) known_.push_back(static_cast<std::uint8_t>(random_()));
            read.known = known_;
            without_.clear();
            for (const TopicIndex topic : {orders, bills, mails})
                if (below(3) == 0) without_.push_back(topic);
            read.without = without_;
            without_keys_of_.clear();
            for (int rows = below(6); rows > 0; --rows) without_keys_of_.push_back(some_id());
            read.without_keys_of = without_keys_of_;
            break;
        default:
            break;
    }
    return read;
}

// The actions of one pipeline are sent one after another, so that one buffer does for all.
Action Differential::some_deletion() {
    if (below(2) == 0) return BuryRow{some_id(), some_event(), "CODE", "text", below(2) == 0};
    ids_.clear();
    events_.clear();
    const bool guarded = below(2) == 0;
    for (int rows = below(6); rows > 0; --rows) {
        ids_.push_back(some_id());
        if (guarded)
            events_.push_back(below(3) == 0
                                  ? some_event()
                                  : sim::PostgresModel::event_id(static_cast<std::uint64_t>(ids_.back().value)));
    }
    DeleteRows rows{ids_, events_};
    rows.skip_locked = below(2) == 0;
    return rows;
}

}  // namespace

TEST_CASE("conformance: random steps have the same answers on the model and on a server") {
    const auto number = [](const char* name, std::uint64_t otherwise) {
        const char* const text = std::getenv(name);
        return text == nullptr ? otherwise : std::stoull(text);
    };
    const std::uint64_t first = number("CONFORMANCE_SEED", 1);
    const std::uint64_t last = first + number("CONFORMANCE_SEEDS", 40) - 1;
    for (std::uint64_t seed = first; seed <= last; ++seed) {
        CAPTURE(seed);
        Differential differential(seed);
        for (int step = 0; step < 100; ++step) differential.step();
        differential.finish();
    }
}

}  // namespace outbox::conformance
