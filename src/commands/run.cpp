// `run`: the daemon. Blocks the stop signals, wires everything from the configuration, and runs until told to stop.

#include <algorithm>

#include "app/daemon.hpp"
#include "commands/command.hpp"
#include "commands/version.hpp"
#include "kafka/properties.hpp"
#include "postgres/migrations.hpp"
#include "telemetry/log.hpp"

namespace outbox {

namespace {

int schema_version() {
    int version = 0;
    for (const Migration& migration : embedded_migrations())
        if (migration.module == "outbox") version = std::max(version, migration.version);
    return version;
}

DaemonSettings settings_from(const Config& config) {
    return {.worker = {.postgres = config.postgres(),
                       .kafka = config.kafka(),
                       .relay = {config.relay(), config.topics(), config.pacing(), config.poison()},
                       .schema_version = schema_version()},
            .http = config.http(),
            .version = std::string(relay_version()),
            .librdkafka = kafka_library_version(),
            .libpq = postgres_library_version()};
}

}  // namespace

ExitCode run(const Invocation& invocation) {
    CommandLine line("run", "[options]", "Relays events from the outbox to Kafka until told to stop.",
                     "outbox-relay run --config /etc/outbox-relay/outbox-relay.toml");
    if (!line.parse(invocation)) return ExitCode::ok;
    const Config config = line.config(Needs::postgres_and_kafka);

    const StopSignals signals;  // before any thread exists: they inherit the mask
    start_log(config.log());
    Daemon daemon(settings_from(config), signals);
    switch (daemon.run()) {
        case WorkerEnd::running:
        case WorkerEnd::broken:
            return ExitCode::failure;
        case WorkerEnd::drained:
            return ExitCode::ok;
        case WorkerEnd::schema_newer:
            return ExitCode::schema_mismatch;
    }
    return ExitCode::failure;
}

}  // namespace outbox
