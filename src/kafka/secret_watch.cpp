#include "kafka/secret_watch.hpp"

#include <algorithm>
#include <array>
#include <filesystem>
#include <functional>
#include <stdexcept>
#include <string_view>

#include "kafka/secrets.hpp"

namespace outbox {

namespace {

constexpr std::array<std::string_view, 5> path_properties{
    "ssl.ca.location", "ssl.certificate.location", "ssl.key.location", "ssl.crl.location", "ssl.keystore.location"};

std::optional<std::size_t> digest_of(const SecretFile& file) {
    std::error_code error;
    if (!std::filesystem::is_regular_file(file.path, error)) return std::nullopt;  // ssl.ca.location may be a folder
    try {
        const std::string content = read_secret(file);
        if (content.empty()) return std::nullopt;
        return std::hash<std::string>{}(content);
    } catch (const std::runtime_error&) {
        return std::nullopt;
    }
}

}  // namespace

SecretWatch::SecretWatch(const KafkaSettings& settings) {
    for (const auto& [name, file] : settings.files)
        files_.push_back({file, name == "sasl.username" || name == "sasl.password", {}});
    for (const auto& [name, value] : settings.properties)
        if (std::find(path_properties.begin(), path_properties.end(), name) != path_properties.end())
            files_.push_back({{value, value}, false, {}});
    look();
}

SecretWatch::Change SecretWatch::look() {
    Change change = Change::nothing;
    for (Watched& watched : files_) {
        const auto digest = digest_of(watched.file);
        if (!digest || digest == watched.digest) continue;
        watched.digest = digest;
        change = std::max(change, watched.login ? Change::login : Change::other);
    }
    return change;
}

}  // namespace outbox
