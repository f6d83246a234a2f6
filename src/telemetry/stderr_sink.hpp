// Where the lines go: standard error, and never at the price of the relay. A reader that stopped reading, or went away,
// costs lines, not progress; how many is told by the next line that gets through. spdlog's sinks would wait. Any
// thread.
#pragma once

#include <spdlog/details/console_globals.h>
#include <spdlog/sinks/base_sink.h>

#include <atomic>
#include <cstdint>

namespace outbox {

class StderrSink final : public spdlog::sinks::base_sink<spdlog::details::console_mutex::mutex_t> {
public:
    std::uint64_t lost() const { return lost_.load(std::memory_order_relaxed); }
    void told(std::uint64_t lines) { lost_.fetch_sub(lines, std::memory_order_relaxed); }

protected:
    void sink_it_(const spdlog::details::log_msg& message) override;
    void flush_() override {}

private:
    std::atomic<std::uint64_t> lost_ = 0;
};

}  // namespace outbox
