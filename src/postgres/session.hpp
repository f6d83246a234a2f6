// One worker's Postgres session: asynchronous, in pipeline mode, with binary parameters and results. It sends the
// relay's actions and turns the answers, which come in the order of sending, into the relay's events. Everything is
// autocommit: each action is its own transaction, and none stays open while Kafka is awaited; but for a claim, which
// begins a transaction that ends with the action that says so.
// Not a general client: it knows the statements of statements.hpp and nothing else.
// Any failure throws PostgresError; the session is then to be destroyed and rebuilt. The worker's thread.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <deque>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "core/messages.hpp"
#include "core/time.hpp"
#include "core/topics.hpp"
#include "postgres/answer_decoder.hpp"
#include "postgres/connection.hpp"
#include "postgres/row_batch.hpp"
#include "postgres/settings.hpp"
#include "postgres/statements.hpp"

namespace outbox {

// Who this worker is to its peers, as it writes itself into outbox.relay.
struct WorkerIdentity {
    EventId id{};  // drawn anew at every start
    std::string host;
    std::int32_t pid = 0;
    std::string version;
};

// The schema is from the future: retrying cannot help, only a newer binary can.
class SchemaNewer : public PostgresError {
public:
    using PostgresError::PostgresError;
};

struct FleetLeft {};
struct NoteTaken {};   // WithdrawNote or ForgetCrashes has committed
struct ClaimEnded {};  // EndClaim has

struct Answer {
    std::variant<SessionOpened, LeasesRenewed, LanesAcquired, LanesReleased, FleetLeft, RowsRead, ProbeAnswered,
                 RowsDeleted, RowsMissed, DeleteRefused, RowsBuried, BurialRefused, ControlRead, BlockedKeysRead,
                 CrashesRead, NoteTaken, ClaimEnded>
        event;
    std::size_t rows = 0;              // rows that were read or deleted
    Duration took{};                   // from sending to the answer's arrival
    std::string refusal{};             // with DeleteRefused and BurialRefused: why
    std::int64_t database_now_us = 0;  // with LeasesRenewed: the database's clock, microseconds since 2000-01-01 UTC
};

class Session {
public:
    // Begins to connect, to one host after the other; SessionOpened is the first answer.
    Session(const PostgresSettings& settings, WorkerIdentity identity, Duration lease_ttl, int schema_version,
            Instant now)
        : Session(connection_attempts(settings, "outbox-relay"), std::move(identity), lease_ttl, schema_version, now) {}
    Session(std::vector<ConnectionParameters> hosts, WorkerIdentity identity, Duration lease_ttl, int schema_version,
            Instant now);

    // Once it is open: what it is connected to, and when that server started, which tells servers apart.
    const ConnectionParameters& host() const { return hosts_[hosts_tried_ - 1]; }
    std::int64_t server_started() const { return server_started_; }

    int descriptor() const;
    short wanted() const;    // what poll(2) should wait for
    void pump(Instant now);  // call when poll(2) says so, and when deadline() has passed
    // A large answer is probably under way: whoever looks at it now and then, and not for each piece that arrives,
    // takes much more of it at once, and lets the server write on.
    bool streaming(Instant now) const;
    Instant deadline() const;
    // For the oldest answer: since its statement was sent, or since its turn came.
    Instant waiting_since() const {
        return under_way_.empty() ? never : std::max(under_way_.front().sent_at, answered_at_);
    }

    void send(const RenewLeases& action, Instant now);
    void send(const AcquireLanes&, Instant now);
    void send(const ReleaseLanes& action, Instant now);
    void send(const LeaveFleet&, Instant now);
    void send(const ReadRows& action, const Topics& topics, Instant now);
    void send(const Probe&, Instant now);
    void send(const DeleteRows& action, Instant now);
    void send(const EndClaim&, Instant now);
    void send(const BuryRow& action, Instant now);
    void send(const ReadControl&, Instant now);
    void send(const ReadBlockedKeys&, Instant now);
    void send(const ReadCrashes&, Instant now);
    void send(const WithdrawNote&, Instant now);
    void send(const ForgetCrashes&, Instant now);

    // The next answer that has arrived. Spans in it live until the next call.
    std::optional<Answer> next_answer(Topics& topics, Instant now);

    // The rows of the last RowsRead. Kept until the next one, also when the connection breaks meanwhile.
    const RowBatch& rows() const { return rows_; }

private:
    enum class Operation : std::uint8_t {
        open,
        renew,
        acquire,
        release,
        leave,
        read,
        probe,
        remove,
        end_claim,
        bury,
        control,
        blocked_keys,
        crashes,
        notes,
    };

    struct UnderWay {
        Operation operation = Operation::open;
        Instant sent_at{};
        LaneSet lanes{};
        Statement statement = Statement::settings;  // for error messages
        bool commits = false;                       // a second sync follows: the claim's end
        std::size_t expected = 0;                   // rows to delete at their places, or to read at most
    };

    struct IdRange {
        RowId lowest;
        RowId highest;
    };

    void connect_next(Instant now);
    bool more_has_come() const;
    void connect_failed(const PostgresError& failure, Instant now);
    void connect_step(Instant now);
    PostgresError broken();
    void open(Instant now);
    // Each parameter is encoded in a buffer of its own, reused from one statement to the next.
    std::string& parameter(std::size_t index);
    void name_worker(std::size_t index);  // the parameter is this worker's id
    void send_note(Statement statement, Instant now);
    void execute(Statement statement, std::size_t parameters);
    void sync(UnderWay under_way);
    static bool side_by_side(std::size_t rows, const IdRange& ids, std::uint64_t first, std::uint64_t last);
    static std::optional<IdRange> append_bitmap(std::string& bits, const DeleteRows& action);
    void commit();
    void flush();
    void send_claim(const ReadRows& action, const Topics& topics, Instant now);
    void name_topics(std::size_t index, std::span<const TopicIndex> named, const Topics& topics);
    std::int64_t int8_at(std::size_t result, int column) const;
    RowsRead rows_read(const UnderWay& done, Topics& topics);
    Answer answer(const UnderWay& done, Topics& topics, Instant now);
    void opened();
    void refused(const pg_result* result);

    Connection connection_;
    const WorkerIdentity identity_;
    const Duration lease_ttl_;
    const int schema_version_;

    bool connecting_ = true;
    short connect_wants_ = 0;
    bool flush_pending_ = false;
    Instant connect_deadline_;
    std::vector<ConnectionParameters> hosts_;
    std::size_t hosts_tried_ = 0;
    HostFailures host_failures_;
    std::optional<PostgresError> last_words_;  // the server's, when it ended an idle session
    std::deque<UnderWay> under_way_;
    Instant answered_at_{};             // the last answer
    bool reads_are_large_ = false;      // the last one brought many rows, and all it might
    std::vector<QueryResult> results_;  // of the oldest operation under way
    std::array<std::string, 9> parameters_;
    RowBatch rows_;
    AnswerDecoder decoder_;
    std::string refusal_;  // of the oldest operation under way; empty: none
    std::int64_t server_started_ = 0;
    bool walks_pages_ = false;  // the server finds a range of places without reading the whole table
};

}  // namespace outbox
