// What an operator tells all relays of a database, through outbox.control. Each change gets a revision; a worker says
// in outbox.relay which one it has acted on. One thread at a time.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "postgres/audit.hpp"

namespace outbox {

using ControlRevision = std::int64_t;

inline constexpr const char* everything = "*";

// Nothing more of this topic is published, or nothing at all.
ControlRevision pause_topic(Client& client, const Operator& who, const std::string& topic);

// Nothing to do when it is not paused.
std::optional<ControlRevision> resume_topic(Client& client, const Operator& who, const std::string& topic);

// The ceiling for all relays together; nullopt: as each of them is configured, and nothing to do when it is so.
std::optional<ControlRevision> set_rate(Client& client, const Operator& who,
                                        std::optional<std::int64_t> rows_per_second);

}  // namespace outbox
