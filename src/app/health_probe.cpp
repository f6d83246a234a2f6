#include "app/health_probe.hpp"

#include <netdb.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <array>
#include <memory>

#include "core/owned.hpp"

namespace outbox {

namespace {

constexpr std::size_t answer_bytes_max = 65'536;

class Socket {
public:
    explicit Socket(int descriptor) : descriptor_(descriptor) {}
    ~Socket() {
        if (descriptor_ >= 0) ::close(descriptor_);
    }
    Socket(const Socket&) = delete;
    Socket& operator=(const Socket&) = delete;
    int get() const { return descriptor_; }

private:
    int descriptor_;
};

using Addresses = std::unique_ptr<addrinfo, FreeWith<freeaddrinfo>>;

Addresses resolve(const std::string& listen) {
    const auto colon = listen.rfind(':');
    std::string host = listen.substr(0, colon);
    if (host.size() > 1 && host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
    if (host.empty() || host == "0.0.0.0" || host == "*") host = "127.0.0.1";
    if (host == "::") host = "::1";
    addrinfo hints{};
    hints.ai_socktype = SOCK_STREAM;
    addrinfo* found = nullptr;
    if (::getaddrinfo(host.c_str(), listen.substr(colon + 1).c_str(), &hints, &found) != 0) return nullptr;
    return Addresses(found);
}

}  // namespace

std::optional<ProbeAnswer> probe_health(const std::string& listen, const std::string& path) {
    const Addresses address = resolve(listen);
    if (!address) return std::nullopt;
    const Socket socket(::socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const timeval patience{2, 0};
    ::setsockopt(socket.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    ::setsockopt(socket.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    if (::connect(socket.get(), address->ai_addr, address->ai_addrlen) != 0) return std::nullopt;

    const std::string request = "GET " + path + " HTTP/1.0\r\n\r\n";
    if (::send(socket.get(), request.data(), request.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(request.size()))
        return std::nullopt;
    std::string answer;
    std::array<char, 4096> chunk{};
    for (ssize_t got = 0;
         answer.size() < answer_bytes_max && (got = ::recv(socket.get(), chunk.data(), chunk.size(), 0)) > 0;)
        answer.append(chunk.data(), static_cast<std::size_t>(got));
    const auto space = answer.find(' ');
    const auto body = answer.find("\r\n\r\n");
    if (!answer.starts_with("HTTP/1.") || body == std::string::npos) return std::nullopt;
    return ProbeAnswer{std::atoi(answer.c_str() + space + 1), answer.substr(body + 4)};
}

}  // namespace outbox
