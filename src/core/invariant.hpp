// A check that stays on in release builds. What it refuses is a bug of ours, never an outcome of the world: the process
// ends, and the supervisor starts it again from what the database says. Any thread.
#pragma once

namespace outbox {

[[noreturn]] void invariant_broken(const char* what, const char* file, int line);

}  // namespace outbox

#define require_invariant(condition, what) \
    ((condition) ? static_cast<void>(0) : ::outbox::invariant_broken(what, __FILE__, __LINE__))
