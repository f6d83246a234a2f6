// A Session with a loop around it that sends one action and waits for its answer, as the worker's loop would.
// Test threads only.
#pragma once

#include <poll.h>

#include <chrono>
#include <stdexcept>
#include <variant>

#include "postgres/migrations.hpp"
#include "postgres/session.hpp"

namespace outbox::testing {

inline Instant boot_now() {
    return Instant(std::chrono::steady_clock::now().time_since_epoch());
}

inline WorkerIdentity worker(std::uint8_t number) {
    WorkerIdentity identity;
    identity.id.back() = number;
    identity.host = "host-" + std::to_string(number);
    identity.pid = number;
    identity.version = "0.0.0";
    return identity;
}

// The version of the databases that PostgresDatabase makes.
inline int schema_version() {
    int version = 0;
    for (const Migration& migration : embedded_migrations())
        if (migration.module == "outbox") version = migration.version;
    return version;
}

class SessionDriver {
public:
    explicit SessionDriver(const PostgresSettings& settings, std::uint8_t number = 1,
                           Duration lease_ttl = std::chrono::seconds(60), int version = schema_version())
        : session(settings, worker(number), lease_ttl, version, boot_now()) {
        expect<SessionOpened>();
    }

    void send(const ReadRows& action) { session.send(action, topics, boot_now()); }
    template <class Action>
    void send(const Action& action) {
        session.send(action, boot_now());
    }

    Answer await() {
        while (true) {
            if (auto answer = session.next_answer(topics, boot_now())) return std::move(*answer);
            pollfd wait{session.descriptor(), session.wanted(), 0};
            if (poll(&wait, 1, 10'000) <= 0) throw std::runtime_error("no answer from Postgres within 10 s");
            session.pump(boot_now());
        }
    }

    // The next answer, which has to be this one; throws std::bad_variant_access when it is not.
    template <class Event>
    Event expect() {
        last = await();
        return std::get<Event>(last.event);
    }
    template <class Event, class Action>
    Event ask(const Action& action) {
        send(action);
        return expect<Event>();
    }

    // Everything, unless the caller says otherwise.
    static ReadRows everything() {
        ReadRows read;
        read.upto = no_row;
        read.lanes = LaneSet::all();
        read.limit = 10'000;
        read.payload_bytes_max = 1 << 30;
        return read;
    }

    Topics topics{{"*"}, 1};
    Session session;
    Answer last{};
};

}  // namespace outbox::testing
