#include "commands/check.hpp"

#include <algorithm>
#include <iostream>

#include "commands/command.hpp"
#include "config/secrets.hpp"

namespace outbox {

namespace {

std::string brokers(const KafkaSettings& kafka) {
    for (const auto& [name, value] : kafka.properties) {
        if (name == "bootstrap.servers" || name == "metadata.broker.list") return value;
    }
    const bool in_file = std::any_of(kafka.files.begin(), kafka.files.end(),
                                     [](const auto& file) { return file.name == "bootstrap.servers"; });
    return in_file ? "brokers named in a file" : "a mock cluster";
}

void print_summary(const Config& config) {
    std::cout << "configuration ok\n"
              << "  postgres  " << redact_dsn(config.postgres().dsn) << "\n"
              << "  kafka     " << brokers(config.kafka()) << "\n"
              << "  workers   " << config.relay().workers << "\n"
              << "  http      " << (config.http().listen.empty() ? "off" : config.http().listen) << "\n";
}

}  // namespace

ExitCode check(const Invocation& invocation) {
    CommandLine line("check", "[options]",
                     "Checks the configuration, and that Postgres and Kafka answer and hold what the relay needs.\n"
                     "Changes nothing.",
                     "outbox-relay check --offline --config outbox-relay.toml");
    line.options()("offline", "check the configuration alone");
    if (!line.parse(invocation)) return ExitCode::ok;
    const Config config = line.config(Needs::postgres_and_kafka);
    print_summary(config);
    return line.has("offline") ? ExitCode::ok : check_online(config);
}

}  // namespace outbox
