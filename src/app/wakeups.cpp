#include "app/wakeups.hpp"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <ctime>
#include <system_error>

namespace outbox {

Wakeups::Wakeups() : interrupt_fd_(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {
    if (interrupt_fd_ < 0) throw std::system_error(errno, std::generic_category(), "eventfd");
}

Wakeups::~Wakeups() {
    ::close(interrupt_fd_);
}

void Wakeups::interrupt() const {
    const std::uint64_t one = 1;
    // A full counter means that it is being woken already.
    [[maybe_unused]] const auto written = ::write(interrupt_fd_, &one, sizeof one);
}

Wakeups::Woken Wakeups::sleep(Source session, Source producer, Duration at_most, Source second_session) {
    std::array<pollfd, 4> fds{{{interrupt_fd_, POLLIN, 0},
                               {session.descriptor, session.wanted, 0},
                               {second_session.descriptor, second_session.wanted, 0},
                               {producer.descriptor, producer.wanted, 0}}};
    const auto nanoseconds = std::max<Duration::rep>(at_most.count(), 0);
    const timespec timeout{nanoseconds / 1'000'000'000, nanoseconds % 1'000'000'000};
    if (::ppoll(fds.data(), fds.size(), &timeout, nullptr) < 0 && errno != EINTR)
        throw std::system_error(errno, std::generic_category(), "ppoll");
    if (fds[0].revents != 0) {
        std::uint64_t interrupts = 0;
        [[maybe_unused]] const auto cleared = ::read(interrupt_fd_, &interrupts, sizeof interrupts);
    }
    return {fds[1].revents != 0 || fds[2].revents != 0, fds[3].revents != 0};
}

}  // namespace outbox
