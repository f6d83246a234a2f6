// One worker's two sessions as one: the main session reads, leases and asks; the other deletes, so that neither waits
// for the other, and each has a server process of its own. Both are on one and the same server.
// With claims there is one session only, as a claim's transaction deletes what it has locked.
// Any failure throws PostgresError, as a session does; both are then to be rebuilt. The worker's thread.
#pragma once

#include <array>
#include <deque>
#include <memory>
#include <optional>

#include "core/delete_gate.hpp"
#include "postgres/session.hpp"

namespace outbox {

class Sessions {
public:
    // Begins to connect; SessionOpened is the first answer.
    Sessions(const PostgresSettings& settings, const WorkerIdentity& identity, Duration lease_ttl, int schema_version,
             bool deletes_apart, Instant now);

    // For poll(2); -1: not there.
    struct Source {
        int descriptor = -1;
        short wanted = 0;
    };
    std::array<Source, 2> sources() const;
    void pump(Instant now);  // call when poll(2) says so, and when deadline() has passed
    bool streaming(Instant now) const { return main_.streaming(now); }
    Instant deadline() const;
    Instant waiting_since() const;

    template <class Action>
    void send(const Action& action, Instant now) {
        main_.send(action, now);
    }
    void send(const ReadRows& action, const Topics& topics, Instant now);
    void send(const DeleteRows& action, Instant now);

    std::optional<Answer> next_answer(Topics& topics, Instant now);
    const RowBatch& rows() const { return main_.rows(); }

private:
    bool opened_both(Topics& topics, Instant now);
    std::optional<Answer> next_of_deletes(Topics& topics, Instant now);
    std::optional<Answer> next_of_main(Topics& topics, Instant now);

    const Duration lease_ttl_;
    const WorkerIdentity identity_;
    const int schema_version_;
    const bool apart_;
    Session main_;
    std::unique_ptr<Session> deletes_;  // opened when main_ is
    std::optional<Answer> opened_;      // main_'s, until both are
    std::deque<Answer> deleted_;        // answers that gate_ has not let through yet
    DeleteGate gate_;
};

}  // namespace outbox
