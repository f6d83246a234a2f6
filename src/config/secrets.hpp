// What must never be shown: which librdkafka properties are secret, and a dsn without its password. When in doubt, it
// is a secret. Pure; any thread.
#pragma once

#include <string>
#include <string_view>

namespace outbox {

inline constexpr std::string_view redacted = "<redacted>";

bool is_secret_kafka_property(std::string_view name);

// The dsn with everything redacted that is not known to be harmless; all of it where it is not understood.
std::string redact_dsn(std::string_view dsn);
// Whether redact_dsn hides a part of it.
bool has_secret(std::string_view dsn);

}  // namespace outbox
