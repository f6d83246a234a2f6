// What a statement brought back: owned, so that whoever drives the model may deliver it when it likes. Plain values.
#pragma once

#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "core/messages.hpp"
#include "sim/postgres_tables.hpp"

namespace outbox::sim {

struct FleetLeft {};
struct NoteTaken {};
struct ClaimEnded {};

// The spans of `event` point into the vectors beside it, and stay valid when the answer is moved.
struct PostgresAnswer {
    PostgresAnswer() = default;
    PostgresAnswer(PostgresAnswer&&) noexcept = default;
    PostgresAnswer& operator=(PostgresAnswer&&) noexcept = default;
    PostgresAnswer(const PostgresAnswer&) = delete;
    PostgresAnswer& operator=(const PostgresAnswer&) = delete;
    ~PostgresAnswer() = default;

    std::variant<SessionOpened, LeasesRenewed, LanesAcquired, LanesReleased, FleetLeft, RowsRead, ProbeAnswered,
                 RowsDeleted, RowsMissed, DeleteRefused, RowsBuried, BurialRefused, ControlRead, BlockedKeysRead,
                 CrashesRead, NoteTaken, ClaimEnded>
        event;
    std::vector<RowHead> heads{};
    std::vector<MessageRow> rows{};  // what `heads` are the heads of: by these the broker gets them
    std::vector<Holder> holders{};
    std::vector<Attempt> attempts{};
    std::vector<KeyBlock> blocked{};
    std::vector<std::string> names{};
    std::vector<std::string_view> paused_topics{};
    std::int64_t database_now_us = 0;  // with LeasesRenewed
    std::size_t deleted = 0;           // with RowsDeleted
    std::uint64_t examined = 0;        // with RowsRead: rows walked, the dead and the other lanes' too

private:
    friend class PostgresModel;
    struct Blocked {
        std::string topic, key;
        RowId row;
        std::uint8_t lane;
    };
    std::vector<Blocked> blocked_text_{};
    std::uint32_t payload_bytes_max_ = 0;
};

}  // namespace outbox::sim
