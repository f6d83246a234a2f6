// librdkafka's error codes, sorted by what to do about them. Pure; any thread.
// Sources: rdkafka.h, INTRODUCTION.md ("Idempotent Producer"), and Kafka's protocol errors.
#pragma once

#include <librdkafka/rdkafka.h>

#include "core/failure.hpp"

namespace outbox {

FailureKind failure_kind(rd_kafka_resp_err_t error);
Failure failure_from(rd_kafka_resp_err_t error);

}  // namespace outbox
