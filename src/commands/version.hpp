// Which build this is. Any thread.
#pragma once

#include <string_view>

namespace outbox {

std::string_view relay_version();  // "0.1.0"

}  // namespace outbox
