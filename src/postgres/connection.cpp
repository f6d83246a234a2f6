#include "postgres/connection.hpp"

#include <libpq-fe.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <cstdlib>
#include <fstream>
#include <new>

#include "core/owned.hpp"
#include "postgres/sqlstate.hpp"

namespace outbox {

namespace {

constexpr std::size_t password_bytes_max = 4096;

using ConnectionOptions = std::unique_ptr<PQconninfoOption, FreeWith<PQconninfoFree>>;

// A value for what the operator left open, unless libpq's own environment variable sets it. Dead peers are noticed
// within 10 + 3 × 5 s when idle and within 15 s with data under way; libpq's defaults are the kernel's, hours.
struct Default {
    const char* keyword;
    const char* value;
    const char* environment;  // empty: libpq has none
};
constexpr std::array defaults{
    Default{"connect_timeout", "10", "PGCONNECT_TIMEOUT"},
    Default{"target_session_attrs", "read-write", "PGTARGETSESSIONATTRS"},
    Default{"keepalives_idle", "10", ""},
    Default{"keepalives_interval", "5", ""},
    Default{"keepalives_count", "3", ""},
    Default{"tcp_user_timeout", "15000", ""},
};

ConnectionOptions parse_dsn(const std::string& dsn) {
    char* text = nullptr;
    ConnectionOptions options(PQconninfoParse(dsn.c_str(), &text));
    const std::unique_ptr<char, FreeWith<PQfreemem>> owned_text(text);
    if (options) return options;
    // libpq quotes the part it stumbled over, and with a space or a / in a password that part is the password.
    std::string reason = text == nullptr ? std::string("out of memory") : std::string(text);
    const auto open = reason.find('"');
    const auto close = reason.rfind('"');
    if (open != std::string::npos && close > open) reason.replace(open + 1, close - open - 1, "…");
    while (!reason.empty() && reason.back() == '\n') reason.pop_back();
    throw PostgresError(
        "postgres.dsn cannot be read: " + reason +
        " (its text is withheld: it may hold a password; quote values with spaces, percent-encode in a URI)");
}

std::string read_password(const SecretFile& file) {
    std::ifstream stream(file.path, std::ios::binary);
    if (!stream) throw PostgresError("cannot read postgres.password_file " + file.origin);
    std::string password(password_bytes_max + 1, '\0');
    stream.read(password.data(), static_cast<std::streamsize>(password.size()));
    if (stream.bad()) throw PostgresError("cannot read postgres.password_file " + file.origin);
    password.resize(static_cast<std::size_t>(stream.gcount()));
    if (password.ends_with('\n')) password.pop_back();
    if (password.ends_with('\r')) password.pop_back();
    if (password.empty()) throw PostgresError("postgres.password_file " + file.origin + " is empty");
    if (password.size() >= password_bytes_max)
        throw PostgresError("postgres.password_file " + file.origin + " is longer than a password");
    if (password.find('\0') != std::string::npos)
        throw PostgresError("postgres.password_file " + file.origin + " holds a zero byte");
    return password;
}

std::string* find(ConnectionParameters& parameters, std::string_view keyword) {
    const auto found =
        std::find_if(parameters.begin(), parameters.end(), [&](const auto& entry) { return entry.first == keyword; });
    return found == parameters.end() ? nullptr : &found->second;
}

void set(ConnectionParameters& parameters, const std::string& keyword, std::string value) {
    if (std::string* present = find(parameters, keyword))
        *present = std::move(value);
    else
        parameters.emplace_back(keyword, std::move(value));
}

ConnectionParameters given_parameters(const std::string& dsn) {
    ConnectionParameters parameters;
    const ConnectionOptions options = parse_dsn(dsn);
    for (const PQconninfoOption* option = options.get(); option->keyword != nullptr; ++option)
        if (option->val != nullptr && *option->val != '\0') parameters.emplace_back(option->keyword, option->val);
    // user:p@ss@host: everything after the first @ became the host, and would be printed as one.
    const std::string* host = find(parameters, "host");
    if (host != nullptr && !host->starts_with('/') && !host->starts_with('@') && host->find('@') != std::string::npos)
        throw PostgresError("postgres.dsn names a host with an @ in it: write an @ in a user name or password as %40");
    return parameters;
}

std::string_view or_empty(const char* text) {
    return text == nullptr ? std::string_view() : std::string_view(text);
}

// host, hostaddr and port are lists; libpq's environment variables stand in for what the dsn leaves open.
std::vector<std::string> entries_of(ConnectionParameters& parameters, const char* keyword, const char* environment) {
    const std::string* const given = find(parameters, keyword);
    std::string_view list = given != nullptr ? std::string_view(*given) : or_empty(std::getenv(environment));
    std::vector<std::string> entries;
    for (auto comma = list.find(','); comma != std::string_view::npos; comma = list.find(',')) {
        entries.emplace_back(list.substr(0, comma));
        list.remove_prefix(comma + 1);
    }
    entries.emplace_back(list);
    return entries;
}

// "FATAL:  28P01:  password …" is what a verbose message looks like, whatever the language of its words.
std::string take_sqlstate(std::string& message) {
    const auto upper_or_digit = [](char c) { return (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'); };
    for (auto at = message.find(":  "); at != std::string::npos; at = message.find(":  ", at + 1)) {
        std::string code = message.substr(at + 3, 5);
        if (code.size() != 5 || !std::all_of(code.begin(), code.end(), upper_or_digit)) continue;
        if (message.compare(at + 8, 2, ": ") != 0) continue;
        message.erase(at + 3, 7);
        return code;
    }
    return {};
}

std::string with_advice(std::string text, const std::string& sqlstate, std::string_view message, std::string_view user,
                        Role role) {
    if (!sqlstate.empty()) text += " (SQLSTATE " + sqlstate + ")";
    const std::string hint = advice(sqlstate, message, user, role);
    return hint.empty() ? text : text + "; " + hint;
}

}  // namespace

void CloseConnection::operator()(pg_conn* connection) const noexcept {
    PQfinish(connection);
}

void ClearResult::operator()(pg_result* result) const noexcept {
    PQclear(result);
}

ConnectionParameters connection_parameters(const PostgresSettings& settings, std::string_view application_name) {
    ConnectionParameters parameters = given_parameters(settings.dsn);
    for (const Default& entry : defaults) {
        const bool in_environment = *entry.environment != '\0' && std::getenv(entry.environment) != nullptr;
        if (!in_environment && find(parameters, entry.keyword) == nullptr)
            parameters.emplace_back(entry.keyword, entry.value);
    }
    // libpq's own word for a default application_name.
    set(parameters, "fallback_application_name", std::string(application_name));
    // Keys and topics are read as UTF-8, whatever the database is encoded in.
    set(parameters, "client_encoding", "UTF8");
    if (settings.password_file) set(parameters, "password", read_password(*settings.password_file));
    return parameters;
}

std::vector<ConnectionParameters> connection_attempts(const PostgresSettings& settings,
                                                      std::string_view application_name) {
    ConnectionParameters all = connection_parameters(settings, application_name);
    std::vector<ConnectionParameters> attempts{all};
    for (const auto& [keyword, environment] :
         {std::pair{"host", "PGHOST"}, std::pair{"hostaddr", "PGHOSTADDR"}, std::pair{"port", "PGPORT"}}) {
        const std::vector<std::string> entries = entries_of(all, keyword, environment);
        if (entries.size() == 1) continue;
        if (attempts.size() == 1) attempts.resize(entries.size(), all);
        if (attempts.size() != entries.size()) return {all};  // libpq tells what does not match
        for (std::size_t i = 0; i < entries.size(); ++i) set(attempts[i], keyword, entries[i]);
    }
    return attempts;
}

std::chrono::seconds connect_timeout(const ConnectionParameters& parameters) {
    const auto found = std::find_if(parameters.begin(), parameters.end(),
                                    [](const auto& entry) { return entry.first == "connect_timeout"; });
    const std::string_view text =
        found != parameters.end() ? std::string_view(found->second) : or_empty(std::getenv("PGCONNECT_TIMEOUT"));
    int given = 0;
    std::from_chars(text.data(), text.data() + text.size(), given);
    return std::chrono::seconds(given > 0 ? std::clamp(given, 2, 60) : 10);  // 2: libpq's own least
}

void HostFailures::add(const PostgresError& failure) {
    if (!text_.empty()) text_ += "; ";
    text_ += failure.what();
    if (!failure.sqlstate().empty()) sqlstate_ = failure.sqlstate();
}

std::string describe_target(const PostgresSettings& settings) {
    ConnectionParameters parameters = given_parameters(settings.dsn);
    const ConnectionOptions environment(PQconndefaults());
    for (const PQconninfoOption* option = environment.get(); option != nullptr && option->keyword != nullptr; ++option)
        if (option->val != nullptr && *option->val != '\0' && find(parameters, option->keyword) == nullptr)
            parameters.emplace_back(option->keyword, option->val);
    const std::string* user = find(parameters, "user");
    if (user != nullptr && find(parameters, "dbname") == nullptr) parameters.emplace_back("dbname", *user);

    std::string text;
    for (const char* keyword : {"service", "host", "hostaddr", "port", "dbname", "user"}) {
        const std::string* value = find(parameters, keyword);
        if (value != nullptr) text += (text.empty() ? "" : " ") + std::string(keyword) + "=" + *value;
    }
    return text;
}

Connection open_connection(const ConnectionParameters& parameters) {
    std::vector<const char*> keywords;
    std::vector<const char*> values;
    for (const auto& [keyword, value] : parameters) {
        keywords.push_back(keyword.c_str());
        values.push_back(value.c_str());
    }
    keywords.push_back(nullptr);
    values.push_back(nullptr);
    Connection connection(PQconnectStartParams(keywords.data(), values.data(), 0));
    if (!connection) throw std::bad_alloc();
    // The only way to learn why the server turned a connection down.
    PQsetErrorVerbosity(connection.get(), PQERRORS_VERBOSE);
    PQsetNoticeReceiver(
        connection.get(), [](void*, const PGresult*) {}, nullptr);
    return connection;
}

PostgresError connect_failure(const pg_conn* connection, Role role) {
    std::string message(or_empty(PQerrorMessage(connection)));
    std::string sqlstate = take_sqlstate(message);
    if (const auto location = message.find("\nLOCATION:"); location != std::string::npos) message.resize(location);
    while (!message.empty() && std::isspace(static_cast<unsigned char>(message.back())) != 0) message.pop_back();
    std::replace(message.begin(), message.end(), '\n', ' ');
    if (message.empty()) message = "the connection to Postgres was lost";
    // libpq's own verdict on a server that does not fit target_session_attrs carries no SQLSTATE.
    if (message.ends_with("session is read-only")) message += "; " + advice("25006", message, {}, role);
    const std::string text = with_advice(message, sqlstate, message, or_empty(PQuser(connection)), role);
    return PostgresError(text, std::move(sqlstate));
}

PostgresError connect_timed_out(const pg_conn* connection, const std::string& patience) {
    return PostgresError("connection to server at \"" + std::string(or_empty(PQhost(connection))) + "\", port " +
                             std::string(or_empty(PQport(connection))) + " failed: no answer within " + patience,
                         "08006");
}

PostgresError statement_failure(const pg_conn* connection, const pg_result* result, Role role) {
    const std::string_view message = or_empty(PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY));
    std::string sqlstate(or_empty(PQresultErrorField(result, PG_DIAG_SQLSTATE)));
    if (sqlstate.empty()) return connect_failure(connection, role);  // made up by libpq: the connection broke
    // Of a read-only server each kind of statement is refused in words of its own; to the operator it is one reason.
    const std::string said = sqlstate == "25006" ? "read-only transaction" : std::string(message);
    const std::string text = with_advice("Postgres: " + said, sqlstate, message, or_empty(PQuser(connection)), role);
    return PostgresError(text, std::move(sqlstate));
}

std::string postgres_library_version() {
    const int version = PQlibVersion();
    return "libpq " + std::to_string(version / 10000) + "." + std::to_string(version % 10000);
}

}  // namespace outbox
