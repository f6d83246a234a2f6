#include "postgres/client.hpp"

#include <libpq-fe.h>
#include <poll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <system_error>

namespace outbox {

namespace {

[[noreturn]] void unexpected(std::string_view what) {
    throw PostgresError("Postgres answered with something else than " + std::string(what), "XX000");
}

template <class Number>
Number number(std::string_view text, std::string_view what) {
    Number value{};
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size()) unexpected(what);
    return value;
}

}  // namespace

// Time left, as a descriptor that is polled beside the socket: the kernel counts, so no clock is read here.
class Client::Deadline {
public:
    explicit Deadline(Milliseconds timeout) : timer_(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC)), timeout_(timeout) {
        if (timer_ < 0) throw std::system_error(errno, std::generic_category(), "timerfd_create");
        const auto milliseconds = std::max<Milliseconds::rep>(timeout.count(), 1);
        itimerspec when{};
        when.it_value.tv_sec = milliseconds / 1000;
        when.it_value.tv_nsec = milliseconds % 1000 * 1'000'000;
        timerfd_settime(timer_, 0, &when, nullptr);
    }
    ~Deadline() { close(timer_); }
    Deadline(const Deadline&) = delete;
    Deadline& operator=(const Deadline&) = delete;

    // False when the time is over first.
    [[nodiscard]] bool wait(int socket, short events) const {
        std::array<pollfd, 2> waits{pollfd{socket, events, 0}, pollfd{timer_, POLLIN, 0}};
        while (poll(waits.data(), waits.size(), -1) < 0)
            if (errno != EINTR) throw std::system_error(errno, std::generic_category(), "poll");
        return waits[0].revents != 0 || waits[1].revents == 0;
    }

    std::string text() const { return std::to_string(timeout_.count()) + " ms"; }

private:
    int timer_;
    Milliseconds timeout_;
};

std::size_t Rows::size() const {
    return static_cast<std::size_t>(PQntuples(result_.get()));
}

std::optional<std::string_view> Rows::at(std::size_t row, std::size_t column) const {
    const auto r = static_cast<int>(row);
    const auto c = static_cast<int>(column);
    if (r >= PQntuples(result_.get()) || c >= PQnfields(result_.get())) unexpected("the columns asked for");
    if (PQgetisnull(result_.get(), r, c) != 0) return std::nullopt;
    return std::string_view(PQgetvalue(result_.get(), r, c),
                            static_cast<std::size_t>(PQgetlength(result_.get(), r, c)));
}

std::string Rows::text(std::size_t row, std::size_t column) const {
    const auto value = at(row, column);
    if (!value) unexpected("a value that is not NULL");
    return std::string(*value);
}

std::int64_t Rows::integer(std::size_t row, std::size_t column) const {
    return number<std::int64_t>(text(row, column), "an integer");
}

double Rows::real(std::size_t row, std::size_t column) const {
    return number<double>(text(row, column), "a number");
}

bool Rows::boolean(std::size_t row, std::size_t column) const {
    return text(row, column) == "t";
}

Client::Client(const PostgresSettings& settings, std::string_view application_name, Role role, Milliseconds timeout)
    : role_(role) {
    const std::vector<ConnectionParameters> hosts = connection_attempts(settings, application_name);
    const auto patience = timeout / static_cast<Milliseconds::rep>(hosts.size());
    HostFailures failures;
    for (const ConnectionParameters& host : hosts) {
        try {
            connection_ = open_connection(host);
            connect(Deadline(std::min<Milliseconds>(patience, connect_timeout(host))));
            return;
        } catch (const PostgresError& failure) {
            failures.add(failure);
        }
    }
    throw failures.error();
}

