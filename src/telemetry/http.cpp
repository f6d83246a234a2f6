#include "telemetry/http.hpp"

#include <civetweb.h>
#include <poll.h>
#include <pthread.h>

#include <array>
#include <atomic>
#include <exception>
#include <stdexcept>
#include <string_view>
#include <utility>

#include "core/owned.hpp"

namespace outbox {
namespace {

struct Response {
    int status = 200;
    const char* reason = "OK";
    const char* type = "application/json";
    std::string body;
    const char* more_headers = "";
};

Response refused(int status, const char* reason, const char* more_headers = "") {
    return {status, reason, "application/json", std::string(R"({"error":")") + reason + "\"}\n", more_headers};
}

// What fails is named at once: that is what an orchestrator shows of a failed probe.
Response health(const HealthAnswer& answer, bool verbose) {
    std::string body = answer.ok ? R"({"status":"ok")" : R"({"status":"failing")";
    if ((verbose || !answer.ok) && !answer.checks_json.empty()) body += ",\"checks\":" + answer.checks_json;
    body += "}\n";
    if (answer.ok) return {200, "OK", "application/json", std::move(body)};
    return {503, "Service Unavailable", "application/json", std::move(body)};
}

bool asks_for_detail(const char* query) {
    const std::string_view text = query == nullptr ? "" : query;
    return text == "verbose" || text == "verbose=" || text == "verbose=1" || text == "verbose=true";
}

Response response_to(const mg_request_info& request, const HttpContent& content) {
    const std::string_view path = request.local_uri == nullptr ? "" : request.local_uri;
    const bool verbose = asks_for_detail(request.query_string);
    const bool known = path == "/metrics" || path == "/livez" || path == "/readyz" || path == "/status";
    if (!known) return refused(404, "Not Found");
    const std::string_view method = request.request_method;
    if (method != "GET" && method != "HEAD") return refused(405, "Method Not Allowed", "Allow: GET, HEAD\r\n");
    if (path == "/livez") return health(content.live(), verbose);
    if (path == "/readyz") return health(content.ready(), verbose);
    if (path == "/status") return {200, "OK", "application/json", content.status()};
    return {200, "OK", "text/plain; version=0.0.4; charset=utf-8", content.metrics()};
}

Response answer(const mg_request_info& request, const HttpContent& content) {
    try {
        return response_to(request, content);
    } catch (const std::exception&) {
        return refused(500, "Internal Server Error");  // its text is not for whoever asks here
    }
}

int send(mg_connection* connection, const Response& response, bool with_body) {
    mg_printf(connection,
              "HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\nCache-Control: no-store\r\n"
              "X-Content-Type-Options: nosniff\r\n%sConnection: close\r\n\r\n",
              response.status, response.reason, response.type, response.body.size(), response.more_headers);
    if (with_body) mg_write(connection, response.body.data(), response.body.size());
    return response.status;
}

// civetweb takes lists of addresses and letters after the port; we take one address and a number.
void require_address(const std::string& listen) {
    const auto colon = listen.rfind(':');
    const std::string port = colon == std::string::npos ? "" : listen.substr(colon + 1);
    const bool is_number = !port.empty() && port.size() <= 5 &&
                           port.find_first_not_of("0123456789") == std::string::npos && std::stoi(port) <= 65535;
    if (!is_number || colon == 0 || listen.find_first_of(", \t\r\n") != std::string::npos) {
        throw std::runtime_error("cannot listen on '" + listen + "': expected HOST:PORT, such as 127.0.0.1:9464");
    }
}

// civetweb's listening thread looks up every two seconds, or when somebody calls: a stop would have to wait for it. So
// somebody calls, on a thread of civetweb's, until the stop is through.
class Doorbell {
public:
    Doorbell(const std::string& host, std::uint16_t port) : host_(host), port_(port) {
        if (mg_start_thread(&Doorbell::ring, this) != 0) ringing_ = false;
    }
    ~Doorbell() {
        answered_ = true;
        while (ringing_) static_cast<void>(::poll(nullptr, 0, 1));
    }
    Doorbell(const Doorbell&) = delete;
    Doorbell& operator=(const Doorbell&) = delete;

private:
    static void* ring(void* argument) {
        auto* bell = static_cast<Doorbell*>(argument);
        std::array<char, 64> ignored{};
        while (!bell->answered_) {
            mg_connection* call =
                mg_connect_client(bell->host_.c_str(), bell->port_, 0, ignored.data(), ignored.size());
            if (call != nullptr) mg_close_connection(call);
            static_cast<void>(::poll(nullptr, 0, 10));
        }
        bell->ringing_ = false;
        return nullptr;
    }

    const std::string& host_;
    const std::uint16_t port_;
    std::atomic<bool> answered_ = false;
    std::atomic<bool> ringing_ = true;
};

}  // namespace

struct HttpServer::Server {
    HttpContent content;
    std::string host;     // to be called at
    std::string trouble;  // what civetweb said on the constructor's thread: why it could not start
    pthread_t constructor = pthread_self();
    std::unique_ptr<mg_context, FreeWith<mg_stop>> context;  // last, so that its threads end before what they use

    static int begin_request(mg_connection* connection) {
        const mg_request_info* request = mg_get_request_info(connection);
        const auto* server = static_cast<const Server*>(request->user_data);
        const bool with_body = std::string_view(request->request_method) != "HEAD";
        return send(connection, answer(*request, server->content), with_body);
    }

    // Keeps civetweb from writing to standard error. On its own threads it tells only of clients that went away.
    static int log_message(const mg_connection* connection, const char* message) {
        auto* server = static_cast<Server*>(mg_get_user_data(mg_get_context(connection)));
        if (server == nullptr || pthread_equal(server->constructor, pthread_self()) == 0) return 1;
        if (!server->trouble.empty()) server->trouble += "; ";
        server->trouble += message;
        return 1;
    }
};

HttpServer::HttpServer(const HttpSettings& settings, HttpContent content) : server_(std::make_unique<Server>()) {
    require_address(settings.listen);
    server_->host = settings.listen.substr(0, settings.listen.rfind(':'));
    if (server_->host == "0.0.0.0") server_->host = "127.0.0.1";
    server_->content = std::move(content);
    std::array options{"listening_ports",
                       settings.listen.c_str(),
                       "num_threads",
                       "2",
                       "request_timeout_ms",
                       "5000",
                       "max_request_size",
                       "8192",
                       "enable_keep_alive",
                       "no",
                       "enable_directory_listing",
                       "no",
                       static_cast<const char*>(nullptr)};
    mg_callbacks callbacks{};
    callbacks.begin_request = &Server::begin_request;
    callbacks.log_message = &Server::log_message;
    std::array<char, 256> text{};
    unsigned code = 0;
    mg_init_data init{&callbacks, server_.get(), options.data()};
    mg_error_data error{&code, text.data(), text.size()};
    server_->context.reset(mg_start2(&init, &error));
    if (server_->context == nullptr) {
        const std::string& why = server_->trouble.empty() ? std::string(text.data()) : server_->trouble;
        throw std::runtime_error("cannot listen on " + settings.listen + ": " + why);
    }
    mg_server_port bound{};
    if (mg_get_server_ports(server_->context.get(), 1, &bound) == 1) port_ = static_cast<std::uint16_t>(bound.port);
}

HttpServer::~HttpServer() {
    const Doorbell bell(server_->host, port_);
    server_->context.reset();
}

}  // namespace outbox
