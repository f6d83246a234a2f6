#include "commands/database.hpp"

#include "postgres/migrations.hpp"

namespace outbox {

ExitCode with_database(const PostgresSettings& settings, Role role, const std::function<ExitCode(Client&)>& action) {
    try {
        Client client(settings, "outbox-relay", role);
        return action(client);
    } catch (const SchemaError& error) {
        throw SchemaMismatch(error.what());
    } catch (const PostgresError& error) {
        if (error.unreachable()) throw Unreachable(error.what());
        if (error.schema_missing()) throw SchemaMismatch(error.what());
        throw;
    }
}

}  // namespace outbox
