// What the commands that change something have in common: who does it and why, the question before something is lost,
// and waiting until the workers have done as they were told. Main thread only.
#pragma once

#include <chrono>
#include <functional>
#include <string>
#include <vector>

#include "commands/command.hpp"
#include "postgres/control.hpp"
#include "postgres/outbox_status.hpp"

namespace outbox {

// "user@host" of this process.
std::string actor();

enum class Reason { required, optional };

// The option --reason, and who and why once the line is parsed.
void add_reason(CommandLine& line, Reason reason);
Operator operator_of(const CommandLine& line);

// The option --output text|json.
void add_output(CommandLine& line);
bool wants_json(const CommandLine& line);

// The name of one topic as Kafka takes it; throws UsageError.
std::string topic_name(const std::string& text);

// Asks on a terminal; elsewhere --yes must have been given. Throws Refused.
void confirm(const std::string& question, bool yes);

// Time as the database counts it: commands read no clock of their own.
class DatabaseClock {
public:
    explicit DatabaseClock(Client& client);
    double seconds();                           // since construction
    void wait(std::chrono::milliseconds time);  // the server sleeps, and so do we

private:
    Client& client_;
    double start_ = 0;
};

// Asks for the living workers again and again until each of them is done or the time is over; returns them as they
// were last.
using WorkerDone = std::function<bool(const RelayStatus&)>;
std::vector<RelayStatus> await_workers(Client& client, DatabaseClock& clock, double until_seconds,
                                       const WorkerDone& done);

// Waits up to ten seconds until every living worker has acted on the revision, and says so.
ExitCode await_confirmation(Client& client, ControlRevision revision);

// "  host-a pid 17  12 rows in flight", and what it has not done yet; one line each.
void print_workers(const std::vector<RelayStatus>& workers, ControlRevision revision);

// "0.6 s"
std::string seconds_text(double seconds);

}  // namespace outbox
