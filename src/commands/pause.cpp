// `pause` and `resume`: through outbox.control, so that they hold for every relay and over restarts.
#include <iostream>

#include "commands/command.hpp"
#include "commands/database.hpp"
#include "commands/operator.hpp"
#include "commands/terminal_text.hpp"
#include "postgres/migrations.hpp"

namespace outbox {

namespace {

namespace options = boost::program_options;

std::string topic_of(const CommandLine& line) {
    return line.has("topic") ? topic_name(line["topic"].as<std::string>()) : everything;
}

std::string name_of(const std::string& topic) {
    return topic == everything ? "everything" : topic;
}

// What was resumed by name says nothing about the rest.
void print_still_paused(Client& client) {
    std::string topics;
    for (const ControlStatus& control : read_control(client))
        if (control.paused) topics += (topics.empty() ? "" : ", ") + terminal_text(name_of(control.topic));
    if (!topics.empty()) std::cout << "still paused: " << topics << '\n';
}

}  // namespace

ExitCode pause(const Invocation& invocation) {
    CommandLine line(
        "pause", "[TOPIC] --reason TEXT",
        "Stop publishing, of one topic or of everything, on every relay of the database and until resume.\n"
        "Rows wait in the outbox; what is in flight is finished.",
        "outbox-relay pause orders --reason \"partitions are being added\"");
    line.positional("topic", "the one topic to pause; without it everything");
    line.options()("no-wait", options::bool_switch(), "do not wait until every worker has confirmed");
    add_reason(line, Reason::required);
    if (!line.parse(invocation)) return ExitCode::ok;
    const std::string topic = topic_of(line);
    const Operator who = operator_of(line);
    const Config config = line.config(Needs::postgres);
    return with_database(config.postgres(), Role::relay, [&](Client& client) {
        require_schema(client);
        const ControlRevision revision = pause_topic(client, who, topic);
        std::cout << name_of(topic) << " is paused\n" << std::flush;
        return line["no-wait"].as<bool>() ? ExitCode::ok : await_confirmation(client, revision);
    });
}

ExitCode resume(const Invocation& invocation) {
    CommandLine line("resume", "[TOPIC] [options]", "Publish again what pause stopped.", "outbox-relay resume orders");
    line.positional("topic", "the one topic to resume; without it what `pause` without a topic stopped");
    line.options()("no-wait", options::bool_switch(), "do not wait until every worker has confirmed");
    add_reason(line, Reason::optional);
    if (!line.parse(invocation)) return ExitCode::ok;
    const std::string topic = topic_of(line);
    const Operator who = operator_of(line);
    const Config config = line.config(Needs::postgres);
    return with_database(config.postgres(), Role::relay, [&](Client& client) {
        require_schema(client);
        const auto revision = resume_topic(client, who, topic);
        std::cout << name_of(topic) << (revision ? " is resumed\n" : " was not paused\n");
        print_still_paused(client);
        std::cout << std::flush;
        if (!revision || line["no-wait"].as<bool>()) return ExitCode::ok;
        return await_confirmation(client, *revision);
    });
}

}  // namespace outbox
