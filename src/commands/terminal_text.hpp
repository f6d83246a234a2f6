// Text from the database on its way to a terminal: an event's key or an error's words must not move the cursor, change
// colours or end the line. Pure; any thread.
#pragma once

#include <string>
#include <string_view>

namespace outbox {

// Control characters, characters that turn the direction of text, and bytes that are not UTF-8 become \n, \x1b, \u202e.
std::string terminal_text(std::string_view text);

}  // namespace outbox
