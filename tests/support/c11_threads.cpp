// For the thread sanitizer alone: C11's threads on top of pthreads. Debian's librdkafka takes thrd_create from glibc,
// and the sanitizers of gcc 12 and clang 14, which do not know it, crash on the first thread it starts. A program's own
// definition goes before the library's. mtx_* and cnd_* stay glibc's: to redirect them as well lets the sanitizer see
// half of librdkafka's locking, and costs dozens of false reports.
#include <pthread.h>
#include <threads.h>

#include <cstdint>
#include <memory>

namespace {

struct Start {
    thrd_start_t function;
    void* argument;
};

void* run(void* start) {
    const std::unique_ptr<Start> owned(static_cast<Start*>(start));
    // NOLINTNEXTLINE(performance-no-int-to-ptr): an exit code on its way through pthread_join
    return reinterpret_cast<void*>(static_cast<std::intptr_t>(owned->function(owned->argument)));
}

}  // namespace

extern "C" {

int thrd_create(thrd_t* thread, thrd_start_t function, void* argument) {
    auto start = std::make_unique<Start>(Start{function, argument});
    if (pthread_create(thread, nullptr, run, start.get()) != 0) return thrd_error;
    static_cast<void>(start.release());
    return thrd_success;
}

int thrd_join(thrd_t thread, int* result) {
    void* value = nullptr;
    if (pthread_join(thread, &value) != 0) return thrd_error;
    if (result != nullptr) *result = static_cast<int>(reinterpret_cast<std::intptr_t>(value));
    return thrd_success;
}
}
