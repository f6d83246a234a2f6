// What an operator can do about an SQLSTATE. Pure; any thread.
#pragma once

#include <string>
#include <string_view>

#include "postgres/privileges.hpp"

namespace outbox {

// One sentence, or empty where the server's own message says it all. `message` is the server's primary message: it
// names the object, also when it is not in English. `user` is who was refused, and `role` what that user is meant to
// be.
std::string advice(std::string_view sqlstate, std::string_view message, std::string_view user, Role role = Role::relay);

}  // namespace outbox
