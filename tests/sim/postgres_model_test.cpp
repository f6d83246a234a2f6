// What the model has that no case can show on a real server.
#include "sim/postgres_model.hpp"

#include <doctest/doctest.h>

namespace outbox::sim {

namespace {

using namespace std::chrono_literals;
using State = EventHistory::State;

const WorkerName one{.id = {1}, .host = 1, .pid = 1};

class World {
public:
    explicit World() { session = open(one); }

    SessionId open(const WorkerName& worker) {
        const SessionId opened = model.connect(worker);
        model.execute(opened);
        model.take_answer(opened, topics);
        return opened;
    }
    RowId insert(const NewRow& row = {}) {
        const WriterId writer = model.begin();
        const RowId id = model.insert(writer, row);
        model.commit(writer);
        return id;
    }
    PostgresAnswer ask(const Action& action) {
        model.send(session, action, topics, model.true_now());
        while (model.execute(session)) {
        }
        return std::move(*model.take_answer(session, topics));
    }
    std::uint64_t examined(RowId after) {
        ReadRows read;
        read.after = after;
        read.upto = no_row;
        read.lanes = LaneSet::all();
        read.limit = 1000;
        return ask(read).examined;
    }
    void remove(RowId id) { ask(DeleteRows{std::vector{id}, {}}); }

    Topics topics{{"*"}, 1};
    PostgresModel model;
    SessionId session = 0;
};

}  // namespace

TEST_CASE("a read walks dead rows while somebody's snapshot keeps them, and only those after where it begins") {
    World world;
    for (int i = 0; i < 10; ++i) world.insert();
    const ReaderId reader = world.model.open_reader();
    for (std::int64_t id = 1; id <= 9; ++id) world.remove(RowId{id});
    world.model.vacuum();
    CHECK(world.examined(RowId{0}) == 10);
    CHECK(world.examined(RowId{9}) == 1);
    CHECK(world.examined(RowId{5}) == 5);
    world.model.close_reader(reader);
    CHECK(world.examined(RowId{0}) == 10);
    world.model.vacuum();
    CHECK(world.examined(RowId{0}) == 1);
}

TEST_CASE("an open writer keeps dead rows too, and rows that were rolled back are nobody's") {
    World world;
    world.insert();
    const WriterId open = world.model.begin();
    world.model.insert(open, {});
    world.remove(RowId{1});
    world.model.vacuum();
    CHECK(world.model.dead_rows() == 1);
    world.model.rollback(open);
    CHECK(world.model.dead_rows() == 2);
    world.model.vacuum();
    CHECK(world.model.dead_rows() == 0);
}

TEST_CASE("what reached the server before the cut may still take effect, and nobody hears of it") {
    World world;
    for (int i = 0; i < 3; ++i) world.insert();
    for (std::int64_t id = 1; id <= 3; ++id)
        world.model.send(world.session, DeleteRows{std::vector{RowId{id}}, {}}, world.topics, {});
    REQUIRE(world.model.execute(world.session));
    world.model.cut(world.session, 1);
    CHECK(world.model.messages().size() == 2);
    CHECK(world.model.execute(world.session));
    CHECK_FALSE(world.model.execute(world.session));
    CHECK(world.model.messages().size() == 1);
    CHECK_FALSE(world.model.take_answer(world.session, world.topics));
    CHECK(world.model.history()[2].gone_by == world.session);
}

TEST_CASE("writers may come between the two statements of a probe") {
    World world;
    world.model.send(world.session, Probe{}, world.topics, {});
    REQUIRE(world.model.execute(world.session));
    const WriterId writer = world.model.begin();
    world.model.insert(writer, {});
    REQUIRE(world.model.execute(world.session));
    const auto answer = world.model.take_answer(world.session, world.topics);
    const auto& probe = std::get<ProbeAnswered>(answer->event);
    CHECK(probe.high == RowId{0});
    CHECK(probe.holders.size() == 1);
}

TEST_CASE("a failover loses the last commits, whatever they were, and ids are drawn again") {
    World world;
    world.insert();
    const RowId deleted = world.insert();
    world.ask(RenewLeases{});
    const RowId lost = world.insert();
    world.remove(deleted);
    world.ask(AcquireLanes{});
    world.model.failover(3);
    CHECK_FALSE(world.model.connected(world.session));
    CHECK(world.model.messages().size() == 2);
    CHECK(world.model.history()[2].state == State::committed);
    CHECK(world.model.history()[2].returned);
    CHECK(world.model.history()[3].state == State::lost_by_failover);
    CHECK_FALSE(world.model.fleet().lanes[0].owner.has_value());
    CHECK(world.model.fleet().workers.size() == 1);
    CHECK(world.insert() == lost);
    CHECK(world.model.find(lost)->event == 4);
}

TEST_CASE("a failover may bring a prepared transaction back that had ended, or lose one") {
    World world;
    const WriterId kept = world.model.begin();
    world.model.insert(kept, {});
    world.model.prepare(kept);
    world.model.commit(kept);
    const WriterId gone = world.model.begin();
    world.model.insert(gone, {});
    world.model.prepare(gone);
    world.model.failover(2);
    CHECK(world.model.writers(true) == std::vector{kept});
    REQUIRE(world.model.messages().size() == 1);
    CHECK(world.model.messages()[0].writer == kept);
    CHECK(world.model.history()[1].state == State::open);
    CHECK(world.model.history()[2].state == State::rolled_back);
    world.model.commit(kept);
    CHECK(world.model.history()[1].state == State::committed);
}

TEST_CASE("virtual transactions are counted from the server's start, so that their names come again") {
    World world;
    const auto holder = [&] {
        world.session = world.open(one);
        return std::get<ProbeAnswered>(world.ask(Probe{}).event).holders.front();
    };
    world.model.insert(world.model.begin(), {});
    const Holder before = holder();
    world.model.restart();
    CHECK(world.model.messages().empty());
    world.model.insert(world.model.begin(), {});
    CHECK(holder() == before);
}

TEST_CASE("only deletes and burials are tried again: another refused statement is the session's end") {
    World world;
    world.model.send(world.session, BuryRow{}, world.topics, {});
    CHECK(world.model.refuse(world.session));
    CHECK(world.model.connected(world.session));
    world.model.send(world.session, Probe{}, world.topics, {});
    CHECK_FALSE(world.model.refuse(world.session));
    CHECK_FALSE(world.model.connected(world.session));
}

TEST_CASE("what no relay may ask of a database is written down") {
    World world;
    CHECK(world.model.violations().empty());
    world.ask(DeleteRows{std::vector{RowId{1}}, std::vector<EventId>(2)});
    CHECK(world.model.violations().size() == 1);
    world.model.cut(world.session);
    world.model.send(world.session, Probe{}, world.topics, {});
    CHECK(world.model.violations().size() == 2);
}

}  // namespace outbox::sim
