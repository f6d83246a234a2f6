#include "app/service_manager.hpp"

#include <doctest/doctest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <string>

using namespace outbox;
using namespace std::chrono_literals;

namespace {

// The service manager's end: a datagram socket with a path, or with an abstract name where it begins with '@'.
class Listener {
public:
    explicit Listener(std::string name) : name_(std::move(name)), socket_(::socket(AF_UNIX, SOCK_DGRAM, 0)) {
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        std::memcpy(address.sun_path, name_.data(), name_.size());
        if (name_.front() == '@') address.sun_path[0] = '\0';
        const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name_.size());
        REQUIRE(::bind(socket_, reinterpret_cast<const sockaddr*>(&address), size) == 0);
    }
    ~Listener() {
        ::close(socket_);
        if (name_.front() == '/') ::unlink(name_.c_str());
    }
    Listener(const Listener&) = delete;
    Listener& operator=(const Listener&) = delete;

    const std::string& name() const { return name_; }
    std::string received() const {
        std::array<char, 256> buffer{};
        const ssize_t got = ::recv(socket_, buffer.data(), buffer.size(), MSG_DONTWAIT);
        return got < 0 ? "" : std::string(buffer.data(), static_cast<std::size_t>(got));
    }

private:
    std::string name_;
    int socket_;
};

std::string temporary_path() {
    std::array<char, 32> directory{"/tmp/notify-test-XXXXXX"};
    REQUIRE(::mkdtemp(directory.data()) != nullptr);
    return directory.data();
}

}  // namespace

TEST_CASE("messages reach a socket with a path, each as one datagram") {
    const std::string directory = temporary_path();
    {
        const Listener listener(directory + "/notify");
        const ServiceManager manager({listener.name(), "", "", 1});
        CHECK(manager.ready());
        CHECK(listener.received() == "READY=1");
        CHECK(manager.watchdog());
        CHECK(listener.received() == "WATCHDOG=1");
        CHECK(manager.stopping());
        CHECK(listener.received() == "STOPPING=1");
        CHECK(manager.status("relaying 64 lanes"));
        CHECK(listener.received() == "STATUS=relaying 64 lanes");
    }
    ::rmdir(directory.c_str());
}

TEST_CASE("messages reach a socket with an abstract name") {
    const Listener listener("@outbox-notify-test-" + std::to_string(::getpid()));
    CHECK(ServiceManager({listener.name(), "", "", 1}).ready());
    CHECK(listener.received() == "READY=1");
}

TEST_CASE("a status cannot smuggle in another message") {
    const Listener listener("@outbox-notify-test-" + std::to_string(::getpid()));
    CHECK(ServiceManager({listener.name(), "", "", 1}).status("a\nREADY=1"));
    CHECK(listener.received() == "STATUS=a READY=1");
}

TEST_CASE("without a service manager nothing is sent and nothing fails") {
    for (const std::string& name : {std::string(), std::string("relative"), std::string("@"), std::string(200, '/'),
                                    std::string("/nonexistent/notify"), std::string("vsock:2:1234")}) {
        CAPTURE(name);
        CHECK_FALSE(ServiceManager({name, "", "", 1}).ready());
    }
}

TEST_CASE("the watchdog interval is the environment's, when it means this process") {
    CHECK(ServiceManager({"", "3000000", "", 42}).watchdog_interval() == 3s);
    CHECK(ServiceManager({"", "3000000", "42", 42}).watchdog_interval() == 3s);
    CHECK_FALSE(ServiceManager({"", "3000000", "43", 42}).watchdog_interval());
    CHECK_FALSE(ServiceManager({"", "3000000", "x", 42}).watchdog_interval());
    for (const char* text : {"", "0", "-1", "3s", "99999999999999999999", "9223372036854775807"}) {
        CAPTURE(text);
        CHECK_FALSE(ServiceManager({"", text, "", 42}).watchdog_interval());
    }
}
