// In the simulator a broken invariant of the core is a violation like any other, found by its seed: it is thrown, where
// core/invariant.cpp ends the process.
#include <stdexcept>
#include <string>

#include "core/invariant.hpp"

namespace outbox {

void invariant_broken(const char* what, const char* file, int line) {
    throw std::logic_error(std::string(what) + " (" + file + ":" + std::to_string(line) + ")");
}

}  // namespace outbox
