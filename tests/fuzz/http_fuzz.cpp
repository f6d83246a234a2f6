// Bytes sent to the HTTP port. civetweb reads them, so what is fuzzed is how we set it up and what we do with what it
// makes of them; only our side is instrumented.
//
// Holds: the server goes on; what it answers begins with a status, gives a page only where one of the four was asked
// for by GET or HEAD, and shows nothing of what a callback threw.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <stdexcept>
#include <string>

#include "fuzz/fuzzing.hpp"
#include "telemetry/http.hpp"

namespace outbox::fuzzing {
namespace {

// What is shown with status 200 alone, and what is not shown at all.
constexpr std::string_view pages[] = {"metrics-page", "status-page", R"({"status":"ok")"};
constexpr std::string_view thrown = "thrown-text";

HttpServer& server() {
    static HttpServer one({"127.0.0.1:0"}, {[] { return std::string("metrics-page\n"); },
                                            [] {
                                                return HealthAnswer{true, R"({"a":1})"};
                                            },
                                            []() -> HealthAnswer { throw std::runtime_error(std::string(thrown)); },
                                            [] { return std::string(R"({"status-page":1})"); }});
    return one;
}

std::string exchange(std::uint16_t port, std::string_view request) {
    const int socket = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    const timeval patience{15, 0};
    ::setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    require(::connect(socket, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0, "the server listens");
    // It may close before it has read everything.
    static_cast<void>(::send(socket, request.data(), request.size(), MSG_NOSIGNAL));
    ::shutdown(socket, SHUT_WR);
    std::string answer;
    std::array<char, 4096> buffer{};
    ssize_t got = 0;
    // libFuzzer's own alarm interrupts what waits.
    while ((got = ::recv(socket, buffer.data(), buffer.size(), 0)) > 0 || (got < 0 && errno == EINTR))
        if (got > 0) answer.append(buffer.data(), static_cast<std::size_t>(got));
    require(got == 0 || errno == ECONNRESET, "the server ends the connection in time", request);
    ::close(socket);
    return answer;
}

bool asks_for_a_page(std::string_view request) {
    const bool method = request.find("GET") != std::string_view::npos || request.find("HEAD") != std::string_view::npos;
    for (const std::string_view page : {"metrics", "livez", "readyz", "status", "%"})
        if (method && request.find(page) != std::string_view::npos) return true;
    return false;
}

}  // namespace
}  // namespace outbox::fuzzing

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace outbox::fuzzing;
    const std::string_view request(reinterpret_cast<const char*>(data), size);
    const std::string answer = exchange(server().port(), request);
    require(answer.empty() || answer.starts_with("HTTP/"), "an answer begins with a status", answer);
    const bool ok = answer.starts_with("HTTP/1.1 200 ");
    require(!ok || asks_for_a_page(request), "a page for whoever asked for it", answer);
    // civetweb repeats the version it was given, whatever that is.
    const auto shown = [&](std::string_view text) {
        return answer.find(text) != std::string::npos && request.find(text) == std::string_view::npos;
    };
    require(!shown(thrown), "what was thrown stays inside", answer);
    for (const std::string_view page : pages) require(ok || !shown(page), "no page without its status", answer);
    static unsigned inputs = 0;
    if (++inputs % 100 == 0)
        require(exchange(server().port(), "GET /livez HTTP/1.1\r\n\r\n").find(" 200 ") == 8, "the server goes on");
    return 0;
}
