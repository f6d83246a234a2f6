#include "app/signals.hpp"

#include <sys/signalfd.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <system_error>

namespace outbox {

StopSignals::StopSignals() {
    sigset_t stop;
    sigemptyset(&stop);
    sigaddset(&stop, SIGINT);
    sigaddset(&stop, SIGTERM);
    static_cast<void>(std::signal(SIGPIPE, SIG_IGN));
    if (pthread_sigmask(SIG_BLOCK, &stop, nullptr) != 0 ||
        (signal_fd_ = ::signalfd(-1, &stop, SFD_NONBLOCK | SFD_CLOEXEC)) < 0)
        throw std::system_error(errno, std::generic_category(), "signalfd");
}

StopSignals::~StopSignals() {
    ::close(signal_fd_);
}

int StopSignals::take() const {
    signalfd_siginfo info{};
    if (::read(signal_fd_, &info, sizeof info) != static_cast<ssize_t>(sizeof info)) return 0;
    return static_cast<int>(info.ssi_signo);
}

}  // namespace outbox
