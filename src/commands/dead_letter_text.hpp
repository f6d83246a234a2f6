// Dead letters for people and for programs. Payloads only where they were read. Main thread only.
#pragma once

#include <string>
#include <vector>

#include "postgres/dead_letters.hpp"

namespace outbox {

// One line: which event, why, how large.
std::string line_of(const DeadLetter& letter);

// All of one, over several lines.
std::string text_of(const DeadLetter& letter);

// {"dead_letters": […], "more": …}; a payload is text where it is UTF-8, hex otherwise. `whole`: with headers.
std::string json_of(const std::vector<DeadLetter>& letters, bool more, bool whole);

}  // namespace outbox
