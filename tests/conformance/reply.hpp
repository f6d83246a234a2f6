// What a statement answered, in a form that a model's answer and a session's can be compared in. Plain values.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <type_traits>
#include <variant>
#include <vector>

#include "core/messages.hpp"
#include "core/overloaded.hpp"

namespace outbox::conformance {

struct Reply {
    std::string what;
    LaneSet lanes{};
    std::uint32_t living = 0;
    std::uint32_t rank = 0;
    Instant asked_at{};
    std::vector<RowHead> heads{};
    RowId lowest = no_row;  // of a claim
    RowId high{};
    std::vector<Holder> holders{};
    std::vector<std::size_t> holding{};  // the same as writers, sorted
    std::size_t deleted = 0;
    ControlRead control{};  // but for its span
    std::vector<std::string> paused_topics{};
    std::vector<KeyBlock> keys{};
    std::vector<Attempt> attempts{};

    std::vector<std::int64_t> ids() const {
        std::vector<std::int64_t> ids;
        for (const RowHead& head : heads) ids.push_back(head.id.value);
        return ids;
    }
    // Everything that has to be the same on both; times and transaction ids need not be.
    std::string text() const;
};

// Of any variant of the relay's events, those of a session and those of the model.
template <class Event>
Reply reply_of(const Event& event) {
    Reply reply;
    std::visit(
        Overloaded{
            [&](const SessionOpened&) { reply.what = "opened"; },
            [&](const LeasesRenewed& it) {
                reply = {.what = "renewed",
                         .lanes = it.lanes,
                         .living = it.living,
                         .rank = it.rank,
                         .asked_at = it.asked_at};
            },
            [&](const LanesAcquired& it) { reply = {.what = "acquired", .lanes = it.lanes, .asked_at = it.asked_at}; },
            [&](const LanesReleased& it) { reply = {.what = "released", .lanes = it.lanes}; },
            [&](const RowsRead& it) {
                reply = {.what = "rows", .heads = {it.rows.begin(), it.rows.end()}, .lowest = it.lowest};
            },
            [&](const ProbeAnswered& it) {
                reply = {.what = "probe", .high = it.high, .holders = {it.holders.begin(), it.holders.end()}};
            },
            [&](const RowsDeleted&) { reply.what = "deleted"; }, [&](const RowsMissed&) { reply.what = "rows missed"; },
            [&](const DeleteRefused&) { reply.what = "delete refused"; },
            [&](const RowsBuried&) { reply.what = "buried"; },
            [&](const BurialRefused&) { reply.what = "burial refused"; },
            [&](const ControlRead& it) {
                reply = {.what = "control",
                         .control = it,
                         .paused_topics = {it.paused_topics.begin(), it.paused_topics.end()}};
                reply.control.paused_topics = {};
            },
            [&](const BlockedKeysRead& it) {
                reply = {.what = "blocked keys", .keys = {it.keys.begin(), it.keys.end()}};
                reply.control.blocked = it.digest;
            },
            [&](const CrashesRead& it) {
                reply = {.what = "crashes", .attempts = {it.attempts.begin(), it.attempts.end()}};
            },
            [&](const auto&) { reply.what = "done"; }},
        event);
    return reply;
}

}  // namespace outbox::conformance
