// What an operator may choose about Postgres. Plain values, no C header. Any thread.
#pragma once

#include <optional>
#include <string>

#include "core/secret_file.hpp"

namespace outbox {

struct PostgresSettings {
    std::string dsn;  // libpq's own syntax, URI or keywords; may hold a password: never print it
    std::optional<SecretFile> password_file;  // re-read on every connect
};

}  // namespace outbox
