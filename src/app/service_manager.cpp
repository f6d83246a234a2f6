#include "app/service_manager.hpp"

#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstdlib>
#include <cstring>

namespace outbox {
namespace {

std::string variable(const char* name) {
    const char* value = std::getenv(name);
    return value == nullptr ? "" : value;
}

std::optional<std::int64_t> number(std::string_view text) {
    std::int64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
    return value;
}

struct Address {
    sockaddr_un value{};
    socklen_t size = 0;
};

// A path, or a name in the abstract namespace, which is written with '@' and sent with a zero byte.
std::optional<Address> address_of(const std::string& name) {
    Address address;
    const bool usable =
        name.size() > 1 && (name.front() == '/' || name.front() == '@') && name.size() < sizeof address.value.sun_path;
    if (!usable) return std::nullopt;
    address.value.sun_family = AF_UNIX;
    std::memcpy(address.value.sun_path, name.data(), name.size());
    address.size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.size());
    if (name.front() == '@') {
        address.value.sun_path[0] = '\0';
    } else {
        ++address.size;
    }
    return address;
}

}  // namespace

ServiceManager::Environment ServiceManager::environment() {
    return {variable("NOTIFY_SOCKET"), variable("WATCHDOG_USEC"), variable("WATCHDOG_PID"), ::getpid()};
}

bool ServiceManager::status(std::string_view text) const {
    std::string message = "STATUS=";
    message += text;
    // A line of its own would be a message of its own.
    const auto is_control = [](char c) { return static_cast<unsigned char>(c) < 0x20; };
    std::replace_if(message.begin(), message.end(), is_control, ' ');
    return notify(message);
}

std::optional<Duration> ServiceManager::watchdog_interval() const {
    const auto microseconds = number(environment_.watchdog_usec);
    const std::int64_t representable = Duration::max() / std::chrono::microseconds(1);
    if (!microseconds || *microseconds <= 0 || *microseconds > representable) return std::nullopt;
    if (!environment_.watchdog_pid.empty() && number(environment_.watchdog_pid) != environment_.own_pid) {
        return std::nullopt;
    }
    return std::chrono::microseconds(*microseconds);
}

bool ServiceManager::notify(std::string_view message) const {
    const auto address = address_of(environment_.notify_socket);
    if (!address) return false;
    const int socket = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (socket < 0) return false;
    const timeval at_most{1, 0};
    ::setsockopt(socket, SOL_SOCKET, SO_SNDTIMEO, &at_most, sizeof at_most);
    const ssize_t sent = ::sendto(socket, message.data(), message.size(), MSG_NOSIGNAL,
                                  reinterpret_cast<const sockaddr*>(&address->value), address->size);
    ::close(socket);
    return sent == static_cast<ssize_t>(message.size());
}

}  // namespace outbox
