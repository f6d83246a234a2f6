// One transaction of World's writers while it runs.
#pragma once

#include "sim/world.hpp"

namespace outbox::sim {

struct World::Writing {
    const Transaction* plan = nullptr;
    WriterId writer = 0;
    std::size_t inserted = 0;
    bool prepared = false;
};

}  // namespace outbox::sim
