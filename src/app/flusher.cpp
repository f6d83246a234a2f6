#include "app/flusher.hpp"

#include <pthread.h>

namespace outbox {

namespace {

using namespace std::chrono_literals;

// Long enough for librdkafka's threads to be woken, on a busy machine as well. It ends sooner when nothing is in
// flight.
constexpr std::chrono::milliseconds patience = 10ms;
constexpr Duration nap = 1h;  // a flush that nobody asked for does nothing

}  // namespace

Flusher::Flusher(const Producer& producer) : producer_(producer), thread_([this] { run(); }) {
    pthread_setname_np(thread_.native_handle(), "flusher");
}

Flusher::~Flusher() {
    ending_ = true;
    ask();
}

void Flusher::ask() const {
    asked_.interrupt();
}

// What is asked for meanwhile counts once more: the call under way may be over before those rows were looked at.
void Flusher::run() {
    for (asked_.sleep({}, {}, nap); !ending_; asked_.sleep({}, {}, nap)) producer_.flush(patience);
}

}  // namespace outbox
