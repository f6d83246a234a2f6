#include "telemetry/http.hpp"

#include <arpa/inet.h>
#include <doctest/doctest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <stdexcept>
#include <string>

using namespace outbox;

namespace {

int connected_to(std::uint16_t port) {
    const int socket = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    REQUIRE(::connect(socket, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
    return socket;
}

std::string exchange(std::uint16_t port, const std::string& request) {
    const int socket = connected_to(port);
    REQUIRE(::send(socket, request.data(), request.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(request.size()));
    std::string answer;
    std::array<char, 4096> buffer{};
    for (ssize_t got = 0; (got = ::recv(socket, buffer.data(), buffer.size(), 0)) > 0;) {
        answer.append(buffer.data(), static_cast<std::size_t>(got));
    }
    ::close(socket);
    return answer;
}

std::string get(const HttpServer& server, const std::string& path, const std::string& method = "GET") {
    return exchange(server.port(), method + " " + path + " HTTP/1.1\r\nHost: x\r\n\r\n");
}

int status_of(const std::string& answer) {
    REQUIRE(answer.rfind("HTTP/1.1 ", 0) == 0);
    return std::stoi(answer.substr(9, 3));
}

std::string body_of(const std::string& answer) {
    return answer.substr(answer.find("\r\n\r\n") + 4);
}

bool has(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
}

struct Served {
    std::atomic<bool> ready = true;
    HttpServer server{{"127.0.0.1:0"},
                      {[] { return std::string("outbox_backlog_rows 0\n"); },
                       [] {
                           return HealthAnswer{true, ""};
                       },
                       [this] {
                           return HealthAnswer{ready, R"({"postgres":true})"};
                       },
                       [] { return std::string(R"({"lanes":[]})"); }}};
};

}  // namespace

TEST_CASE("port 0 takes a free port, which the server tells") {
    const Served served;
    CHECK(served.server.port() > 0);
}

TEST_CASE("metrics are served in Prometheus's text format") {
    const Served served;
    const std::string answer = get(served.server, "/metrics");
    CHECK(status_of(answer) == 200);
    CHECK(has(answer, "Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n"));
    CHECK(body_of(answer) == "outbox_backlog_rows 0\n");
}

TEST_CASE("a health answer is 200 or 503, and a failing one says why") {
    Served served;
    CHECK(status_of(get(served.server, "/livez")) == 200);
    CHECK(status_of(get(served.server, "/readyz")) == 200);
    CHECK(body_of(get(served.server, "/readyz")) == "{\"status\":\"ok\"}\n");
    CHECK(body_of(get(served.server, "/readyz?verbose")) == "{\"status\":\"ok\",\"checks\":{\"postgres\":true}}\n");
    served.ready = false;
    CHECK(status_of(get(served.server, "/readyz")) == 503);
    CHECK(body_of(get(served.server, "/readyz")) == "{\"status\":\"failing\",\"checks\":{\"postgres\":true}}\n");
    CHECK(status_of(get(served.server, "/livez")) == 200);
}

TEST_CASE("the status is JSON") {
    const Served served;
    const std::string answer = get(served.server, "/status");
    CHECK(status_of(answer) == 200);
    CHECK(has(answer, "Content-Type: application/json\r\n"));
    CHECK(body_of(answer) == R"({"lanes":[]})");
}

TEST_CASE("HEAD answers as GET does, without the body") {
    const Served served;
    const std::string answer = get(served.server, "/metrics", "HEAD");
    CHECK(status_of(answer) == 200);
    CHECK(has(answer, "Content-Length: 22\r\n"));
    CHECK(body_of(answer).empty());
}

TEST_CASE("other methods are refused") {
    const Served served;
    for (const char* method : {"POST", "PUT", "DELETE", "OPTIONS"}) {
        CAPTURE(method);
        const std::string answer = get(served.server, "/metrics", method);
        CHECK(status_of(answer) == 405);
        CHECK(has(answer, "Allow: GET, HEAD\r\n"));
    }
}

TEST_CASE("there is nothing but the four pages") {
    const Served served;
    for (const char* path : {"/", "/metrics/", "/etc/passwd", "/../../etc/passwd", "/%2e%2e/etc/passwd", "/metricsx"}) {
        CAPTURE(path);
        const std::string answer = get(served.server, path);
        CHECK(status_of(answer) >= 400);
        CHECK(status_of(answer) < 500);
        CHECK_FALSE(has(answer, "root:"));
    }
    CHECK(status_of(get(served.server, "/")) == 404);
}

TEST_CASE("an oversized or broken request is refused and the server goes on") {
    const Served served;
    const std::string big =
        exchange(served.server.port(), "GET /metrics HTTP/1.1\r\nX: " + std::string(20000, 'a') + "\r\n\r\n");
    CHECK_FALSE(has(big, "outbox_backlog_rows"));
    CHECK_FALSE(has(exchange(served.server.port(), std::string("\x16\x03\x01\0\0\r\n\r\n", 9)), "outbox_backlog_rows"));
    CHECK(status_of(get(served.server, "/metrics")) == 200);
}

TEST_CASE("a callback that throws is an error 500 without its text") {
    const HttpServer server({"127.0.0.1:0"}, {[]() -> std::string { throw std::runtime_error("secret"); }, {}, {}, {}});
    for (const char* path : {"/metrics", "/livez"}) {
        const std::string answer = get(server, path);
        CHECK(status_of(answer) == 500);
        CHECK_FALSE(has(answer, "secret"));
    }
}

TEST_CASE("a port in use is named in the error") {
    const Served served;
    const std::string listen = "127.0.0.1:" + std::to_string(served.server.port());
    std::string text;
    try {
        const HttpServer second({listen}, {});
    } catch (const std::runtime_error& error) {
        text = error.what();
    }
    CHECK_MESSAGE(has(text, "cannot listen on " + listen), text);
    CHECK_MESSAGE(has(text, "Address already in use"), text);
}

TEST_CASE("an address that is not one host and one port is refused") {
    for (const char* listen : {"", "9464", ":9464", "127.0.0.1:", "127.0.0.1:70000", "127.0.0.1:80s",
                               "127.0.0.1:0,127.0.0.1:0", "127.0.0.1:9464 x"}) {
        CAPTURE(listen);
        CHECK_THROWS_AS(HttpServer({listen}, {}), std::runtime_error);
    }
}

TEST_CASE("a host name is listened on") {
    CHECK(HttpServer({"localhost:0"}, {}).port() > 0);
}
