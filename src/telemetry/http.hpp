// /metrics, /livez, /readyz and /status on one small civetweb server: GET and HEAD, no files, no authentication,
// nothing that changes anything. The content is asked for by callbacks, which run on civetweb's threads and so must be
// safe there.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "telemetry/settings.hpp"

namespace outbox {

struct HealthAnswer {
    bool ok = false;
    std::string checks_json;  // a JSON value that says why; may be empty
};

struct HttpContent {
    std::function<std::string()> metrics;
    std::function<HealthAnswer()> live;
    std::function<HealthAnswer()> ready;
    std::function<std::string()> status;  // JSON
};

class HttpServer {
public:
    // Listens before it returns; throws std::runtime_error saying why it cannot. Port 0 takes a free one.
    HttpServer(const HttpSettings& settings, HttpContent content);
    ~HttpServer();  // returns when its threads have ended
    HttpServer(const HttpServer&) = delete;
    HttpServer& operator=(const HttpServer&) = delete;

    std::uint16_t port() const { return port_; }

private:
    struct Server;

    std::unique_ptr<Server> server_;
    std::uint16_t port_ = 0;
};

}  // namespace outbox
