// SIGINT and SIGTERM, blocked before the first thread exists (threads inherit the mask) and taken by the main thread as
// something to read. SIGPIPE is ignored: a peer that goes away is an error of that write. The main thread.
#pragma once

namespace outbox {

class StopSignals {
public:
    StopSignals();
    ~StopSignals();
    StopSignals(const StopSignals&) = delete;
    StopSignals& operator=(const StopSignals&) = delete;

    int descriptor() const { return signal_fd_; }
    int take() const;  // the number of the signal that arrived, 0 when none

private:
    int signal_fd_ = -1;
};

}  // namespace outbox
