#include "telemetry/stderr_sink.hpp"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstddef>
#include <string_view>

namespace outbox {
namespace {

// A pipe that polls as writable takes PIPE_BUF bytes at once, so pieces of that size do not block.
// O_NONBLOCK would do as well, but it belongs to the open file, which the shell and others share with us.
ssize_t write_now(std::string_view piece) {
    const ssize_t sent = ::send(STDERR_FILENO, piece.data(), piece.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent >= 0 || errno != ENOTSOCK) return sent;
    pollfd writable{STDERR_FILENO, POLLOUT, 0};
    if (::poll(&writable, 1, 0) != 1 || (writable.revents & POLLOUT) == 0) return -1;
    return ::write(STDERR_FILENO, piece.data(), piece.size());
}

bool written(std::string_view line) {
    while (!line.empty()) {
        const ssize_t count = write_now(line.substr(0, PIPE_BUF));
        if (count < 0 && errno == EINTR) continue;
        if (count <= 0) return false;
        line.remove_prefix(static_cast<std::size_t>(count));
    }
    return true;
}

}  // namespace

void StderrSink::sink_it_(const spdlog::details::log_msg& message) {
    spdlog::memory_buf_t line;
    formatter_->format(message, line);
    if (!written(std::string_view(line.data(), line.size()))) lost_.fetch_add(1, std::memory_order_relaxed);
}

}  // namespace outbox
