// One run of `verify`: writers on one side, a consumer on the other, and what came of it. It starts no relay.
// Blocking; the calling thread reads, the load has threads of its own.
#pragma once

#include <chrono>
#include <string>

#include "app/marked_load.hpp"
#include "core/verification.hpp"
#include "kafka/settings.hpp"

namespace outbox {

struct VerifierResult {
    Verdict verdict;
    double written_seconds = 0;  // from the first transaction to the last
};

// 16 hexadecimal digits, drawn anew.
std::string draw_run_id();

// Waits for what was committed until nothing new has come for `patience`. Throws PostgresError and KafkaUnreachable.
VerifierResult verify_delivery(const PostgresSettings& postgres, const KafkaSettings& kafka,
                               const LoadSettings& settings, std::chrono::milliseconds patience);

}  // namespace outbox
