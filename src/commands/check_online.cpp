// The half of `check` that talks to Postgres and Kafka: is everything there that `run` will need?

#include <iostream>
#include <string>
#include <vector>

#include "commands/check.hpp"
#include "commands/database.hpp"
#include "kafka/reachability.hpp"
#include "postgres/migrations.hpp"

namespace outbox {

ExitCode check_online(const Config& config) {
    const ExitCode postgres = with_database(config.postgres(), Role::relay, [&](Client& client) {
        require_schema(client);
        const std::vector<std::string> missing =
            missing_grants(client, Role::relay, config.relay().claim == ClaimMode::rows);
        if (missing.empty()) {
            std::cout << "postgres ok\n";
            return ExitCode::ok;
        }
        std::cout << "postgres: privileges are missing; these statements grant them:\n";
        for (const std::string& statement : missing) std::cout << "  " << statement << "\n";
        return ExitCode::problems_found;
    });
    try {
        const BrokerSurvey survey = survey_brokers(config.kafka(), config.relay(), std::chrono::seconds(5));
        std::cout << "kafka ok: " << survey.brokers << " brokers, " << survey.topics << " topics\n";
    } catch (const KafkaUnreachable& error) {
        throw Unreachable(error.what());
    }
    return postgres;
}

}  // namespace outbox
