#include "kafka/secrets.hpp"

#include <fstream>
#include <stdexcept>

namespace outbox {

namespace {

constexpr std::size_t secret_bytes_max = 1 << 20;

// A file goes over what stands in the configuration, as in producer_conf().
std::optional<std::string> value_of(const KafkaSettings& settings, std::string_view wanted) {
    for (const auto& [name, file] : settings.files)
        if (name == wanted) return read_secret(file);
    for (const auto& [name, value] : settings.properties)
        if (name == wanted) return value;
    return std::nullopt;
}

}  // namespace

std::string read_secret(const SecretFile& file) {
    std::ifstream in(file.path, std::ios::binary);
    std::string content(secret_bytes_max + 1, '\0');
    in.read(content.data(), static_cast<std::streamsize>(content.size()));
    if (in.bad() || (in.fail() && !in.eof())) throw std::runtime_error("cannot read " + file.origin);
    content.resize(static_cast<std::size_t>(in.gcount()));
    if (content.size() > secret_bytes_max) throw std::runtime_error(file.origin + " is larger than 1 MiB");
    if (content.ends_with('\n')) content.pop_back();
    if (content.ends_with('\r')) content.pop_back();
    return content;
}

std::optional<Credentials> read_credentials(const KafkaSettings& settings) {
    auto name = value_of(settings, "sasl.username");
    auto password = value_of(settings, "sasl.password");
    if (!name || !password) return std::nullopt;
    return Credentials{std::move(*name), std::move(*password)};
}

}  // namespace outbox
