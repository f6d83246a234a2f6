#include "postgres/session.hpp"

#include <libpq-fe.h>
#include <poll.h>

#include <algorithm>
#include <utility>

#include "core/invariant.hpp"
#include "postgres/fields.hpp"
#include "postgres/wire.hpp"

namespace outbox {

namespace {

using namespace std::chrono_literals;

// What takes several times as long as a lease lives helps nobody: its lanes are lost. The server gives up first; when
// it says nothing even then, the connection is dead and nobody told us.
constexpr Duration statement_timeout(Duration lease_ttl) {
    return std::clamp<Duration>(3 * lease_ttl, 5s, 30s);
}
constexpr Duration answer_grace = 3s;

// An answer of so many rows is worth more than one look, and comes soon or not at all.
constexpr std::size_t large_read = 500;
constexpr Duration stream_patience = 100ms;

const StatementText& text_of(Statement statement) {
    return statements[static_cast<std::size_t>(statement)];
}

constexpr bool in_order() {
    for (std::size_t i = 0; i < statements.size(); ++i)
        if (static_cast<std::size_t>(statements[i].statement) != i) return false;
    return true;
}
static_assert(in_order(), "statements are found by their position");

// A delete or a burial that failed so has changed nothing, and may well succeed a moment later: serialization failure,
// deadlock, lock not available, statement time-out or cancellation.
bool may_succeed_later(std::string_view sqlstate) {
    return sqlstate == "40001" || sqlstate == "40P01" || sqlstate == "55P03" || sqlstate == "57014";
}

}  // namespace

Session::Session(std::vector<ConnectionParameters> hosts, WorkerIdentity identity, Duration lease_ttl,
                 int schema_version, Instant now)
    : identity_(std::move(identity)), lease_ttl_(lease_ttl), schema_version_(schema_version), hosts_(std::move(hosts)) {
    connect_next(now);
}

void Session::connect_next(Instant now) {
    while (hosts_tried_ < hosts_.size()) {
        const ConnectionParameters& host = hosts_[hosts_tried_++];
        connection_ = open_connection(host);
        connect_wants_ = POLLOUT;
        connect_deadline_ = now + connect_timeout(host);
        if (PQstatus(connection_.get()) != CONNECTION_BAD) return;
        host_failures_.add(connect_failure(connection_.get()));
    }
    throw host_failures_.error();
}

void Session::connect_failed(const PostgresError& failure, Instant now) {
    host_failures_.add(failure);
    connect_next(now);
}

int Session::descriptor() const {
    return PQsocket(connection_.get());
}

short Session::wanted() const {
    if (connecting_) return connect_wants_;
    return static_cast<short>(flush_pending_ ? POLLIN | POLLOUT : POLLIN);
}

bool Session::streaming(Instant now) const {
    if (!reads_are_large_ || flush_pending_ || under_way_.empty()) return false;
    return under_way_.front().operation == Operation::read && now < waiting_since() + stream_patience;
}

Instant Session::deadline() const {
    if (connecting_) return connect_deadline_;
    return under_way_.empty() ? never : waiting_since() + statement_timeout(lease_ttl_) + answer_grace;
}

void Session::pump(Instant now) {
    if (connecting_) {
        if (now < connect_deadline_) return connect_step(now);
        const auto patience = std::to_string(connect_timeout(hosts_[hosts_tried_ - 1]).count()) + " s";
        return connect_failed(connect_timed_out(connection_.get(), patience), now);
    }
    if (now >= deadline()) throw PostgresError("the server no longer answers", "08006");
    do {
        if (PQconsumeInput(connection_.get()) == 0) throw broken();
    } while (reads_are_large_ && PQisBusy(connection_.get()) == 1 && more_has_come());
    flush();
}

// libpq takes what its buffer has room for. Of a large answer that is a fraction of what the socket holds, and with the
// socket full the server waits.
bool Session::more_has_come() const {
    pollfd socket{descriptor(), POLLIN, 0};
    return ::poll(&socket, 1, 0) == 1 && (socket.revents & POLLIN) != 0;
}

// That the connection broke is seen before what the server said last is read, and the latter says why.
PostgresError Session::broken() {
    for (int ends = 0; ends < 2;) {
        const QueryResult result(PQgetResult(connection_.get()));
        ends = result ? 0 : ends + 1;
        if (PQresultStatus(result.get()) == PGRES_FATAL_ERROR &&
            PQresultErrorField(result.get(), PG_DIAG_SQLSTATE) != nullptr)
            return statement_failure(connection_.get(), result.get());
    }
    return last_words_ ? *last_words_ : connect_failure(connection_.get());
}

void Session::connect_step(Instant now) {
    switch (PQconnectPoll(connection_.get())) {
        case PGRES_POLLING_READING:
            connect_wants_ = POLLIN;
            return;
        case PGRES_POLLING_WRITING:
            connect_wants_ = POLLOUT;
            return;
        case PGRES_POLLING_OK:
            connecting_ = false;
            open(now);
            return;
        default:
            connect_failed(connect_failure(connection_.get()), now);
    }
}

void Session::open(Instant now) {
    // What ends a session while nothing is under way arrives as a notice.
    PQsetNoticeReceiver(
        connection_.get(),
        [](void* session, const PGresult* notice) {
            auto* const self = static_cast<Session*>(session);
            const char* const severity = PQresultErrorField(notice, PG_DIAG_SEVERITY_NONLOCALIZED);
            if (severity != nullptr && std::string_view(severity) == "FATAL")
                self->last_words_ = statement_failure(self->connection_.get(), notice);
        },
        this);
    if (PQsetnonblocking(connection_.get(), 1) != 0 || PQenterPipelineMode(connection_.get()) != 1)
        throw connect_failure(connection_.get());
    for (const StatementText& text : statements) {
        if (PQsendPrepare(connection_.get(), text.name, text.sql, 0, nullptr) != 1)
            throw connect_failure(connection_.get());
        if (text.statement != Statement::settings) continue;
        // At once: to prepare what follows takes locks, and a session that waits for one must not outlive our patience.
        const auto limit = std::chrono::duration_cast<std::chrono::milliseconds>(statement_timeout(lease_ttl_));
        parameter(0) = std::to_string(limit.count());
        const auto frozen = std::chrono::duration_cast<std::chrono::milliseconds>(std::min<Duration>(lease_ttl_, 30s));
        parameter(1) = std::to_string(frozen.count());
        execute(Statement::settings, 2);
    }
    execute(Statement::schema, 0);
    sync({.operation = Operation::open, .sent_at = now, .statement = Statement::schema});
}

std::string& Session::parameter(std::size_t index) {
    parameters_[index].clear();
    return parameters_[index];
}

void Session::name_worker(std::size_t index) {
    parameter(index).assign(identity_.id.begin(), identity_.id.end());
}

void Session::execute(Statement statement, std::size_t parameters) {
    std::array<const char*, std::tuple_size_v<decltype(parameters_)>> values{};
    std::array<int, values.size()> lengths{};
    std::array<int, values.size()> formats{};
    for (std::size_t i = 0; i < parameters; ++i) {
        values[i] = parameters_[i].data();
        lengths[i] = static_cast<int>(parameters_[i].size());
        formats[i] = 1;
    }
    if (PQsendQueryPrepared(connection_.get(), text_of(statement).name, static_cast<int>(parameters), values.data(),
                            lengths.data(), formats.data(), 1) != 1)
        throw connect_failure(connection_.get());
}

// Every action ends in a sync of its own: it is its own transaction, and its failure is its own.
void Session::sync(UnderWay under_way) {
    if (PQpipelineSync(connection_.get()) != 1) throw connect_failure(connection_.get());
    under_way_.push_back(under_way);
    flush();
}

void Session::flush() {
    const int pending = PQflush(connection_.get());
    if (pending < 0) throw connect_failure(connection_.get());
    flush_pending_ = pending == 1;
}

std::optional<Answer> Session::next_answer(Topics& topics, Instant now) {
    if (connecting_) return std::nullopt;
    while (!under_way_.empty() && PQisBusy(connection_.get()) == 0) {
        QueryResult result(PQgetResult(connection_.get()));
        if (!result) continue;  // the end of one statement of a pipeline
        switch (PQresultStatus(result.get())) {
            case PGRES_TUPLES_OK:
            case PGRES_COMMAND_OK:
                results_.push_back(std::move(result));
                break;
            case PGRES_PIPELINE_SYNC: {
                if (std::exchange(under_way_.front().commits, false)) break;
                const UnderWay done = under_way_.front();
                under_way_.pop_front();
                answered_at_ = now;
                return answer(done, topics, now);
            }
            case PGRES_PIPELINE_ABORTED:
                break;  // behind a refusal, in the same transaction
            default:
                refused(result.get());
        }
    }
    return std::nullopt;
}

void Session::refused(const pg_result* result) {
    const Operation operation = under_way_.front().operation;
    const char* const sqlstate = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    const bool deletes = operation == Operation::remove || operation == Operation::bury;
    if (!deletes || sqlstate == nullptr || !may_succeed_later(sqlstate))
        throw statement_failure(connection_.get(), result);
    refusal_ = statement_failure(connection_.get(), result).what();
}

void Session::opened() {
    server_started_ = fields::int8(results_.back().get(), 0, 1);
    walks_pages_ = PQserverVersion(connection_.get()) >= 140'000;
    const auto found = fields::int8(results_.back().get(), 0, 0);
    if (found == schema_version_) return;
    const std::string versions = "schema outbox is at version " + std::to_string(found) + ", this relay needs " +
                                 std::to_string(schema_version_);
    if (found > schema_version_) throw SchemaNewer(versions + ": run a newer outbox-relay");
    throw PostgresError(versions + ": run outbox-relay migrate up");
}

std::int64_t Session::int8_at(std::size_t result, int column) const {
    if (result >= results_.size()) fields::unexpected();
    return fields::int8(results_[result].get(), 0, column);
}

RowsRead Session::rows_read(const UnderWay& done, Topics& topics) {
    rows_.decode(std::move(results_.back()), topics);
    RowsRead read{.rows = rows_.heads()};
    reads_are_large_ = read.rows.size() >= std::max(done.expected, large_read);
    if (done.statement == Statement::claim && PQntuples(results_[1].get()) > 0) read.lowest = RowId{int8_at(1, 0)};
    return read;
}

Answer Session::answer(const UnderWay& done, Topics& topics, Instant now) {
    Answer answer{.event = FleetLeft{}, .took = now - done.sent_at};
    const auto lanes_at = [&](int column) { return LaneSet(static_cast<std::uint64_t>(int8_at(0, column))); };
    switch (done.operation) {
        case Operation::open:
            opened();
            answer.event = SessionOpened{};
            break;
        case Operation::renew:
            answer.event = LeasesRenewed{done.sent_at, lanes_at(0), static_cast<std::uint32_t>(int8_at(0, 1)),
                                         static_cast<std::uint32_t>(int8_at(0, 2))};
            answer.database_now_us = int8_at(0, 3);
            break;
        case Operation::acquire:
            answer.event = LanesAcquired{done.sent_at, lanes_at(0)};
            break;
        case Operation::release:
            answer.event = LanesReleased{done.lanes};
            break;
        case Operation::leave:
            break;
        case Operation::read:
            answer.event = rows_read(done, topics);
            answer.rows = rows_.heads().size();
            break;
        case Operation::probe:
            answer.event = decoder_.probe(RowId{int8_at(0, 0)}, results_[1].get());
            break;
        case Operation::remove:
            if (!refusal_.empty()) {
                answer.event = DeleteRefused{};
                break;
            }
            answer.rows = std::strtoul(PQcmdTuples(results_.front().get()), nullptr, 10);
            answer.event = RowsDeleted{};
            if (answer.rows < done.expected) answer.event = RowsMissed{};
            break;
        case Operation::end_claim:
            answer.event = ClaimEnded{};
            break;
        case Operation::bury:
            answer.event = RowsBuried{};
            if (!refusal_.empty()) answer.event = BurialRefused{};
            break;
        case Operation::control:
            answer.event = decoder_.control(std::move(results_.front()));
            break;
        case Operation::blocked_keys:
            answer.event = decoder_.blocked_keys(results_.front().get(), topics);
            break;
        case Operation::crashes:
            answer.event = decoder_.crashes(results_.front().get());
            break;
        case Operation::notes:
            answer.event = NoteTaken{};
            break;
    }
    answer.refusal = std::exchange(refusal_, {});
    results_.clear();
    return answer;
}

}  // namespace outbox
