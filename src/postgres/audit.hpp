// Who changes something, and why: what an operator does with a command ends in outbox.audit under this name, in the
// same transaction. One thread at a time.
#pragma once

#include <string>

#include "postgres/client.hpp"

namespace outbox {

struct Operator {
    std::string actor;         // "user@host", as the machine knows them
    Client::Parameter reason;  // in their own words
};

// A transaction whose lines in outbox.audit carry the operator's name; the reason goes with each statement. It does not
// wait for ever behind a transaction that somebody left open: the error says what to look for.
template <class Action>
void audited(Client& client, const Operator& who, Action action) {
    client.transaction([&] {
        client.execute(
            "SELECT pg_catalog.set_config('outbox.actor', $1, true), pg_catalog.set_config('lock_timeout', '5s', true)",
            {who.actor});
        action();
    });
}

}  // namespace outbox
