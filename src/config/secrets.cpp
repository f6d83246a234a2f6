#include "config/secrets.hpp"

#include <algorithm>
#include <array>
#include <optional>

namespace outbox {

namespace {

using std::string_view;

// Everything else a dsn may hold is hidden: a list of secrets would be out of date with the next libpq.
constexpr std::array<string_view, 39> harmless_keywords{"application_name",
                                                        "channel_binding",
                                                        "client_encoding",
                                                        "connect_timeout",
                                                        "dbname",
                                                        "fallback_application_name",
                                                        "gssdelegation",
                                                        "gssencmode",
                                                        "gsslib",
                                                        "host",
                                                        "hostaddr",
                                                        "keepalives",
                                                        "keepalives_count",
                                                        "keepalives_idle",
                                                        "keepalives_interval",
                                                        "krbsrvname",
                                                        "load_balance_hosts",
                                                        "passfile",
                                                        "port",
                                                        "replication",
                                                        "require_auth",
                                                        "requirepeer",
                                                        "requiressl",
                                                        "service",
                                                        "ssl_max_protocol_version",
                                                        "ssl_min_protocol_version",
                                                        "sslcert",
                                                        "sslcertmode",
                                                        "sslcompression",
                                                        "sslcrl",
                                                        "sslcrldir",
                                                        "sslkey",
                                                        "sslmode",
                                                        "sslnegotiation",
                                                        "sslrootcert",
                                                        "sslsni",
                                                        "target_session_attrs",
                                                        "tcp_user_timeout",
                                                        "user"};

bool is_harmless(string_view keyword, string_view value) {
    if (std::find(harmless_keywords.begin(), harmless_keywords.end(), keyword) == harmless_keywords.end()) return false;
    // A dbname may be a whole connection string of its own, with a password.
    return value.find_first_of("=@") == string_view::npos && value.find("://") == string_view::npos;
}

bool is_space(char letter) {
    return letter == ' ' || (letter >= '\t' && letter <= '\r');
}

// keyword = value pairs, as libpq reads them: spaces around =, quotes, backslashes.
class KeywordDsn {
public:
    explicit KeywordDsn(string_view text) : text_(text) {}

    std::optional<std::string> redact() {
        std::string result;
        for (skip_spaces(); at_ < text_.size(); skip_spaces()) {
            const string_view keyword = read_keyword();
            skip_spaces();
            if (keyword.empty() || at_ == text_.size() || text_[at_] != '=') return std::nullopt;
            ++at_;
            skip_spaces();
            const auto value = read_value();
            if (!value) return std::nullopt;
            if (!result.empty()) result += ' ';
            result.append(keyword).append("=").append(is_harmless(keyword, *value) ? *value : redacted);
        }
        return result;
    }

private:
    void skip_spaces() {
        while (at_ < text_.size() && is_space(text_[at_])) ++at_;
    }

    string_view read_keyword() {
        const std::size_t begin = at_;
        while (at_ < text_.size() && text_[at_] != '=' && !is_space(text_[at_])) ++at_;
        return text_.substr(begin, at_ - begin);
    }

    // As written, quotes and all. Nothing when a quote is left open.
    std::optional<string_view> read_value() {
        const std::size_t begin = at_;
        const bool quoted = at_ < text_.size() && text_[at_] == '\'';
        if (quoted) ++at_;
        while (at_ < text_.size()) {
            const char letter = text_[at_];
            if (letter == '\\') {
                at_ = std::min(at_ + 2, text_.size());
            } else if (quoted && letter == '\'') {
                ++at_;
                return text_.substr(begin, at_ - begin);
            } else if (!quoted && is_space(letter)) {
                break;
            } else {
                ++at_;
            }
        }
        if (quoted) return std::nullopt;
        return text_.substr(begin, at_ - begin);
    }

    string_view text_;
    std::size_t at_ = 0;
};

// ?a=b&c=d, without the question mark.
std::optional<std::string> redact_parameters(string_view text) {
    std::string result;
    while (!text.empty()) {
        const string_view pair = text.substr(0, text.find('&'));
        text.remove_prefix(std::min(pair.size() + 1, text.size()));
        const std::size_t equals = pair.find('=');
        if (equals == string_view::npos) return std::nullopt;
        const string_view keyword = pair.substr(0, equals);
        const string_view value = pair.substr(equals + 1);
        const bool plain = value.find('%') == string_view::npos && is_harmless(keyword, value);
        if (!result.empty()) result += '&';
        result.append(keyword).append("=").append(plain ? value : redacted);
    }
    return result;
}

// scheme://[user[:password]@]host…[/dbname][?parameters]
std::optional<std::string> redact_uri(string_view uri, std::size_t scheme_size) {
    std::string result(uri.substr(0, scheme_size));
    const string_view rest = uri.substr(scheme_size);
    const std::size_t question = std::min(rest.find('?'), rest.size());
    string_view place = rest.substr(0, question);
    // A password with an unescaped @, / or ? may end anywhere.
    const std::size_t at = rest.find('@');
    if (at != string_view::npos) {
        if (at != rest.rfind('@') || at > place.size() || rest.find_first_of("/?") < at) return std::nullopt;
        const string_view user = place.substr(0, at);
        const std::size_t colon = user.find(':');
        result.append(user.substr(0, colon));
        if (colon != string_view::npos) result.append(":").append(redacted);
        result += '@';
        place.remove_prefix(at + 1);
    }
    if (place.find_first_of(" =#%\\") != string_view::npos) return std::nullopt;
    result.append(place);
    if (question == rest.size()) return result;
    const auto parameters = redact_parameters(rest.substr(question + 1));
    if (!parameters) return std::nullopt;
    return result + "?" + *parameters;
}

}  // namespace

bool is_secret_kafka_property(string_view name) {
    // The name of a file or of a place is none, the content is.
    if (name.ends_with(".location") || name.ends_with(".file")) return false;
    constexpr std::array<string_view, 9> secret_parts{
        "password", "passphrase", "secret", "key.pem", "ssl_key", "oauthbearer.config", "jaas", "private", "kinit.cmd"};
    return std::any_of(secret_parts.begin(), secret_parts.end(),
                       [name](string_view part) { return name.find(part) != string_view::npos; });
}

std::string redact_dsn(string_view dsn) {
    for (const string_view scheme : {"postgresql://", "postgres://"}) {
        if (dsn.starts_with(scheme)) return redact_uri(dsn, scheme.size()).value_or(std::string(redacted));
    }
    return KeywordDsn(dsn).redact().value_or(std::string(redacted));
}

bool has_secret(string_view dsn) {
    return redact_dsn(dsn).find(redacted) != std::string::npos;
}

}  // namespace outbox
