#include "conformance/model_database.hpp"

#include <algorithm>
#include <sstream>

namespace outbox::conformance {

ModelDatabase::ModelDatabase() : model({"orders", "bills", "mails"}) {
    model.at(Instant(1000s));
}

Database::Session ModelDatabase::connect(int worker, Duration lease_ttl, int process) {
    const std::int32_t name = process == 0 ? worker : process;
    const sim::SessionId session = model.connect({worker_id(worker), name, name, lease_ttl});
    Topics& topics = topics_.emplace_back(std::vector<std::string>{"*"}, 1);
    for (const std::string_view topic : topic_names) topics.index_of(topic);
    if (receive(session).what != "opened") throw SessionEnded("the session did not open");
    return session;
}

// A little later than the statement before: no two times are equal, as on a server.
void ModelDatabase::send(Session session, const Action& action) {
    model.at(model.true_now() + 10us);
    model.send(static_cast<sim::SessionId>(session), action, topics_[session], model.true_now());
}

Reply ModelDatabase::receive(Session session) {
    const auto id = static_cast<sim::SessionId>(session);
    while (model.answers(id) == 0) {
        if (!model.connected(id) || model.waiting(id) == 0) throw SessionEnded("no answer will come");
        if (!model.execute(id) && !model.refuse(id)) throw SessionEnded("a statement waited for a lock in vain");
    }
    const auto answer = model.take_answer(id, topics_[session]);
    Reply reply = reply_of(answer->event);
    reply.deleted = answer->deleted;
    for (const Holder& holder : reply.holders) reply.holding.push_back(model.writer_of(holder));
    std::sort(reply.holding.begin(), reply.holding.end());
    return reply;
}

// Half of what was sent reaches the server.
void ModelDatabase::cut(Session session) {
    const auto id = static_cast<sim::SessionId>(session);
    model.cut(id, (model.waiting(id) + 1) / 2);
    while (model.execute(id)) {
    }
}

Database::Writer ModelDatabase::begin() {
    return model.begin();
}

RowId ModelDatabase::insert(Writer writer, const NewEvent& event) {
    return model.insert(writer, {model.topic_named(event.topic), event.key, event.payload_bytes, event.long_key});
}

void ModelDatabase::unblock(std::string_view topic, std::int32_t key) {
    model.unblock(model.topic_named(topic), "k" + std::to_string(key));
}

std::vector<std::int64_t> ModelDatabase::rows() {
    std::vector<std::int64_t> ids;
    for (const sim::MessageRow& row : model.messages())
        if (row.writer == 0) ids.push_back(row.id.value);
    return ids;
}

EventId ModelDatabase::event_of(RowId id) {
    return sim::PostgresModel::event_id(model.find(id)->event);
}

std::vector<std::int64_t> ModelDatabase::dead_letters() {
    std::vector<std::int64_t> ids;
    for (const sim::DeadLetter& letter : model.dead_letters()) ids.push_back(letter.row.id.value);
    return ids;
}

LaneState ModelDatabase::lane(std::uint8_t lane) {
    const sim::LaneRow& row = model.fleet().lanes[lane];
    return {row.owner ? row.owner->back() : 0, row.epoch};
}

std::vector<int> ModelDatabase::workers() {
    std::vector<int> workers;
    for (const sim::WorkerRow& worker : model.fleet().workers) workers.push_back(worker.id.back());
    std::sort(workers.begin(), workers.end());
    return workers;
}

std::string ModelDatabase::dump() {
    std::ostringstream out;
    out << "rows";
    for (const std::int64_t id : rows()) out << ' ' << id;
    out << "\ndead letters";
    for (const sim::DeadLetter& letter : model.dead_letters()) out << ' ' << letter.row.id.value << ':' << letter.code;
    out << "\nlanes";
    for (std::uint8_t n = 0; n < lane_count; ++n) out << ' ' << lane(n).worker << ':' << lane(n).epoch;
    out << "\nworkers";
    for (const int worker : workers()) {
        const auto row = std::find_if(model.fleet().workers.begin(), model.fleet().workers.end(),
                                      [&](const sim::WorkerRow& one) { return one.id == worker_id(worker); });
        out << ' ' << worker << ':' << row->in_flight_rows << ':' << row->control_revision << ':'
            << row->attempting_from.value_or(RowId{-1}).value << ':' << row->attempting_upto.value_or(RowId{-1}).value;
    }
    return out.str();
}

}  // namespace outbox::conformance
