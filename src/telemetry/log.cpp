#include "telemetry/log.hpp"

#include <spdlog/logger.h>
#include <spdlog/pattern_formatter.h>
#include <unistd.h>

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "telemetry/stderr_sink.hpp"

namespace outbox {
namespace {

spdlog::level::level_enum spdlog_level(LogLevel level) {
    switch (level) {
        case LogLevel::debug:
            return spdlog::level::debug;
        case LogLevel::info:
            return spdlog::level::info;
        case LogLevel::warn:
            return spdlog::level::warn;
        case LogLevel::error:
            return spdlog::level::err;
    }
    return spdlog::level::err;
}

class Log {
public:
    Log() : sink_(std::make_shared<StderrSink>()), logger_("outbox-relay", sink_) {
        // The default handler prints to stderr, and waits for it.
        logger_.set_error_handler([](const std::string&) {});
        start(LogSettings{});
    }

    void start(const LogSettings& settings) {
        json_ = settings.format == LogFormat::json ||
                (settings.format == LogFormat::automatic && ::isatty(STDERR_FILENO) == 0);
        const char* pattern = json_ ? R"({"ts":"%Y-%m-%dT%H:%M:%S.%eZ",%v)" : "%Y-%m-%dT%H:%M:%S.%eZ %v";
        logger_.set_formatter(
            std::make_unique<spdlog::pattern_formatter>(pattern, spdlog::pattern_time_type::utc, "\n"));
        logger_.set_level(spdlog_level(settings.level));
    }

    void write(LogLine line) {
        const auto level = spdlog_level(line.level);
        if (!logger_.should_log(level)) return;
        const std::uint64_t lost = sink_->lost();
        std::vector<LogField> more;
        if (lost > 0) {
            more.assign(line.fields.begin(), line.fields.end());
            more.emplace_back("lines_lost", lost);
            line.fields = more;
        }
        const std::string text = json_ ? json_members_of(line) : text_of(line);
        logger_.log(level, spdlog::string_view_t(text.data(), text.size()));
        if (lost > 0 && sink_->lost() == lost) sink_->told(lost);
    }

private:
    std::shared_ptr<StderrSink> sink_;
    spdlog::logger logger_;
    bool json_ = false;
};

// One per process, as standard error is. Never destroyed: threads may log while the process ends.
Log& process_log() {
    static Log& only = *new Log;
    return only;
}

}  // namespace

void start_log(const LogSettings& settings) {
    process_log().start(settings);
}

void log(LogLevel level, std::string_view event, std::string_view text, std::initializer_list<LogField> fields) {
    process_log().write({level, event, text, {fields.begin(), fields.size()}});
}

}  // namespace outbox
