// Standard error is a pipe or a socket of the test's own while these run.
#include "telemetry/log.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <nlohmann/json.hpp>
#include <regex>
#include <string>

using namespace outbox;

namespace {

class CapturedStderr {
public:
    explicit CapturedStderr(bool socket = false) : saved_(::dup(STDERR_FILENO)) {
        REQUIRE((socket ? ::socketpair(AF_UNIX, SOCK_STREAM, 0, ends_.data()) : ::pipe(ends_.data())) == 0);
        ::dup2(ends_[1], STDERR_FILENO);
        ::close(ends_[1]);
        ::fcntl(ends_[0], F_SETFL, O_NONBLOCK);
    }
    ~CapturedStderr() {
        ::dup2(saved_, STDERR_FILENO);
        ::close(saved_);
        hang_up();
    }
    CapturedStderr(const CapturedStderr&) = delete;
    CapturedStderr& operator=(const CapturedStderr&) = delete;

    std::string read_all() const {
        std::string text;
        std::array<char, 65536> buffer{};
        for (ssize_t got = 0; (got = ::read(ends_[0], buffer.data(), buffer.size())) > 0;) {
            text.append(buffer.data(), static_cast<std::size_t>(got));
        }
        return text;
    }
    void hang_up() {
        if (ends_[0] >= 0) ::close(ends_[0]);
        ends_[0] = -1;
    }

private:
    int saved_;
    std::array<int, 2> ends_{};
};

}  // namespace

TEST_CASE("a text line begins with the time in UTC") {
    const CapturedStderr captured;
    start_log({LogLevel::info, LogFormat::text});
    log(LogLevel::info, "lanes_acquired", "acquired 32 lanes, {} of %v", {{"lanes", 32}});
    const std::regex expected(
        R"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z info  lanes_acquired  acquired 32 lanes, \{\} of %v  lanes=32\n)");
    const std::string text = captured.read_all();
    CHECK_MESSAGE(std::regex_match(text, expected), text);
}

TEST_CASE("a JSON line is one object on one line, which is what a pipe gets by default") {
    const CapturedStderr captured;
    start_log({LogLevel::info, LogFormat::automatic});
    log(LogLevel::warn, "kafka_lost", "no broker\nis connected", {{"brokers", 3}});
    const std::string text = captured.read_all();
    CHECK(text.find('\n') == text.size() - 1);
    const auto json = nlohmann::json::parse(text);
    CHECK(std::regex_match(json["ts"].get<std::string>(), std::regex(R"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z)")));
    CHECK(json["level"] == "warn");
    CHECK(json["event"] == "kafka_lost");
    CHECK(json["msg"] == "no broker\nis connected");
    CHECK(json["brokers"] == 3);
}

TEST_CASE("lines below the level are not written") {
    const CapturedStderr captured;
    start_log({LogLevel::warn, LogFormat::text});
    log(LogLevel::info, "e", "quiet");
    log(LogLevel::error, "e", "loud");
    const std::string text = captured.read_all();
    CHECK(text.find("quiet") == std::string::npos);
    CHECK(text.find("loud") != std::string::npos);
}

TEST_CASE("a reader that stopped reading costs lines, not progress, and the next line says how many") {
    for (const bool socket : {false, true}) {
        CAPTURE(socket);
        const CapturedStderr captured(socket);
        start_log({LogLevel::info, LogFormat::json});
        const std::string long_text(3000, 'x');
        for (int i = 0; i < 1000; ++i) log(LogLevel::info, "flood", long_text);
        captured.read_all();
        log(LogLevel::info, "after", "again");
        const auto json = nlohmann::json::parse(captured.read_all());
        CHECK(json["event"] == "after");
        CHECK(json["lines_lost"] > 500);
        log(LogLevel::info, "after", "again");
        CHECK_FALSE(nlohmann::json::parse(captured.read_all()).contains("lines_lost"));
    }
}

TEST_CASE("logging goes on when standard error is gone") {
    const auto before = std::signal(SIGPIPE, SIG_IGN);
    {
        CapturedStderr captured;
        start_log({LogLevel::info, LogFormat::text});
        captured.hang_up();
        CHECK_NOTHROW(log(LogLevel::error, "e", "nobody reads"));
        ::close(STDERR_FILENO);
        CHECK_NOTHROW(log(LogLevel::error, "e", "nobody could"));
    }
    {
        const CapturedStderr captured;
        log(LogLevel::info, "e", "back", {});
        CHECK(captured.read_all().find("lines_lost=2") != std::string::npos);
    }
    std::signal(SIGPIPE, before);
}
