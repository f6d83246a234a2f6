// The commands, and how each kind of failure becomes an exit code. Everything else is in commands/.
#include <unistd.h>

#include <algorithm>
#include <array>
#include <exception>
#include <iostream>
#include <string>
#include <string_view>
#include <vector>

#include "commands/command.hpp"

namespace {

using namespace outbox;

struct Command {
    std::string_view name;
    std::string_view summary;
    ExitCode (*execute)(const Invocation&);
};

constexpr std::array<Command, 15> commands{{
    {"run", "move events from Postgres to Kafka until told to stop", run},
    {"check", "check the configuration, Postgres and Kafka", check},
    {"print-config", "show the configuration that counts", print_config},
    {"migrate", "create or update the tables", migrate},
    {"status", "show backlog, lanes and relays", status},
    {"pause", "stop publishing, of one topic or of everything", pause},
    {"resume", "publish again what was paused", resume},
    {"rate", "change the ceiling in rows per second", rate},
    {"drain", "pause everything and wait until nothing is in flight", drain},
    {"dlq", "look at dead letters, requeue them, discard them", dlq},
    {"unblock", "let a blocked key go on", unblock},
    {"enqueue", "put one event into the outbox", enqueue},
    {"verify", "write marked events, read them back, report loss and latency", verify},
    {"healthcheck", "ask a running relay whether it is well", healthcheck},
    {"version", "show versions", version},
}};

void print_usage(std::ostream& out) {
    out << "Usage: outbox-relay COMMAND [options]\n\nMoves events from a Postgres outbox table to "
           "Kafka.\n\nCommands:\n";
    for (const Command& command : commands) {
        out << "  " << command.name << std::string(14 - command.name.size(), ' ') << command.summary << "\n";
    }
    out << "\nEach one explains itself: outbox-relay run --help\n";
}

Environment read_environment_variables() {
    Environment environment;
    for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
        const std::string_view variable(*entry);
        const std::size_t equals = variable.find('=');
        if (equals == std::string_view::npos) continue;
        environment.emplace(variable.substr(0, equals), variable.substr(equals + 1));
    }
    return environment;
}

ExitCode dispatch(int argc, char** argv) {
    const std::vector<std::string> words(argv + std::min(1, argc), argv + argc);
    if (words.empty()) {
        print_usage(std::cerr);
        return ExitCode::usage;
    }
    if (words[0] == "--help" || words[0] == "-h") {
        print_usage(std::cout);
        return ExitCode::ok;
    }
    const std::string name = words[0] == "--version" ? "version" : words[0];
    for (const Command& command : commands) {
        if (command.name == name)
            return command.execute({{words.begin() + 1, words.end()}, read_environment_variables()});
    }
    throw UsageError("unknown command \"" + name + "\"; see outbox-relay --help");
}

ExitCode report(ExitCode code, const std::exception& error) {
    std::cerr << "outbox-relay: " << error.what() << "\n";
    return code;
}

ExitCode execute(int argc, char** argv) try {
    const ExitCode code = dispatch(argc, argv);
    // A full disk or a closed pipe must not pass for success.
    if (!std::cout.flush()) {
        std::cerr << "outbox-relay: the output could not be written\n";
        return code == ExitCode::ok ? ExitCode::failure : code;
    }
    return code;
} catch (const UsageError& error) {
    return report(ExitCode::usage, error);
} catch (const ConfigError& error) {
    for (const ConfigProblem& problem : error.problems) std::cerr << problem.origin << ": " << problem.text << "\n";
    return ExitCode::invalid_config;
} catch (const Unreachable& error) {
    return report(ExitCode::unreachable, error);
} catch (const SchemaMismatch& error) {
    return report(ExitCode::schema_mismatch, error);
} catch (const Refused& error) {
    return report(ExitCode::refused, error);
} catch (const std::exception& error) {
    return report(ExitCode::failure, error);
}

}  // namespace

int main(int argc, char** argv) {
    return static_cast<int>(execute(argc, argv));
}
