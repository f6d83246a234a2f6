// The commands of outbox-relay and what they share: exit codes, the command line, how a failure reaches main.
// A command takes its own arguments and returns an exit code, or throws; main alone turns exceptions into exit codes.
// Main thread only.
#pragma once

#include <boost/program_options.hpp>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "config/config.hpp"
#include "config/sources.hpp"

namespace outbox {

enum class ExitCode : int {
    ok = 0,
    failure = 1,
    usage = 2,
    invalid_config = 3,
    unreachable = 4,
    problems_found = 5,
    schema_mismatch = 6,
    refused = 7,
};

struct Invocation {
    std::vector<std::string> arguments;  // what follows the command's name
    Environment environment;             // the process's, read once by main
};

// Exit 2: the command line itself is wrong.
class UsageError : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

// Exit 4: Postgres or Kafka does not answer, and the command does not wait for it.
class Unreachable : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

// Exit 6: the database's schema is not the one this binary knows.
class SchemaMismatch : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

// Exit 7: it would do harm, and nobody has said that it shall.
class Refused : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

// One command's options plus the global ones (--config, --set, --help). Use:
//   CommandLine line("enqueue", "[options]", "Put one event into the outbox.", "outbox-relay enqueue --topic orders");
//   line.options()("topic", boost::program_options::value<std::string>()->required(), "the topic");
//   if (!line.parse(invocation)) return ExitCode::ok;  // --help was asked for, and printed
//   const Config config = line.config(Needs::postgres);
class CommandLine {
public:
    CommandLine(std::string name, std::string synopsis, std::string summary, std::string example);

    boost::program_options::options_description_easy_init options();
    // A word without dashes, in this order on the command line: `migrate up` is positional("action", "up, status or
    // sql"). It is an ordinary option otherwise: optional, and found as line["action"].
    void positional(const std::string& option, const std::string& description);

    // False after --help, which it prints. Throws UsageError: unknown or abbreviated option, surplus argument, missing
    // required option, bad value.
    [[nodiscard]] bool parse(const Invocation& invocation);

    bool has(const std::string& option) const { return values_.count(option) != 0; }
    const boost::program_options::variable_value& operator[](const std::string& option) const {
        return values_[option];
    }
    const boost::program_options::variables_map& values() const { return values_; }

    // The file, the environment and --set, validated for what the command is about to use. Throws ConfigError with
    // every problem.
    Config config(Needs needs) const;

private:
    RawOptions raw() const;
    void print_help() const;

    std::string name_;
    std::string synopsis_;
    std::string summary_;
    std::string example_;
    std::vector<std::pair<std::string, std::string>> arguments_;  // positional ones, for --help
    boost::program_options::options_description own_;
    boost::program_options::options_description hidden_;
    boost::program_options::options_description global_;
    boost::program_options::positional_options_description positional_;
    boost::program_options::variables_map values_;
    Environment environment_;
};

// The commands. Each lives in a file of its own name.
ExitCode run(const Invocation& invocation);
ExitCode check(const Invocation& invocation);
ExitCode print_config(const Invocation& invocation);
ExitCode migrate(const Invocation& invocation);
ExitCode status(const Invocation& invocation);
ExitCode enqueue(const Invocation& invocation);
ExitCode pause(const Invocation& invocation);
ExitCode resume(const Invocation& invocation);
ExitCode rate(const Invocation& invocation);
ExitCode drain(const Invocation& invocation);
ExitCode dlq(const Invocation& invocation);
ExitCode unblock(const Invocation& invocation);
ExitCode verify(const Invocation& invocation);
ExitCode version(const Invocation& invocation);
ExitCode healthcheck(const Invocation& invocation);

}  // namespace outbox
