// Makes a failing scenario small: takes faults, transactions, rows, replicas away for as long as it still breaks the
// same promise. What is left is what it takes. One thread.
#pragma once

#include <cstddef>

#include "sim/scenario.hpp"

namespace outbox::sim {

struct Shrunk {
    Scenario scenario;
    std::size_t runs = 0;
};

Shrunk shrink(const Scenario& failing);

}  // namespace outbox::sim
