// Who else is at the database: writers, readers, operators; and what becomes of the server.
#include <algorithm>
#include <utility>

#include "core/invariant.hpp"
#include "sim/postgres_model.hpp"

namespace outbox::sim {

namespace {

constexpr std::size_t undo_depth = 64;  // commits that a failover may lose

}  // namespace

// ---- rows ------------------------------------------------------------------------------------------------------

// Of the first row with this id or a higher one.
std::vector<MessageRow>::iterator PostgresModel::position(RowId id) {
    return std::lower_bound(messages_.begin(), messages_.end(), id,
                            [](const MessageRow& row, RowId value) { return row.id < value; });
}

const MessageRow* PostgresModel::find(RowId id) const {
    const auto found = std::lower_bound(messages_.begin(), messages_.end(), id,
                                        [](const MessageRow& row, RowId value) { return row.id < value; });
    return found == messages_.end() || found->id != id ? nullptr : &*found;
}

void PostgresModel::add_dead(RowId id, std::uint64_t died) {
    const auto place = std::upper_bound(dead_.begin(), dead_.end(), id.value,
                                        [](std::int64_t value, const Dead& dead) { return value < dead.id; });
    dead_.insert(place, {id.value, died});
}

// A committed row leaves the table; its entry stays for those who still see it.
void PostgresModel::gone(const MessageRow& row, EventHistory::State state, SessionId by) {
    add_dead(row.id, ++step_);
    EventHistory& event = history_[row.event];
    event.state = state;
    event.gone_at = true_now_;
    event.gone_by = by;
}

// ---- writers ---------------------------------------------------------------------------------------------------

WriterId PostgresModel::begin() {
    writers_.emplace(++last_writer_, Writer{});
    return last_writer_;
}

RowId PostgresModel::insert(WriterId id, const NewRow& row) {
    Writer& writer = writers_.at(id);
    require_invariant(!writer.prepared, "a prepared transaction writes no more");
    if (writer.holder == 0) {
        writer.holder = (std::uint64_t{3} << 32U) | ++last_holder_;
        writer.transaction = ++last_transaction_;
        writer.begun = ++step_;
    }
    const RowId drawn{++last_id_};
    EventHistory event;
    event.row = drawn;
    event.topic = row.topic;
    event.key = row.key;
    event.lane = lane_of(row, drawn);
    event.long_key = row.long_key;
    MessageRow message;
    message.id = drawn;
    message.event = history_.size();
    message.writer = id;
    message.created_at_us = clock_us();
    message.topic = row.topic;
    message.key = row.key;
    message.payload_bytes = row.payload_bytes;
    message.lane = event.lane;
    message.long_key = row.long_key;
    messages_.insert(position(drawn), message);
    history_.push_back(event);
    return drawn;
}

void PostgresModel::commit(WriterId id) {
    const Writer writer = writers_.at(id);
    writers_.erase(id);
    if (writer.holder == 0) return;
    Undo& undo = log(writer.prepared ? Undo::Kind::commit_prepared : Undo::Kind::commit);
    undo.writer_id = id;
    undo.writer = writer;
    ++commits_;
    for (MessageRow& row : messages_) {
        if (row.writer != id) continue;
        row.writer = 0;
        undo.inserted.push_back(row.id);
        EventHistory& event = history_[row.event];
        event.state = EventHistory::State::committed;
        event.commit = commits_;
        event.committed_at = true_now_;
        highest_id_ = std::max(highest_id_, row.id.value);
    }
}

void PostgresModel::rollback(WriterId id) {
    const Writer writer = writers_.at(id);
    writers_.erase(id);
    Undo* undo = nullptr;
    if (writer.prepared) {
        undo = &log(Undo::Kind::rollback_prepared);
        undo->writer_id = id;
        undo->writer = writer;
    }
    for (const MessageRow& row : messages_) {
        if (row.writer != id) continue;
        if (undo != nullptr) undo->removed.push_back(row);
        history_[row.event].state = EventHistory::State::rolled_back;
        add_dead(row.id, 0);
    }
    std::erase_if(messages_, [&](const MessageRow& row) { return row.writer == id; });
}

void PostgresModel::prepare(WriterId id) {
    Writer& writer = writers_.at(id);
    require_invariant(!writer.prepared, "a transaction is prepared once");
    writer.prepared = true;
    writer.renamed = rename_prepared_at_once_;
    Undo& undo = log(Undo::Kind::prepare);
    undo.writer_id = id;
    for (const MessageRow& row : messages_)
        if (row.writer == id) highest_id_ = std::max(highest_id_, row.id.value);
}

std::vector<WriterId> PostgresModel::writers(bool prepared) const {
    std::vector<WriterId> found;
    for (const auto& [id, writer] : writers_)
        if (writer.prepared == prepared) found.push_back(id);
    return found;
}

WriterId PostgresModel::writer_of(const Holder& holder) const {
    for (const auto& [id, writer] : writers_)
        if (writer.renamed == holder.prepared &&
            (holder.prepared ? writer.transaction : writer.holder) == holder.transaction)
            return id;
    return 0;
}

// ---- readers ---------------------------------------------------------------------------------------------------

ReaderId PostgresModel::open_reader() {
    readers_.emplace(++last_reader_, step_);
    return last_reader_;
}

void PostgresModel::close_reader(ReaderId reader) {
    readers_.erase(reader);
}

void PostgresModel::vacuum() {
    std::uint64_t oldest = step_;
    for (const auto& [id, snapshot] : readers_) oldest = std::min(oldest, snapshot);
    for (const auto& [id, writer] : writers_)
        if (writer.holder != 0) oldest = std::min(oldest, writer.begun);
    std::erase_if(dead_, [&](const Dead& dead) { return dead.died <= oldest; });
}

// ---- operators -------------------------------------------------------------------------------------------------

// An upsert draws a revision for the row it proposes, and another for the one it then changes.
ControlRow& PostgresModel::upserted_control(std::string_view topic) {
    log_operators();
    const auto found = operators_.control.find(topic);
    operators_.revisions += found == operators_.control.end() ? 1 : 2;
    ControlRow& row = found == operators_.control.end() ? operators_.control[std::string(topic)] : found->second;
    row.revision = operators_.revisions;
    return row;
}

void PostgresModel::pause(std::string_view topic) {
    upserted_control(topic).paused = true;
}

void PostgresModel::resume(std::string_view topic) {
    const auto found = operators_.control.find(topic);
    if (found == operators_.control.end() || !found->second.paused) return;
    log_operators();
    found->second.paused = false;
    found->second.revision = ++operators_.revisions;
}

void PostgresModel::set_rate(std::optional<std::uint64_t> rows_per_second) {
    if (rows_per_second) {
        upserted_control("*").max_rows_per_second = rows_per_second;
        return;
    }
    const auto found = operators_.control.find("*");
    if (found == operators_.control.end() || !found->second.max_rows_per_second) return;
    log_operators();
    found->second.max_rows_per_second.reset();
    found->second.revision = ++operators_.revisions;
}

void PostgresModel::unblock(TopicName topic, std::string_view key) {
    log_operators();
    operators_.blocked_keys.erase({name_of(topic), std::string(key)});
}

void PostgresModel::unblock_all() {
    log_operators();
    operators_.blocked_keys.clear();
}

std::vector<std::uint64_t> PostgresModel::requeue(const std::function<bool(const MessageRow&)>& which) {
    Undo& undo = log(Undo::Kind::requeue);
    undo.letters = std::exchange(dead_letters_, {});
    ++commits_;
    std::vector<std::uint64_t> events;
    for (const DeadLetter& letter : undo.letters) {
        if (!which(letter.row)) {
            dead_letters_.push_back(letter);
            continue;
        }
        MessageRow row = letter.row;
        row.id = RowId{++last_id_};
        if (row.key < 0) row.lane = lane_of({.key = row.key}, row.id);
        messages_.insert(position(row.id), row);
        undo.inserted.push_back(row.id);
        EventHistory& event = history_[row.event];
        event.row = row.id;
        event.lane = row.lane;
        event.state = EventHistory::State::committed;
        event.commit = commits_;
        event.committed_at = true_now_;
        highest_id_ = std::max(highest_id_, row.id.value);
        events.push_back(row.event);
    }
    return events;
}

// ---- the server ------------------------------------------------------------------------------------------------

PostgresModel::Undo& PostgresModel::log(Undo::Kind kind) {
    if (undo_.size() >= undo_depth) undo_.pop_front();
    Undo& undo = undo_.emplace_back();
    undo.kind = kind;
    undo.dead_letters = dead_letters_.size();
    undo.highest_id = highest_id_;
    return undo;
}

void PostgresModel::log_fleet() {
    log(Undo::Kind::statement).fleet = fleet_;
}

void PostgresModel::log_operators() {
    log(Undo::Kind::statement).operators = operators_;
}

void PostgresModel::end_everything() {
    for (SessionId session = 0; session < sessions_.size(); ++session) cut(session);
    readers_.clear();
    messages_locked_ = false;
    locked_lanes_ = {};
    for (const WriterId writer : writers(false)) rollback(writer);
    for (auto& [id, writer] : writers_) writer.renamed = true;
    last_holder_ = 0;  // virtual transactions are counted from the server's start
}

void PostgresModel::restart(std::int64_t ids_skipped) {
    end_everything();
    last_id_ += ids_skipped;
}

void PostgresModel::failover(std::size_t commits_lost, std::int64_t ids_skipped) {
    end_everything();
    for (; commits_lost > 0 && !undo_.empty(); --commits_lost) {
        Undo undo = std::move(undo_.back());
        undo_.pop_back();
        take_back(std::move(undo));
    }
    last_id_ = highest_id_ + ids_skipped;
}

void PostgresModel::put_back(const MessageRow& row, EventHistory::State state) {
    messages_.insert(position(row.id), row);
    EventHistory& event = history_[row.event];
    event.returned = event.returned || event.gone_by.has_value();
    event.state = state;
    event.gone_by.reset();
    // Its last death has not happened.
    const auto above = std::upper_bound(dead_.begin(), dead_.end(), row.id.value,
                                        [](std::int64_t value, const Dead& dead) { return value < dead.id; });
    if (above != dead_.begin() && std::prev(above)->id == row.id.value) dead_.erase(std::prev(above));
}

void PostgresModel::take_back(Undo undo) {
    const auto lose = [&](const MessageRow& row, EventHistory::State state) {
        history_[row.event].state = state;
        history_[row.event].gone_at = true_now_;
    };
    switch (undo.kind) {
        case Undo::Kind::statement:
            for (const MessageRow& row : undo.removed) put_back(row, EventHistory::State::committed);
            if (undo.fleet) fleet_ = *std::move(undo.fleet);
            if (undo.operators) operators_ = *std::move(undo.operators);
            dead_letters_.resize(undo.dead_letters);
            break;
        case Undo::Kind::commit:
            for (const RowId id : undo.inserted) {
                const auto row = position(id);
                lose(*row, EventHistory::State::lost_by_failover);
                messages_.erase(row);
            }
            break;
        case Undo::Kind::requeue:
            for (const RowId id : undo.inserted) messages_.erase(position(id));
            dead_letters_ = std::move(undo.letters);
            for (const DeadLetter& letter : dead_letters_) {
                history_[letter.row.event].row = letter.row.id;
                history_[letter.row.event].state = EventHistory::State::buried;
            }
            break;
        case Undo::Kind::prepare:
            for (const MessageRow& row : messages_)
                if (row.writer == undo.writer_id) lose(row, EventHistory::State::rolled_back);
            std::erase_if(messages_, [&](const MessageRow& row) { return row.writer == undo.writer_id; });
            writers_.erase(undo.writer_id);
            break;
        case Undo::Kind::commit_prepared:
            for (const RowId id : undo.inserted) {
                position(id)->writer = undo.writer_id;
                lose(*position(id), EventHistory::State::open);
            }
            writers_[undo.writer_id] = undo.writer;
            writers_[undo.writer_id].renamed = true;
            break;
        case Undo::Kind::rollback_prepared:
            for (const MessageRow& row : undo.removed) put_back(row, EventHistory::State::open);
            writers_[undo.writer_id] = undo.writer;
            writers_[undo.writer_id].renamed = true;
            break;
    }
    highest_id_ = undo.highest_id;
}

}  // namespace outbox::sim
