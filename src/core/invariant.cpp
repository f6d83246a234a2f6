#include "core/invariant.hpp"

#include <cstdio>
#include <cstdlib>

namespace outbox {

void invariant_broken(const char* what, const char* file, int line) {
    static_cast<void>(std::fprintf(stderr, "outbox-relay: bug: %s (%s:%d)\n", what, file, line));
    std::abort();
}

}  // namespace outbox
