#include "commands/version.hpp"

#include <iostream>

#include "commands/command.hpp"
#include "kafka/properties.hpp"
#include "postgres/client.hpp"

namespace outbox {

namespace {

constexpr std::string_view compiler =
#if defined(__clang__)
    "clang " __clang_version__;
#else
    "gcc " __VERSION__;
#endif

}  // namespace

std::string_view relay_version() {
    return OUTBOX_VERSION;
}

ExitCode version(const Invocation& invocation) {
    CommandLine line("version", "", "Shows the version of outbox-relay and of the libraries it runs with.",
                     "outbox-relay version");
    if (!line.parse(invocation)) return ExitCode::ok;
    const std::string_view build_type = OUTBOX_BUILD_TYPE;
    std::cout << "outbox-relay " << relay_version() << "\n"
              << "build        " << (build_type.empty() ? "plain" : build_type) << ", " << compiler << "\n"
              << "librdkafka   " << kafka_library_version() << "\n"
              << "libpq        " << postgres_library_version() << "\n";
    return ExitCode::ok;
}

}  // namespace outbox
