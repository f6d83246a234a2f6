#include "conformance/server_database.hpp"

namespace outbox::conformance {

std::unique_ptr<Database> open_database() {
    return std::make_unique<ServerDatabase>();
}

}  // namespace outbox::conformance
