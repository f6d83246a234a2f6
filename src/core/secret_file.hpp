// Where a secret is kept: a file's path. The content is read at the moment of use, so that a rotated secret is picked
// up at the next connect, and is never part of a settings value that could be printed. Any thread.
#pragma once

#include <string>

namespace outbox {

struct SecretFile {
    std::string path;    // resolved: credential:NAME has become $CREDENTIALS_DIRECTORY/NAME
    std::string origin;  // as the operator wrote it, for messages and print-config
};

}  // namespace outbox
