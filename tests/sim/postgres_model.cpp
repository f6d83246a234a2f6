#include "sim/postgres_model.hpp"

#include <algorithm>
#include <utility>

#include "core/invariant.hpp"
#include "core/key_hash.hpp"
#include "core/overloaded.hpp"

namespace outbox::sim {

PostgresModel::PostgresModel(std::vector<std::string> topics) : topics_(std::move(topics)), history_(1) {}

std::int64_t PostgresModel::clock_us() const {
    constexpr std::int64_t some_years_us = 800'000'000'000'000;
    const auto since_start = true_now_.time_since_epoch() + clock_offset_;
    return some_years_us + std::chrono::duration_cast<std::chrono::microseconds>(since_start).count();
}

// ---- names -----------------------------------------------------------------------------------------------------

TopicName PostgresModel::topic_named(std::string_view name) {
    const auto found = std::find(topics_.begin(), topics_.end(), name);
    if (found != topics_.end()) return static_cast<TopicName>(found - topics_.begin());
    topics_.emplace_back(name);
    return static_cast<TopicName>(topics_.size() - 1);
}

std::string PostgresModel::key_text(const MessageRow& row) {
    require_invariant(row.key >= 0, "a row without a key has no text of it");
    std::string text = "k" + std::to_string(row.key);
    if (row.long_key) text.append(2000, 'x');
    return text;
}

EventId PostgresModel::event_id(std::uint64_t event) {
    EventId id{0xe7};
    for (std::size_t i = 0; i < 8; ++i) id[15 - i] = static_cast<std::uint8_t>(event >> (8 * i));
    return id;
}

std::uint64_t PostgresModel::event_of(const EventId& id) {
    std::uint64_t event = 0;
    for (std::size_t i = 8; i < 16; ++i) event = event << 8U | id[i];
    return event;
}

std::uint8_t PostgresModel::lane_of(const NewRow& row, RowId id) const {
    if (row.key < 0) return static_cast<std::uint8_t>(id.value % lane_count);
    const auto key = static_cast<std::size_t>(row.key);
    if (!row.long_key && key < lanes_of_keys_.size()) return lanes_of_keys_[key];
    return static_cast<std::uint8_t>(key % lane_count);
}

// ---- time ------------------------------------------------------------------------------------------------------

// idle_in_transaction_session_timeout, as the session sets it.
void PostgresModel::at(Instant true_now) {
    true_now_ = true_now;
    for (auto claim = claims_.begin(); claim != claims_.end();) {
        const SessionId id = *claim++;
        const Session& session = sessions_[id];
        const Duration patience = std::min<Duration>(session.worker.lease_ttl, std::chrono::seconds(30));
        if (session.commands.empty() && true_now >= session.idle_since + patience) cut(id);
    }
}

// ---- sessions --------------------------------------------------------------------------------------------------

SessionId PostgresModel::connect(const WorkerName& worker) {
    sessions_.push_back({.worker = worker});
    sessions_.back().commands.push_back({.action = Open{}, .sent_at = {}});
    return static_cast<SessionId>(sessions_.size() - 1);
}

void PostgresModel::cut(SessionId id, std::size_t reached, bool noticed) {
    Session& session = sessions_.at(id);
    session.connected = false;
    session.noticed = noticed;
    session.answers.clear();
    while (session.commands.size() > reached) session.commands.pop_back();
    if (noticed && session.commands.empty()) end_claim(id);
}

void PostgresModel::send(SessionId id, const Action& action, const Topics& topics, Instant now) {
    Session& session = sessions_.at(id);
    if (!session.connected) return violation("a statement was sent without a session");
    Command command{.action = Open{}, .sent_at = now};
    std::visit(Overloaded{[&](const Publish&) { violation("records were sent to the database"); },
                          [&](const auto& other) { command.action = other; }},
               action);
    watch_claims(id, action);
    if (std::holds_alternative<Open>(command.action)) return;
    if (const auto* read = std::get_if<ReadRows>(&action)) {
        command.known.assign(read->known.begin(), read->known.end());
        for (const TopicIndex topic : read->without) command.without.push_back(topic_named(topics[topic].name));
        command.without_keys_of.assign(read->without_keys_of.begin(), read->without_keys_of.end());
        if (read->topic) command.topic = topic_named(topics[*read->topic].name);
    }
    if (const auto* rows = std::get_if<DeleteRows>(&action)) {
        command.ids.assign(rows->ids.begin(), rows->ids.end());
        command.event_ids.assign(rows->event_ids.begin(), rows->event_ids.end());
        command.places.assign(rows->places.begin(), rows->places.end());
        if (!rows->event_ids.empty() && rows->event_ids.size() != rows->ids.size())
            violation("a delete names more ids than events, or fewer");
    }
    if (const auto* burial = std::get_if<BuryRow>(&action)) command.code = burial->code;
    session.commands.push_back(std::move(command));
}

// Whatever is said between a claim and its end would become part of the claim's transaction.
void PostgresModel::watch_claims(SessionId id, const Action& action) {
    bool& claim_sent = sessions_[id].claim_sent;
    const auto* const rows = std::get_if<DeleteRows>(&action);
    const bool ends = std::holds_alternative<EndClaim>(action) || (rows != nullptr && rows->ends_claim);
    if (ends != claim_sent) violation(ends ? "a claim ended that was never made" : "a statement inside a claim");
    const auto* const read = std::get_if<ReadRows>(&action);
    claim_sent = read != nullptr && read->claim;
}

// For a row that somebody else has claimed, where the statement would delete it.
bool PostgresModel::waits_for_rows(SessionId session, const Command& command) const {
    const auto claimed = [&](RowId id, const EventId& event) -> const MessageRow* {
        const MessageRow* const row = find(id);
        if (row == nullptr || !row->claimed_by || row->claimed_by == session) return nullptr;
        return event == EventId{} || event == event_id(row->event) ? row : nullptr;
    };
    if (const auto* const burial = std::get_if<BuryRow>(&command.action)) {
        const MessageRow* const row = claimed(burial->id, burial->event_id);
        return row != nullptr && (!burial->block_key || row->key < 0 || row->long_key);
    }
    const bool guarded = !command.event_ids.empty();
    if (guarded && std::get<DeleteRows>(command.action).skip_locked) return false;
    for (std::size_t i = 0; i < command.ids.size(); ++i) {
        if (guarded && i >= command.event_ids.size()) break;
        const MessageRow* const row = claimed(command.ids[i], guarded ? command.event_ids[i] : EventId{});
        if (row != nullptr && (command.places.empty() || row->place == command.places[i])) return true;
    }
    return false;
}

bool PostgresModel::waits(SessionId session, const Command& command) const {
    const WorkerName& worker = sessions_[session].worker;
    const bool deletes =
        std::holds_alternative<DeleteRows>(command.action) || std::holds_alternative<BuryRow>(command.action);
    if (deletes) return messages_locked_ || waits_for_rows(session, command);
    const auto* const release = std::get_if<ReleaseLanes>(&command.action);
    if (release == nullptr && !std::holds_alternative<RenewLeases>(command.action)) return false;
    for (std::uint8_t lane = 0; lane < lane_count; ++lane)
        if (locked_lanes_.contains(lane) && fleet_.lanes[lane].owner == worker.id &&
            (release == nullptr || release->lanes.contains(lane)))
            return true;
    return false;
}

bool PostgresModel::execute(SessionId id) {
    Session& session = sessions_.at(id);
    if (session.commands.empty() || waits(id, session.commands.front())) return false;
    Command& command = session.commands.front();
    if (!command.first_half && std::holds_alternative<Probe>(command.action)) {
        command.first_half.emplace().event = ProbeAnswered{RowId{last_id_}, {}};
        return true;
    }
    const auto* const read = std::get_if<ReadRows>(&command.action);
    if (!command.first_half && read != nullptr && read->claim) {
        command.first_half = lowest_claimable(command, *read);
        claims_.insert(id);
        return true;
    }
    Answer answer = run(id, command);
    session.commands.pop_front();
    session.idle_since = true_now_;
    if (session.noticed && session.commands.empty()) end_claim(id);
    if (std::exchange(failed_, false))
        cut(id, session.commands.size());
    else if (session.connected)
        session.answers.push_back(std::move(answer));
    return true;
}

bool PostgresModel::refuse(SessionId id) {
    Session& session = sessions_.at(id);
    if (session.commands.empty()) return session.connected;
    const Command command = std::move(session.commands.front());
    session.commands.pop_front();
    const auto* const rows = std::get_if<DeleteRows>(&command.action);
    if (rows != nullptr && rows->ends_claim) end_claim(id);  // its COMMIT rolls back
    if (!session.connected) return false;
    Answer answer;
    if (std::holds_alternative<DeleteRows>(command.action)) {
        answer.event = DeleteRefused{};
    } else if (std::holds_alternative<BuryRow>(command.action)) {
        answer.event = BurialRefused{};
    } else {
        cut(id, session.commands.size());
        return false;
    }
    session.answers.push_back(std::move(answer));
    return true;
}

PostgresModel::Answer PostgresModel::run(SessionId session, Command& command) {
    const WorkerName& worker = sessions_[session].worker;
    const auto nothing_to_tell = [](auto event) {
        Answer answer;
        answer.event = event;
        return answer;
    };
    return std::visit(Overloaded{[&](const Open&) { return nothing_to_tell(SessionOpened{}); },
                                 [&](const RenewLeases& action) { return renew(worker, action, command.sent_at); },
                                 [&](const AcquireLanes&) { return acquire(worker, command.sent_at); },
                                 [&](const ReleaseLanes& action) {
                                     release(worker, action.lanes);
                                     return nothing_to_tell(LanesReleased{action.lanes});
                                 },
                                 [&](const LeaveFleet&) {
                                     leave(worker);
                                     return nothing_to_tell(FleetLeft{});
                                 },
                                 [&](const ReadRows& action) {
                                     return action.claim ? claim(session, command, action)
                                                         : read(worker, command, action);
                                 },
                                 [&](const EndClaim&) {
                                     end_claim(session);
                                     return nothing_to_tell(ClaimEnded{});
                                 },
                                 [&](const Probe&) { return probe_holders(std::move(*command.first_half)); },
                                 [&](const DeleteRows&) { return remove(session, command); },
                                 [&](const BuryRow& action) {
                                     bury(session, action, command.code);
                                     return nothing_to_tell(RowsBuried{});
                                 },
                                 [&](const ReadControl&) { return control(); },
                                 [&](const ReadBlockedKeys&) { return blocked_keys(); },
                                 [&](const ReadCrashes&) { return crashes(worker); },
                                 [&](const WithdrawNote&) {
                                     note(worker, {}, {});
                                     return nothing_to_tell(NoteTaken{});
                                 },
                                 [&](const ForgetCrashes&) {
                                     forget_crashes(worker);
                                     return nothing_to_tell(NoteTaken{});
                                 }},
                      command.action);
}

// ---- answers ---------------------------------------------------------------------------------------------------

std::optional<PostgresModel::Answer> PostgresModel::take_answer(SessionId id, Topics& topics) {
    Session& session = sessions_.at(id);
    if (session.answers.empty()) return std::nullopt;
    Answer answer = std::move(session.answers.front());
    session.answers.pop_front();
    std::visit(Overloaded{[&](RowsRead& event) {
                              for (const MessageRow& row : answer.rows) {
                                  RowHead& head = answer.heads.emplace_back();
                                  complete(head, row, topics);
                                  head.payload_withheld = row.payload_bytes > answer.payload_bytes_max_;
                              }
                              event.rows = answer.heads;
                          },
                          [&](ProbeAnswered& event) { event.holders = answer.holders; },
                          [&](ControlRead& event) {
                              answer.paused_topics.assign(answer.names.begin(), answer.names.end());
                              event.paused_topics = answer.paused_topics;
                          },
                          [&](BlockedKeysRead& event) {
                              for (const auto& [topic, key, row, lane] : answer.blocked_text_)
                                  answer.blocked.push_back({key_hash(topics.index_of(topic), key), row, lane});
                              event.keys = answer.blocked;
                          },
                          [&](CrashesRead& event) { event.attempts = answer.attempts; }, [](auto&) {}},
               answer.event);
    return answer;
}

// What the session makes of a row when it arrives.
void PostgresModel::complete(RowHead& head, const MessageRow& row, Topics& topics) const {
    const std::string key = row.key < 0 ? std::string() : key_text(row);
    head.id = row.id;
    head.event_id = event_id(row.event);
    head.created_at_us = row.created_at_us;
    head.topic = topics.index_of(name_of(row.topic));
    head.key_hash = row.key < 0 ? 0 : key_hash(head.topic, key);
    head.bytes = row.payload_bytes + static_cast<std::uint32_t>(key.size()) + 2;  // headers: {}
    head.lane = row.lane;
    head.place = row.place;
}

}  // namespace outbox::sim
