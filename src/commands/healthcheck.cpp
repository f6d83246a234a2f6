// `healthcheck`: asks a running daemon on this host how it is, for exec probes and container health checks.

#include <iostream>
#include <string>

#include "app/health_probe.hpp"
#include "commands/command.hpp"

namespace outbox {

ExitCode healthcheck(const Invocation& invocation) {
    CommandLine line("healthcheck", "[options]", "Asks the daemon on this host whether it is alive, or ready.",
                     "outbox-relay healthcheck --ready");
    line.options()("ready", "ask /readyz instead of /livez");
    if (!line.parse(invocation)) return ExitCode::ok;
    const Config config = line.config(Needs::nothing);
    if (config.http().listen.empty()) throw UsageError("http.listen is empty: there is nobody to ask");

    const auto answer = probe_health(config.http().listen, line.has("ready") ? "/readyz" : "/livez");
    if (!answer) throw Unreachable("no answer from " + config.http().listen);
    std::cout << answer->body << "\n";
    return answer->status == 200 ? ExitCode::ok : ExitCode::problems_found;
}

}  // namespace outbox
