#include <iostream>

#include "commands/command.hpp"
#include "config/rendering.hpp"

namespace outbox {

ExitCode print_config(const Invocation& invocation) {
    CommandLine line("print-config", "[options]",
                     "Shows the configuration that counts, as TOML, defaults included and secrets left out.\n"
                     "Whether it is complete, check --offline says.",
                     "outbox-relay print-config --origin --config outbox-relay.toml");
    line.options()("origin", "add to each option where its value comes from");
    if (!line.parse(invocation)) return ExitCode::ok;
    // Also outside the service, where its credentials cannot be read.
    std::cout << render(line.config(Needs::nothing), line.has("origin") ? Origins::as_comments : Origins::left_out);
    return ExitCode::ok;
}

}  // namespace outbox
