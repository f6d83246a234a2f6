// `unblock`: lets a key go on that poison.policy = "block-key" stopped.
#include <iostream>

#include "commands/command.hpp"
#include "commands/database.hpp"
#include "commands/operator.hpp"
#include "commands/terminal_text.hpp"
#include "postgres/migrations.hpp"

namespace outbox {

namespace {

namespace options = boost::program_options;

}  // namespace

ExitCode unblock(const Invocation& invocation) {
    CommandLine line("unblock", "--topic TOPIC --key KEY [--dead-letter] --reason TEXT",
                     "Let a blocked key go on: the row that blocks it is tried again, or becomes a dead letter.\n"
                     "Which keys are blocked, and why, status shows.",
                     "outbox-relay unblock --topic orders --key 42 --reason \"the topic takes 4 MiB now\"");
    line.options()("topic", options::value<std::string>()->required(), "the key's topic")(
        "key", options::value<std::string>()->required(), "the key")("dead-letter", options::bool_switch(),
                                                                     "move the row that blocks it to the dead letters");
    add_reason(line, Reason::required);
    if (!line.parse(invocation)) return ExitCode::ok;
    const std::string topic = topic_name(line["topic"].as<std::string>());
    const std::string key = line["key"].as<std::string>();
    const auto row = line["dead-letter"].as<bool>() ? BlockingRow::to_dead_letters : BlockingRow::stays;
    const Operator who = operator_of(line);
    const Config config = line.config(Needs::postgres);
    return with_database(config.postgres(), Role::relay, [&](Client& client) {
        require_schema(client);
        const auto released = release_key(client, who, topic, key, row);
        if (!released) {
            std::cout << "that key of " << topic << " is not blocked\n";
            return ExitCode::problems_found;
        }
        std::cout << "released; event " << released->event_id << " (" << terminal_text(released->error_code) << ") ";
        if (released->dead_letter_id)
            std::cout << "is dead letter " << *released->dead_letter_id << '\n';
        else if (row == BlockingRow::to_dead_letters)
            std::cout << "is in the outbox no more, nothing was moved\n";
        else
            std::cout << "is tried again\n";
        return ExitCode::ok;
    });
}

}  // namespace outbox
