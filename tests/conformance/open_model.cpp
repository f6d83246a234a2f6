#include "conformance/model_database.hpp"

namespace outbox::conformance {

std::unique_ptr<Database> open_database() {
    return std::make_unique<ModelDatabase>();
}

}  // namespace outbox::conformance
