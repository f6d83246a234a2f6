// World's writers: transactions that lock their keys, insert, and end one way or another.
#include <algorithm>
#include <utility>

#include "sim/world_writing.hpp"

namespace outbox::sim {

using namespace std::chrono_literals;

namespace {

constexpr Duration lock_patience = 3ms;

}  // namespace

void World::begin(const Transaction& transaction) {
    auto writing = std::make_shared<Writing>();
    writing->plan = &transaction;
    writing_.push_back(writing);
    lock_keys(writing);
}

void World::lock_keys(const std::shared_ptr<Writing>& writing) {
    const auto is_taken = [&](const PlannedRow& row) {
        return row.key >= 0 && key_locks_.contains({row.topic, row.key});
    };
    const auto& rows = writing->plan->rows;
    if (database_.down || std::any_of(rows.begin(), rows.end(), is_taken))
        return schedule_.in(lock_patience, [this, writing] { lock_keys(writing); });
    for (const PlannedRow& row : rows)
        if (row.key >= 0) key_locks_[{row.topic, row.key}] = writing.get();
    postgres_.at(schedule_.now());
    writing->writer = postgres_.begin();
    insert_next(writing);
}

void World::insert_next(const std::shared_ptr<Writing>& writing) {
    if (!postgres_.is_open(writing->writer)) return unlock_keys(*writing);
    if (messages_locked_) return schedule_.in(lock_patience, [this, writing] { insert_next(writing); });
    const Transaction& plan = *writing->plan;
    const PlannedRow& row = plan.rows[writing->inserted];
    postgres_.at(schedule_.now());
    const RowId id = postgres_.insert(writing->writer,
                                      {static_cast<TopicName>(row.topic), row.key, row.payload_bytes, row.long_key});
    ledger_.inserted(postgres_.find(id)->event, row.poison, may_be_buried(row));
    if (trace_ != nullptr && calm_ == false)
        trace("writer " + std::to_string(writing->writer) + " draws id " + std::to_string(id.value) + ", " +
              scenario_.topics[row.topic].name + ", key " + std::to_string(row.key) + (row.poison ? ", poison" : ""));
    if (++writing->inserted < plan.rows.size())
        return schedule_.in(plan.lasts / static_cast<std::int64_t>(plan.rows.size()),
                            [this, writing] { insert_next(writing); });
    schedule_.in(plan.lasts / static_cast<std::int64_t>(plan.rows.size()), [this, writing] {
        if (!postgres_.is_open(writing->writer)) return unlock_keys(*writing);
        if (writing->plan->end == Transaction::End::commit || writing->plan->end == Transaction::End::roll_back)
            return finish(writing);
        postgres_.at(schedule_.now());
        postgres_.prepare(writing->writer);
        writing->prepared = true;
        trace("writer " + std::to_string(writing->writer) + " prepares");
        schedule_.in(writing->plan->prepared_for, [this, writing] { finish(writing); });
    });
}

void World::finish(const std::shared_ptr<Writing>& writing) {
    if (!postgres_.is_open(writing->writer)) return unlock_keys(*writing);
    if (database_.down) return schedule_.in(lock_patience, [this, writing] { finish(writing); });
    const bool commits =
        writing->plan->end == Transaction::End::commit || writing->plan->end == Transaction::End::prepare_and_commit;
    trace("writer " + std::to_string(writing->writer) + (commits ? " commits" : " rolls back"));
    postgres_.at(schedule_.now());
    if (commits)
        postgres_.commit(writing->writer);
    else
        postgres_.rollback(writing->writer);
    unlock_keys(*writing);
}

void World::unlock_keys(const Writing& writing) {
    std::erase_if(key_locks_, [&](const auto& lock) { return lock.second == &writing; });
}

// The server is gone: open transactions are, prepared ones come back, with their locks, and so may one that had ended.
void World::sort_writers_out() {
    const std::vector<WriterId> prepared = postgres_.writers(true);
    key_locks_.clear();
    for (const auto& writing : writing_) {
        if (std::find(prepared.begin(), prepared.end(), writing->writer) == prepared.end()) continue;
        for (const PlannedRow& row : writing->plan->rows)
            if (row.key >= 0) key_locks_[{row.topic, row.key}] = writing.get();
        schedule_.in(writing->plan->prepared_for, [this, writing] { finish(writing); });
    }
}

bool World::may_be_buried(const PlannedRow& row) const {
    const PlannedTopic& topic = scenario_.topics[row.topic];
    // Key and what a record takes besides, at most; and limits may be halved.
    const std::uint32_t bytes = row.payload_bytes + 200;
    return row.poison || topic.name == "forbidden" || row.payload_bytes + 20 > scenario_.message_bytes_max ||
           bytes > topic.batch_bytes_max / 2 || (topic.compacted && row.key < 0);
}

}  // namespace outbox::sim