void Client::connect(const Deadline& deadline) {
    if (PQstatus(connection_.get()) == CONNECTION_BAD) throw connect_failure(connection_.get(), role_);
    PostgresPollingStatusType next = PGRES_POLLING_WRITING;
    while (next != PGRES_POLLING_OK) {
        if (next == PGRES_POLLING_FAILED) throw connect_failure(connection_.get(), role_);
        const short events = next == PGRES_POLLING_READING ? POLLIN : POLLOUT;
        if (!deadline.wait(PQsocket(connection_.get()), events))
            throw connect_timed_out(connection_.get(), deadline.text());
        next = PQconnectPoll(connection_.get());
    }
    PQsetnonblocking(connection_.get(), 1);
}

pg_conn* Client::usable() const {
    if (!connection_) throw PostgresError("the connection to Postgres was given up after a missed deadline");
    return connection_.get();
}

void Client::flush(const Deadline& deadline) {
    pg_conn* connection = connection_.get();
    for (int left = 1; left != 0;) {
        left = PQflush(connection);
        if (left < 0) throw connect_failure(connection, role_);
        if (left == 0) return;
        // The server may be waiting for us to read before it reads on.
        if (!deadline.wait(PQsocket(connection), POLLIN | POLLOUT)) {
            connection_.reset();
            throw PostgresError("Postgres took nothing more within " + deadline.text());
        }
        if (PQconsumeInput(connection) == 0) throw connect_failure(connection, role_);
    }
}

QueryResult Client::last_result(const Deadline& deadline) {
    pg_conn* connection = connection_.get();
    flush(deadline);
    QueryResult last;
    QueryResult failed;
    for (;;) {
        while (PQisBusy(connection) != 0) {
            if (!deadline.wait(PQsocket(connection), POLLIN)) {
                connection_.reset();
                throw PostgresError("no answer from Postgres within " + deadline.text());
            }
            if (PQconsumeInput(connection) == 0) throw connect_failure(connection, role_);
        }
        QueryResult result(PQgetResult(connection));
        if (!result) break;
        const ExecStatusType status = PQresultStatus(result.get());
        const bool good = status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK || status == PGRES_EMPTY_QUERY;
        if (!good && !failed)
            failed = std::move(result);
        else
            last = std::move(result);
        if (PQstatus(connection) == CONNECTION_BAD) break;
    }
    if (failed) throw statement_failure(connection, failed.get(), role_);
    if (!last) throw connect_failure(connection, role_);
    return last;
}

Rows Client::execute(const std::string& sql, std::span<const Parameter> parameters, Milliseconds timeout) {
    std::vector<const char*> values;
    values.reserve(parameters.size());
    for (const Parameter& parameter : parameters) {
        // It would silently end the value there.
        if (parameter && parameter->find('\0') != std::string::npos)
            throw PostgresError("a text value holds a zero byte, which Postgres cannot store", "22021");
        values.push_back(parameter ? parameter->c_str() : nullptr);
    }
    const Deadline deadline(timeout);
    if (PQsendQueryParams(usable(), sql.c_str(), static_cast<int>(values.size()), nullptr, values.data(), nullptr,
                          nullptr, 0) == 0)
        throw connect_failure(connection_.get(), role_);
    return Rows(last_result(deadline));
}

Rows Client::execute(const std::string& sql, std::initializer_list<Parameter> parameters, Milliseconds timeout) {
    return execute(sql, std::span<const Parameter>(parameters.begin(), parameters.size()), timeout);
}

Rows Client::execute_script(const std::string& sql, Milliseconds timeout) {
    const Deadline deadline(timeout);
    if (PQsendQuery(usable(), sql.c_str()) == 0) throw connect_failure(connection_.get(), role_);
    return Rows(last_result(deadline));
}

void Client::roll_back() noexcept {
    try {
        if (connection_ && PQtransactionStatus(connection_.get()) != PQTRANS_IDLE) execute("ROLLBACK");
    } catch (const std::exception&) {
        // The first failure is the one to report; without a connection the server rolls back by itself.
        connection_.reset();
    }
}

std::string Client::user() const {
    return PQuser(usable());
}

int Client::server_version() const {
    return PQserverVersion(usable());
}

}  // namespace outbox
