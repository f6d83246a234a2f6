// A database as the conformance cases see it: writers, the relay's sessions, and an operator. There are two of them,
// the simulator's model and a real server, and every case has to pass on both. Test threads only.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "conformance/reply.hpp"
#include "core/messages.hpp"

namespace outbox::conformance {

using namespace std::chrono_literals;

struct NewEvent {
    std::string_view topic = "orders";
    std::int32_t key = 0;  // below 0: none. Its text is "k7"
    std::uint32_t payload_bytes = 10;
    bool long_key = false;  // above 2000 bytes
};

// Every session knows these from the start, so that an action may name them.
inline constexpr TopicIndex orders{0};
inline constexpr TopicIndex bills{1};
inline constexpr TopicIndex mails{2};
inline constexpr std::string_view topic_names[] = {"orders", "bills", "mails"};

struct LaneState {
    int worker = 0;  // 0: nobody
    std::int64_t epoch = 0;
    bool operator==(const LaneState&) const = default;
};

// The server ended the session, or refused a statement in a way that does.
class SessionEnded : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

inline EventId worker_id(int worker) {
    EventId id{};
    id.back() = static_cast<std::uint8_t>(worker);
    return id;
}

class Database {
public:
    using Session = std::size_t;
    using Writer = std::size_t;

    Database() = default;
    Database(const Database&) = delete;
    Database& operator=(const Database&) = delete;
    virtual ~Database() = default;

    // ---- sessions. A worker's process is its own, unless the case says otherwise. ----
    virtual Session connect(int worker, Duration lease_ttl = 60s, int process = 0) = 0;
    virtual void send(Session session, const Action& action) = 0;
    virtual Reply receive(Session session) = 0;  // the oldest answer; throws SessionEnded
    // Abruptly, whatever is under way; then until the server has noticed.
    virtual void cut(Session session) = 0;

    Reply ask(Session session, const Action& action) {
        send(session, action);
        return receive(session);
    }

    // ---- writers ----
    virtual Writer begin() = 0;
    virtual RowId insert(Writer writer, const NewEvent& event) = 0;
    virtual void commit(Writer writer) = 0;  // also of a prepared one
    virtual void rollback(Writer writer) = 0;
    virtual void prepare(Writer writer) = 0;

    RowId insert(const NewEvent& event = {}) {
        const Writer writer = begin();
        const RowId id = insert(writer, event);
        commit(writer);
        return id;
    }

    // ---- others ----
    virtual void pause(std::string_view topic) = 0;
    virtual void resume(std::string_view topic) = 0;
    virtual void set_rate(std::optional<std::uint64_t> rows_per_second) = 0;
    virtual void unblock(std::string_view topic, std::int32_t key) = 0;
    virtual void requeue() = 0;                   // all dead letters, in the order they arrived
    virtual void open_reader() = 0;               // a snapshot that is held from now on
    virtual void lock_messages(bool locked) = 0;  // deletes wait, and their session has little patience
    virtual void lock_lanes(LaneSet lanes) = 0;   // none: no longer
    virtual void pass_time(Duration time) = 0;    // of the database's clock; may be below zero
    virtual void let_time_pass() = 0;             // a little, to wait for what the clock brings
    virtual void restart() = 0;                   // sessions and open writers are gone
    virtual void lose_last_commit() = 0;          // of a writer, in a failover: its ids will be drawn again

    // ---- what is in the tables ----
    virtual std::vector<std::int64_t> rows() = 0;  // committed, by id
    virtual EventId event_of(RowId id) = 0;
    virtual std::uint8_t lane_of_key(std::int32_t key) = 0;
    virtual std::vector<std::int64_t> dead_letters() = 0;  // message ids, in order of arrival
    virtual LaneState lane(std::uint8_t lane) = 0;
    virtual std::vector<int> workers() = 0;  // in outbox.relay
    virtual std::string dump() = 0;          // of everything above, and the notes of the workers
};

// The one this executable is about.
std::unique_ptr<Database> open_database();

// ---- what cases need again and again ---------------------------------------------------------------------------

// Rows 1 to `count`, of keys 0, 1, 2, …
inline std::unique_ptr<Database> with_rows(int count) {
    auto database = open_database();
    for (int i = 0; i < count; ++i) database->insert({.key = i});
    return database;
}

inline ReadRows everything() {
    ReadRows read;
    read.upto = no_row;
    read.lanes = LaneSet::all();
    read.limit = 10'000;
    read.payload_bytes_max = 1U << 30U;
    return read;
}

}  // namespace outbox::conformance
