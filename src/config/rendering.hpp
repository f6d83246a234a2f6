// The configuration written back as TOML, defaults included and secrets left out, for print-config and check.
// Pure; any thread.
#pragma once

#include <string>

#include "config/config.hpp"

namespace outbox {

enum class Origins { left_out, as_comments };

std::string render(const Config& config, Origins origins);

}  // namespace outbox
