// A real Postgres behind the conformance cases' interface, with the sessions the relay has. Test threads only.
#pragma once

#include <map>
#include <memory>

#include "conformance/database.hpp"
#include "core/topics.hpp"
#include "postgres/session.hpp"
#include "support/postgres_database.hpp"

namespace outbox::conformance {

class ServerDatabase : public Database {
public:
    ServerDatabase();
    ~ServerDatabase() override;

    Session connect(int worker, Duration lease_ttl = 60s, int process = 0) override;
    void send(Session session, const Action& action) override;
    Reply receive(Session session) override;
    void cut(Session session) override;

    Writer begin() override;
    using Database::insert;
    RowId insert(Writer writer, const NewEvent& event) override;
    void commit(Writer writer) override { end(writer, "COMMIT"); }
    void rollback(Writer writer) override { end(writer, "ROLLBACK"); }
    void prepare(Writer writer) override;

    void pause(std::string_view topic) override;
    void resume(std::string_view topic) override;
    void set_rate(std::optional<std::uint64_t> rows_per_second) override;
    void unblock(std::string_view topic, std::int32_t key) override;
    void requeue() override;
    void open_reader() override;
    void lock_messages(bool locked) override;
    void lock_lanes(LaneSet lanes) override;
    void pass_time(Duration time) override;
    void let_time_pass() override;
    void restart() override;
    void lose_last_commit() override;

    std::vector<std::int64_t> rows() override;
    EventId event_of(RowId id) override;
    std::uint8_t lane_of_key(std::int32_t key) override;
    std::vector<std::int64_t> dead_letters() override;
    LaneState lane(std::uint8_t lane) override;
    std::vector<int> workers() override;
    std::string dump() override;

private:
    struct Connected {
        Connected(const PostgresSettings& settings, WorkerIdentity identity, Duration lease_ttl);
        Topics topics{{"*"}, 1};
        outbox::Session session;
    };
    struct Open {
        std::unique_ptr<Client> client;
        std::string prepared;  // its name; empty: it is not
        std::vector<RowId> rows{};
    };

    void end(Writer writer, const std::string& how);
    std::string prepared_name(Writer writer) const;
    std::unique_ptr<Client> client();
    std::int64_t number(const std::string& sql);
    std::vector<std::int64_t> numbers(const std::string& sql);
    void await_sessions();

    testing::PostgresDatabase database_;
    std::unique_ptr<Client> operator_;
    std::unique_ptr<Client> locks_messages_;
    std::unique_ptr<Client> locks_lanes_;
    std::vector<std::unique_ptr<Client>> idle_;  // for the writers to come
    std::vector<std::unique_ptr<Client>> readers_;
    std::vector<std::unique_ptr<Connected>> sessions_;
    std::map<Writer, Open> writers_;
    std::map<std::pair<std::uint64_t, bool>, Writer> holders_;  // transaction, and whether it is a prepared one's name
    Writer last_writer_ = 0;
    std::uint64_t events_ = 0;
    std::vector<RowId> last_commit_;
};

}  // namespace outbox::conformance
