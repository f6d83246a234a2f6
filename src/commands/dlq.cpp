// `dlq`: the dead letters, for whoever has to decide what becomes of them.
#include <algorithm>
#include <iostream>
#include <nlohmann/json.hpp>

#include "commands/command.hpp"
#include "commands/database.hpp"
#include "commands/dead_letter_text.hpp"
#include "commands/operator.hpp"
#include "commands/terminal_text.hpp"
#include "config/values.hpp"
#include "postgres/migrations.hpp"

namespace outbox {

namespace {

namespace options = boost::program_options;

constexpr std::int64_t batch_rows = 100;
constexpr std::int64_t listed_default = 100;
constexpr std::int64_t shown_default = 10;  // with payloads they may be large
constexpr std::int64_t limit_max = 1'000'000'000;
constexpr std::int64_t listed_max = 100'000;

enum class Action { list, show, requeue, discard };

struct Request {
    Action action = Action::list;
    DeadLetterFilter filter;
    std::string since;                  // as it was given
    std::optional<std::int64_t> limit;  // nullopt: all of them, or as many as fit a screen
    bool json = false;
    bool payload = false;
    bool dry_run = false;
    bool yes = false;
    Operator who;

    bool changes() const { return action == Action::requeue || action == Action::discard; }
    const char* verb() const { return action == Action::requeue ? "requeue" : "discard"; }
};

Action action_of(const CommandLine& line) {
    const std::string text = line.has("action") ? line["action"].as<std::string>() : std::string();
    if (text == "list") return Action::list;
    if (text == "show") return Action::show;
    if (text == "requeue") return Action::requeue;
    if (text == "discard") return Action::discard;
    throw UsageError("dlq what? list, show, requeue or discard" + (text.empty() ? "" : ", not " + printable(text)));
}

void add_options(CommandLine& line) {
    line.positional("action", "list, show, requeue or discard");
    line.options()("topic", options::value<std::string>(), "those of this topic")("key", options::value<std::string>(),
                                                                                  "those with this key")(
        "error", options::value<std::string>()->value_name("CODE"), "those with this error, as MSG_SIZE_TOO_LARGE")(
        "since", options::value<std::string>()->value_name("DURATION|TIMESTAMP"),
        "those that failed in the last 30m, or after 2025-01-31T08:00:00Z")(
        "id", options::value<std::vector<std::int64_t>>()->value_name("N"), "this one; may be repeated")(
        "limit", options::value<std::int64_t>()->value_name("N"), "at most so many, the oldest first")(
        "all", options::bool_switch(), "requeue, discard: all of them, without any filter")(
        "dry-run", options::bool_switch(), "requeue, discard: only say which ones it would be")(
        "yes", options::bool_switch(), "requeue, discard: do not ask")(
        "payload", options::bool_switch(), "show: the payload, which is printed nowhere else");
    add_output(line);
    add_reason(line, Reason::optional);
}

std::optional<std::string> text_option(const CommandLine& line, const std::string& name) {
    return line.has(name) ? std::optional<std::string>(line[name].as<std::string>()) : std::nullopt;
}

void refuse_what_does_not_apply(const CommandLine& line, const Request& request) {
    for (const std::string name : {"all", "dry-run", "yes"})
        if (!request.changes() && line[name].as<bool>()) throw UsageError("--" + name + " is for requeue and discard");
    if (!request.changes() && line.has("reason")) throw UsageError("--reason is for requeue and discard");
    if (request.action != Action::show && request.payload) throw UsageError("--payload is for dlq show");
    if (!request.changes()) return;
    const bool all = line["all"].as<bool>();
    if (!line.has("reason") && !request.dry_run) throw UsageError("say why, with --reason");
    if (request.filter.matches_everything() && !all)
        throw Refused(std::string("without a filter it would ") + request.verb() +
                      " every dead letter: say so with --all, or name some");
    if (!request.filter.matches_everything() && all) throw UsageError("either --all or a filter");
}

Request request_of(const CommandLine& line) {
    Request request;
    request.action = action_of(line);
    request.filter.topic = text_option(line, "topic");
    request.filter.key = text_option(line, "key");
    request.filter.error_code = text_option(line, "error");
    request.filter.since = text_option(line, "since");
    request.since = request.filter.since.value_or("");
    if (line.has("id")) request.filter.ids = line["id"].as<std::vector<std::int64_t>>();
    if (request.filter.ids.size() > 1000) throw UsageError("--id more than 1000 times");
    if (line.has("limit")) request.limit = line["limit"].as<std::int64_t>();
    const std::int64_t most = request.changes() ? limit_max : listed_max;
    if (request.limit && (*request.limit < 1 || *request.limit > most))
        throw UsageError("--limit is from 1 to " + std::to_string(most));
    request.json = wants_json(line);
    request.payload = line["payload"].as<bool>();
    request.dry_run = line["dry-run"].as<bool>();
    request.yes = line["yes"].as<bool>();
    request.who = operator_of(line);
    refuse_what_does_not_apply(line, request);
    return request;
}

// By the server's clock and calendar, once, so that every batch means the same.
std::optional<std::string> resolved_since(Client& client, const std::string& since) {
    if (since.empty()) return std::nullopt;
    if (const auto duration = parse_duration(since))
        return resolve_since(client, std::chrono::duration_cast<std::chrono::milliseconds>(*duration));
    // Only dates: Postgres would also take "tomorrow".
    const bool dated =
        since.size() >= 8 && since.size() <= 40 && since.find_first_not_of("0123456789-:.TZ +") == std::string::npos;
    auto resolved = dated ? resolve_since(client, since) : std::nullopt;
    if (!resolved)
        throw UsageError("--since is a duration such as 30m, or a time such as 2025-01-31T08:00:00Z, not " +
                         printable(since));
    return resolved;
}

ExitCode print(Client& client, const Request& request) {
    const bool whole = request.action == Action::show;
    const std::int64_t limit = request.limit.value_or(whole ? shown_default : listed_default);
    std::vector<DeadLetter> letters =
        list_dead_letters(client, request.filter, {.limit = limit + (request.payload ? 0 : 1)}, request.payload);
    const bool more = static_cast<std::int64_t>(letters.size()) > limit;
    if (more) letters.pop_back();
    if (request.json) {
        std::cout << json_of(letters, more, whole);
    } else {
        for (const DeadLetter& letter : letters) std::cout << (whole ? text_of(letter) : line_of(letter));
        if (letters.empty()) std::cout << "no dead letter matches\n";
        if (more) std::cout << "and more: see --limit\n";
    }
    return whole && letters.empty() ? ExitCode::problems_found : ExitCode::ok;
}

void print_result(const Request& request, std::int64_t rows) {
    if (request.json) {
        const nlohmann::ordered_json document{{"action", request.verb()}, {"dry_run", request.dry_run}, {"rows", rows}};
        std::cout << document.dump() << '\n';
        return;
    }
    const std::string done = request.action == Action::requeue ? "requeued " : "discarded ";
    std::cout << (request.dry_run ? std::string("would ") + request.verb() + " " : done) << rows << " dead letters\n";
}

ExitCode change(Client& client, const Request& request) {
    DeadLetterRange range{.upto = last_dead_letter(client), .limit = request.limit.value_or(limit_max)};
    const std::int64_t matching = count_dead_letters(client, request.filter, range);
    if (request.dry_run) {
        const DeadLetterRange first{.upto = range.upto, .limit = std::min(range.limit, listed_default)};
        if (!request.json)
            for (const DeadLetter& letter : list_dead_letters(client, request.filter, first, false))
                std::cout << line_of(letter);
        if (!request.json && matching > listed_default) std::cout << "and more\n";
        print_result(request, matching);
        return ExitCode::ok;
    }
    if (matching > 0)
        confirm(std::string(request.verb()) + " " + std::to_string(matching) + " dead letters?", request.yes);

    std::int64_t rows = 0;
    try {
        for (std::int64_t left = range.limit; left > 0;) {
            range.limit = std::min(left, batch_rows);
            const DeadLetterBatch done = request.action == Action::requeue
                                             ? requeue_dead_letters(client, request.who, request.filter, range)
                                             : discard_dead_letters(client, request.who, request.filter, range);
            if (done.rows == 0) break;
            rows += done.rows;
            left -= done.rows;
            range.after = done.last_id;
        }
    } catch (const PostgresError&) {
        print_result(request, rows);  // what was done before it is done
        throw;
    }
    print_result(request, rows);
    return ExitCode::ok;
}

}  // namespace

ExitCode dlq(const Invocation& invocation) {
    CommandLine line(
        "dlq", "list|show|requeue|discard [filters] [options]",
        "Look at dead letters, put them into the outbox again (the same events, with the ids they had), or\n"
        "throw them away. Filters narrow each other.",
        "outbox-relay dlq requeue --topic orders --error MSG_SIZE_TOO_LARGE --reason \"4 MiB are allowed now\"");
    add_options(line);
    if (!line.parse(invocation)) return ExitCode::ok;
    Request request = request_of(line);
    const Config config = line.config(Needs::postgres);
    return with_database(config.postgres(), Role::relay, [&](Client& client) {
        require_schema(client);
        request.filter.since = resolved_since(client, request.since);
        return request.changes() ? change(client, request) : print(client, request);
    });
}

}  // namespace outbox
