#include "conformance/server_database.hpp"

#include <poll.h>
#include <sys/socket.h>

#include <csignal>
#include <cstdlib>
#include <sstream>

#include "postgres/control.hpp"
#include "sim/postgres_model.hpp"
#include "support/session_driver.hpp"

namespace outbox::conformance {

namespace {

using testing::boot_now;

void wait_a_little() {
    poll(nullptr, 0, 10);
}

std::string uuid_text(const EventId& id) {
    static constexpr char digits[] = "0123456789abcdef";
    std::string text;
    for (const std::uint8_t byte : id) {
        text += digits[byte >> 4U];
        text += digits[byte & 15U];
    }
    return text;
}

WorkerIdentity identity_of(int worker, int process) {
    const int name = process == 0 ? worker : process;
    return {worker_id(worker), "host-" + std::to_string(name), name, "0.0.0"};
}

// "3/1234" is the session's way to say it (answer_decoder.cpp).
std::uint64_t transaction_of(const std::string& text) {
    const auto slash = text.find('/');
    return std::stoull(text.substr(0, slash)) << 32U | std::stoull(text.substr(slash + 1));
}

std::string key_text(std::int32_t key, bool long_key) {
    return "k" + std::to_string(key) + (long_key ? std::string(2000, 'x') : "");
}

}  // namespace

ServerDatabase::Connected::Connected(const PostgresSettings& settings, WorkerIdentity identity, Duration lease_ttl)
    : session(settings, std::move(identity), lease_ttl, testing::schema_version(), boot_now()) {
    for (const std::string_view topic : topic_names) topics.index_of(topic);
}

ServerDatabase::ServerDatabase() : operator_(client()), locks_messages_(client()), locks_lanes_(client()) {}

// Nobody can drop a database that has prepared transactions.
ServerDatabase::~ServerDatabase() {
    try {
        sessions_.clear();
        for (const auto& [writer, open] : writers_)
            if (!open.prepared.empty()) operator_->execute("ROLLBACK PREPARED '" + open.prepared + "'");
    } catch (const std::exception&) {
        // The whole server is thrown away after the tests.
    }
}

std::unique_ptr<Client> ServerDatabase::client() {
    return std::make_unique<Client>(database_.settings(), "outbox-tests", Role::relay);
}

std::int64_t ServerDatabase::number(const std::string& sql) {
    return operator_->execute(sql).integer(0, 0);
}

std::vector<std::int64_t> ServerDatabase::numbers(const std::string& sql) {
    const Rows found = operator_->execute(sql);
    std::vector<std::int64_t> values;
    for (std::size_t i = 0; i < found.size(); ++i) values.push_back(found.integer(i, 0));
    return values;
}

// ---- sessions --------------------------------------------------------------------------------------------------

Database::Session ServerDatabase::connect(int worker, Duration lease_ttl, int process) {
    PostgresSettings settings = database_.settings();
    settings.dsn += " options='-c lock_timeout=300ms'";
    sessions_.push_back(std::make_unique<Connected>(settings, identity_of(worker, process), lease_ttl));
    if (receive(sessions_.size() - 1).what != "opened") throw SessionEnded("the session did not open");
    return sessions_.size() - 1;
}

void ServerDatabase::send(Session session, const Action& action) {
    Connected& on = *sessions_[session];
    std::visit(Overloaded{[](const Publish&) { throw std::logic_error("records are not for the database"); },
                          [&](const ReadRows& read) { on.session.send(read, on.topics, boot_now()); },
                          [&](const auto& other) { on.session.send(other, boot_now()); }},
               action);
}

Reply ServerDatabase::receive(Session session) {
    Connected& on = *sessions_[session];
    try {
        while (true) {
            if (const auto answer = on.session.next_answer(on.topics, boot_now())) {
                Reply reply = reply_of(answer->event);
                if (reply.what == "deleted" || reply.what == "rows missed") reply.deleted = answer->rows;
                for (RowHead& row : reply.heads) row.created_at_us = 0;
                for (const Holder& holder : reply.holders)
                    reply.holding.push_back(holders_.at({holder.transaction, holder.prepared}));
                std::sort(reply.holding.begin(), reply.holding.end());
                return reply;
            }
            pollfd wait{on.session.descriptor(), on.session.wanted(), 0};
            if (poll(&wait, 1, 30'000) <= 0) throw std::runtime_error("no answer from Postgres within 30 s");
            on.session.pump(boot_now());
        }
    } catch (const PostgresError& error) {
        throw SessionEnded(error.what());
    }
}

void ServerDatabase::cut(Session session) {
    shutdown(sessions_[session]->session.descriptor(), SHUT_RDWR);
    sessions_[session].reset();
    await_sessions();
}

void ServerDatabase::await_sessions() {
    const auto connected = std::count_if(sessions_.begin(), sessions_.end(), [](const auto& one) { return !!one; });
    while (number("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'outbox-relay' AND"
                  " datname = current_database()") > connected)
        wait_a_little();
}

// ---- writers ---------------------------------------------------------------------------------------------------

Database::Writer ServerDatabase::begin() {
    Open open;
    if (idle_.empty()) {
        open.client = client();
    } else {
        open.client = std::move(idle_.back());
        idle_.pop_back();
    }
    open.client->execute("BEGIN");
    writers_.emplace(++last_writer_, std::move(open));
    return last_writer_;
}

RowId ServerDatabase::insert(Writer writer, const NewEvent& event) {
    Open& open = writers_.at(writer);
    const auto key = event.key < 0 ? Client::Parameter{} : key_text(event.key, event.long_key);
    const RowId id{open.client
                       ->execute("INSERT INTO outbox.message (event_id, topic, key, payload) VALUES ($1::uuid, $2, $3,"
                                 " convert_to(repeat('x', $4::int), 'UTF8')) RETURNING id",
                                 {uuid_text(sim::PostgresModel::event_id(++events_)), std::string(event.topic), key,
                                  std::to_string(event.payload_bytes)})
                       .integer(0, 0)};
    if (open.rows.empty()) {
        const Rows lock = open.client->execute(
            "SELECT virtualtransaction FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'virtualxid'");
        holders_[{transaction_of(lock.text(0, 0)), false}] = writer;
    }
    open.rows.push_back(id);
    return id;
}

std::string ServerDatabase::prepared_name(Writer writer) const {
    return database_.name() + "_" + std::to_string(writer);
}

// It goes by its virtual transaction, or by its transaction id: that depends on the version, and on a restart.
void ServerDatabase::prepare(Writer writer) {
    Open& open = writers_.at(writer);
    open.prepared = prepared_name(writer);
    open.client->execute("PREPARE TRANSACTION '" + open.prepared + "'");
    idle_.push_back(std::move(open.client));
    const auto transaction =
        number("SELECT transaction::text::int8 FROM pg_prepared_xacts WHERE gid = '" + open.prepared + "'");
    holders_[{static_cast<std::uint64_t>(transaction), true}] = writer;
}

void ServerDatabase::end(Writer writer, const std::string& how) {
    Open open = std::move(writers_.at(writer));
    writers_.erase(writer);
    if (open.prepared.empty()) {
        open.client->execute(how);
        idle_.push_back(std::move(open.client));
    } else {
        operator_->execute(how + " PREPARED '" + open.prepared + "'");
    }
    if (how == "COMMIT" && !open.rows.empty()) last_commit_ = open.rows;
}

// ---- others ----------------------------------------------------------------------------------------------------

void ServerDatabase::pause(std::string_view topic) {
    pause_topic(*operator_, {"tests@host", {}}, std::string(topic));
}

void ServerDatabase::resume(std::string_view topic) {
    resume_topic(*operator_, {"tests@host", {}}, std::string(topic));
}

void ServerDatabase::set_rate(std::optional<std::uint64_t> rows_per_second) {
    std::optional<std::int64_t> rate;
    if (rows_per_second) rate = static_cast<std::int64_t>(*rows_per_second);
    outbox::set_rate(*operator_, {"tests@host", {}}, rate);
}

void ServerDatabase::unblock(std::string_view topic, std::int32_t key) {
    operator_->execute("DELETE FROM outbox.blocked_key WHERE topic = $1 AND key = $2",
                       {std::string(topic), key_text(key, false)});
}

void ServerDatabase::open_reader() {
    readers_.push_back(client());
    readers_.back()->execute("BEGIN ISOLATION LEVEL REPEATABLE READ");
    readers_.back()->execute("SELECT count(*) FROM outbox.message");
}

void ServerDatabase::requeue() {
    operator_->execute("SELECT outbox.requeue(id) FROM (SELECT id FROM outbox.dead_letter ORDER BY id) AS letters");
}

void ServerDatabase::lock_messages(bool locked) {
    if (!locked) {
        locks_messages_->execute("COMMIT");
        return;
    }
    locks_messages_->execute("BEGIN");
    locks_messages_->execute("LOCK TABLE outbox.message IN SHARE MODE");
}

void ServerDatabase::lock_lanes(LaneSet lanes) {
    locks_lanes_->execute("ROLLBACK");
    if (lanes.empty()) return;
    locks_lanes_->execute("BEGIN");
    locks_lanes_->execute("SELECT FROM outbox.lane WHERE ($1::int8 >> lane::int4) & 1 = 1 FOR UPDATE",
                          {std::to_string(static_cast<std::int64_t>(lanes.bits()))});
}

// Nobody can step the server's clock; moving everything it is compared with is the same.
void ServerDatabase::pass_time(Duration time) {
    const Client::Parameter by =
        std::to_string(std::chrono::duration_cast<std::chrono::milliseconds>(time).count()) + " milliseconds";
    operator_->execute("UPDATE outbox.lane SET expires_at = expires_at - $1::interval", {by});
    operator_->execute(
        "UPDATE outbox.relay SET seen_at = seen_at - $1::interval, started_at = started_at - $1::interval", {by});
}

void ServerDatabase::let_time_pass() {
    wait_a_little();
}

// As after kill -9 of one backend: the server ends all others, and recovers.
void ServerDatabase::restart() {
    sessions_.clear();
    readers_.clear();
    idle_.clear();
    std::erase_if(writers_, [](const auto& writer) { return writer.second.prepared.empty(); });
    kill(static_cast<pid_t>(number("SELECT pg_backend_pid()")), SIGKILL);
    // Another's connection breaks when the server has begun, and until it has ended nobody is let in.
    try {
        while (true) {
            locks_messages_->execute("SELECT");
            wait_a_little();
        }
    } catch (const PostgresError&) {
    }
    for (operator_.reset(); operator_ == nullptr;) {
        try {
            operator_ = client();
        } catch (const PostgresError&) {
            wait_a_little();
        }
    }
    locks_messages_ = client();
    locks_lanes_ = client();
}

void ServerDatabase::lose_last_commit() {
    sessions_.clear();
    await_sessions();
    std::int64_t lowest = INT64_MAX;
    for (const RowId id : last_commit_) {
        operator_->execute("DELETE FROM outbox.message WHERE id = $1::int8", {std::to_string(id.value)});
        lowest = std::min(lowest, id.value);
    }
    operator_->execute("ALTER TABLE outbox.message ALTER COLUMN id RESTART WITH " + std::to_string(lowest));
}

// ---- tables ----------------------------------------------------------------------------------------------------

std::vector<std::int64_t> ServerDatabase::rows() {
    return numbers("SELECT id FROM outbox.message ORDER BY id");
}

EventId ServerDatabase::event_of(RowId id) {
    const std::string text =
        operator_
            ->execute("SELECT replace(event_id::text, '-', '') FROM outbox.message WHERE id = $1::int8",
                      {std::to_string(id.value)})
            .text(0, 0);
    EventId event{};
    for (std::size_t i = 0; i < event.size(); ++i)
        event[i] = static_cast<std::uint8_t>(std::stoi(text.substr(2 * i, 2), nullptr, 16));
    return event;
}

std::uint8_t ServerDatabase::lane_of_key(std::int32_t key) {
    return static_cast<std::uint8_t>(number("SELECT hashtextextended('" + key_text(key, false) + "', 0) & 63"));
}

std::vector<std::int64_t> ServerDatabase::dead_letters() {
    return numbers("SELECT message_id FROM outbox.dead_letter ORDER BY id");
}

LaneState ServerDatabase::lane(std::uint8_t lane) {
    const Rows row = operator_->execute(
        "SELECT coalesce(get_byte(uuid_send(owner), 15), 0), epoch FROM outbox.lane WHERE lane = $1::int4",
        {std::to_string(lane)});
    return {static_cast<int>(row.integer(0, 0)), row.integer(0, 1)};
}

std::vector<int> ServerDatabase::workers() {
    std::vector<int> workers;
    for (const std::int64_t id : numbers("SELECT get_byte(uuid_send(id), 15) FROM outbox.relay ORDER BY id"))
        workers.push_back(static_cast<int>(id));
    return workers;
}

std::string ServerDatabase::dump() {
    return operator_
        ->execute(
            "SELECT 'rows' || coalesce((SELECT string_agg(' ' || id, '' ORDER BY id) FROM outbox.message), '')"
            " || E'\\ndead letters' || coalesce((SELECT string_agg(' ' || message_id || ':' || error_code, ''"
            "      ORDER BY id) FROM outbox.dead_letter), '')"
            " || E'\\nlanes' || (SELECT string_agg(' ' || coalesce(get_byte(uuid_send(owner), 15), 0) || ':' || epoch,"
            "      '' ORDER BY lane) FROM outbox.lane)"
            " || E'\\nworkers' || coalesce((SELECT string_agg(' ' || get_byte(uuid_send(id), 15) || ':' ||"
            "      in_flight_rows || ':' || control_revision || ':' || coalesce(attempting_from, -1) || ':' ||"
            "      coalesce(attempting_upto, -1), '' ORDER BY id) FROM outbox.relay), '')")
        .text(0, 0);
}

}  // namespace outbox::conformance
