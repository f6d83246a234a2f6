// Secrets: a dsn, judged beside libpq's own reading of it, and the content of a secret's file.
//
// Holds: no password that libpq finds in a dsn is left in what is shown of it; a secret is its file's content without
// the line's end, whatever it is; a change of the file is noticed, and nothing else is.
#include <libpq-fe.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cctype>
#include <memory>
#include <string>

#include "config/secrets.hpp"
#include "core/owned.hpp"
#include "fuzz/fuzzing.hpp"
#include "kafka/secret_watch.hpp"
#include "kafka/secrets.hpp"

namespace outbox::fuzzing {
namespace {

using Options = std::unique_ptr<PQconninfoOption, FreeWith<PQconninfoFree>>;

bool is_secret(std::string_view keyword) {
    return keyword == "password" || keyword == "sslpassword";
}

// What is shown is written anew: without the white space around keywords, and with a mark where something was hidden.
std::string without_spaces(std::string text) {
    std::erase_if(text, [](unsigned char letter) { return std::isspace(letter) != 0; });
    return text;
}

std::string without_marks(std::string text) {
    for (auto at = text.find(redacted); at != std::string::npos; at = text.find(redacted, at)) {
        text.replace(at, redacted.size(), 1, '\0');
    }
    return text;
}

void check_dsn(const std::string& dsn) {
    const std::string shown = redact_dsn(dsn);
    require(has_secret(dsn) == (shown.find(redacted) != std::string::npos), "what is hidden is a secret", dsn);
    const std::string written = without_spaces(dsn);
    const std::string left = without_spaces(without_marks(shown));
    char* message = nullptr;
    const Options options(PQconninfoParse(dsn.c_str(), &message));
    PQfreemem(message);
    if (!options) return;
    for (const PQconninfoOption* option = options.get(); option->keyword != nullptr; ++option) {
        if (option->val == nullptr || !is_secret(option->keyword)) continue;
        const std::string secret = without_spaces(option->val);
        // A word that stands elsewhere in the dsn as well, a keyword for example, shows nothing.
        const std::size_t first = written.find(secret);
        if (secret.size() < 3 || first == std::string::npos) continue;
        if (written.find(secret, first + 1) != std::string::npos) continue;
        require(left.find(secret) == std::string::npos, "no password is shown", dsn + "\nshown as: " + shown);
    }
}

// A file in memory, with a path as files have.
class File {
public:
    File() : descriptor_(memfd_create("secret", MFD_CLOEXEC)) {}
    ~File() { close(descriptor_); }
    File(const File&) = delete;
    File& operator=(const File&) = delete;

    void write(std::string_view content) const {
        require(ftruncate(descriptor_, 0) == 0 &&
                    pwrite(descriptor_, content.data(), content.size(), 0) == static_cast<ssize_t>(content.size()),
                "a file can be written");
    }
    SecretFile reference() const { return {"/proc/self/fd/" + std::to_string(descriptor_), "credential:it"}; }

private:
    int descriptor_;
};

void check_file(std::string_view content, std::string_view later) {
    static const File file;
    file.write(content);
    const std::string secret = read_secret(file.reference());
    require(content.starts_with(secret), "a secret is its file's content", secret);
    const std::string_view left = content.substr(secret.size());
    require(left.empty() || left == "\n" || left == "\r\n" || left == "\r", "only a line's end is left out", left);

    KafkaSettings settings;
    settings.files.push_back({"sasl.password", file.reference()});
    SecretWatch watch(settings);
    require(watch.look() == SecretWatch::Change::nothing, "nothing has changed");
    file.write(later);
    const std::string other = read_secret(file.reference());
    const bool changed = !other.empty() && other != secret;
    require((watch.look() == SecretWatch::Change::login) == changed, "a change is noticed, and only a change", later);
    require(watch.look() == SecretWatch::Change::nothing, "once");
}

}  // namespace
}  // namespace outbox::fuzzing

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace outbox::fuzzing;
    Input input(data, size);
    if (input.byte() % 2 == 0) {
        check_dsn(std::string(input.rest()));
    } else {
        const std::string_view content = input.until("\n---\n");
        check_file(content, input.rest());
    }
    return 0;
}
