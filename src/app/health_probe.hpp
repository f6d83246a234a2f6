// One HTTP GET to the daemon on this host. Blocking, bounded in time and size; any thread.
#pragma once

#include <optional>
#include <string>

namespace outbox {

struct ProbeAnswer {
    int status = 0;
    std::string body;
};

// Nothing when nobody answers within two seconds. `listen` is http.listen; a wildcard address is asked on loopback.
std::optional<ProbeAnswer> probe_health(const std::string& listen, const std::string& path);

}  // namespace outbox
