// What the statements' shapes promise: the plans, and that nothing is missed while many write.
#include <doctest/doctest.h>

#include <atomic>
#include <mutex>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "core/low_mark.hpp"
#include "postgres/statements.hpp"
#include "support/postgres_database.hpp"
#include "support/session_driver.hpp"

namespace outbox {

namespace {

using namespace std::chrono_literals;
using testing::boot_now;
using testing::PostgresDatabase;
using testing::SessionDriver;

const StatementText& text_of(Statement statement) {
    return statements[static_cast<std::size_t>(statement)];
}

std::string plan_of(Client& client, Statement statement, const std::string& parameters) {
    const StatementText& text = text_of(statement);
    client.execute("PREPARE " + std::string(text.name) + " AS " + text.sql);
    const Rows rows = client.execute("EXPLAIN EXECUTE " + std::string(text.name) + parameters);
    client.execute("DEALLOCATE " + std::string(text.name));
    std::string plan;
    for (std::size_t i = 0; i < rows.size(); ++i) plan += rows.text(i, 0) + "\n";
    return plan;
}

void check_plans(const PostgresDatabase& database) {
    Client client = database.connect();
    client.execute(text_of(Statement::settings).sql, {"9000", "3000"});
    for (const auto& [statement, parameters] : std::initializer_list<std::pair<Statement, std::string>>{
             {Statement::read, "(0, 9223372036854775807, -1, 1000, 1000000)"},
             {Statement::read_skipping, "(0, 9223372036854775807, -1, 1000, 1000000, 1, '\\x00', '{other}', '{7}')"},
             {Statement::read_topic, "(0, 9223372036854775807, -1, 1000, 1000000, 't')"},
             {Statement::lowest, "(0, 9223372036854775807, '{other}', '', '{7}')"},
             {Statement::claim, "(0, 9223372036854775807, '{other}', '', 1000000, '{7}', 1, '\\x00', 1000)"},
             {Statement::delete_places, "('\\x01', 1, 1, '{\"(0,1)\"}')"},
             {Statement::delete_stretch, "('\\x01', 1, 1, '(0,1)', '(0,1)')"},
             {Statement::delete_ids, "('{1,2,3}')"},
             {Statement::delete_unlocked, "('{1}', '{00000000-0000-0000-0000-000000000000}')"},
             {Statement::delete_events, "('{1}', '{00000000-0000-0000-0000-000000000000}')"},
             {Statement::read_noted,
              "(0, 9223372036854775807, -1, 64, 1000000, '00000000-0000-0000-0000-000000000001')"},
             {Statement::block, "(1, '00000000-0000-0000-0000-000000000000', 'X', 'x')"},
             {Statement::bury, "(1, '00000000-0000-0000-0000-000000000000', 'X', 'x')"},
         }) {
        const std::string plan = plan_of(client, statement, parameters);
        CAPTURE(plan);
        const bool at_places = statement == Statement::delete_places;
        const bool stretch = statement == Statement::delete_stretch;
        if (stretch && client.server_version() < 140'000) continue;
        CHECK(plan.find(at_places ? "Tid Scan on message"
                        : stretch ? "Tid Range Scan on message"
                                  : "Index Scan using message_pkey on message") != std::string::npos);
        CHECK(plan.find(at_places || stretch ? "TID Cond: (" : "Index Cond: (") != std::string::npos);
        CHECK(plan.find("Seq Scan on message") == std::string::npos);
        CHECK(plan.find("Bitmap") == std::string::npos);
        CHECK(plan.find("Sort") == std::string::npos);
    }
}

// One of many: some transactions are short, some long, some roll back, some are prepared first.
class Writer {
public:
    Writer(const PostgresDatabase& database, unsigned number)
        : client_(database.connect()), name_(database.name() + "_" + std::to_string(number)), random_(number) {}

    void run(Instant until) {
        while (boot_now() < until) transact();
    }
    std::int64_t committed() const { return committed_; }

private:
    void transact() {
        const auto rows = static_cast<std::int64_t>(1 + random_() % 5);
        client_.execute("BEGIN");
        for (std::int64_t i = 0; i < rows; ++i) {
            client_.execute("INSERT INTO outbox.message (topic, key) VALUES ('t', $1)",
                            {std::to_string(random_() % 100)});
            pause();
        }
        const bool commit = random_() % 4 != 0;
        if (random_() % 4 == 0) {
            client_.execute("PREPARE TRANSACTION '" + name_ + "'");
            pause();
            client_.execute((commit ? "COMMIT PREPARED '" : "ROLLBACK PREPARED '") + name_ + "'");
        } else {
            client_.execute(commit ? "COMMIT" : "ROLLBACK");
        }
        if (commit) committed_ += rows;
    }
    void pause() {
        if (random_() % 8 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(random_() % 20));
    }

    Client client_;
    std::string name_;
    std::mt19937 random_;
    std::int64_t committed_ = 0;
};

// Reads as the relay does: what lies above the mark, less what is known already.
class Follower {
public:
    explicit Follower(const PostgresSettings& settings) : driver_(settings) {}

    void step() {
        if (mark_.probe_due(boot_now())) {
            mark_.probe_sent();
            const auto answer = driver_.ask<ProbeAnswered>(Probe{});
            mark_.probe_answered(answer.high, answer.holders, boot_now());
        }
        ReadRows read = SessionDriver::everything();
        read.after = mark_.low();
        read.limit = 50;
        read.known_base = RowId{read.after.value + 1};
        std::vector<std::uint8_t> known;
        for (auto id = seen_.upper_bound(read.after); id != seen_.end(); ++id) {
            const auto bit = static_cast<std::size_t>(id->value - read.known_base.value);
            if (known.size() <= bit / 8) known.resize(bit / 8 + 1, 0);
            known[bit / 8] = static_cast<std::uint8_t>(known[bit / 8] | (1U << bit % 8));
        }
        read.known = known;
        const auto rows = driver_.ask<RowsRead>(read).rows;
        for (const RowHead& head : rows) {
            CHECK(seen_.insert(head.id).second);
            CHECK(head.id > read.after);
        }
        mark_.rows_read(rows.empty() ? mark_.head() : rows.back().id, rows.size() == read.limit);
    }
    bool lags() const { return mark_.lags(); }
    RowId low() const { return mark_.low(); }
    std::int64_t seen() const { return static_cast<std::int64_t>(seen_.size()); }

private:
    SessionDriver driver_;
    LowMark mark_;
    std::set<RowId> seen_;
};

}  // namespace

TEST_CASE("the plans use the primary key and never sort, whatever the statistics say") {
    const PostgresDatabase database;
    Client client = database.connect();
    SUBCASE("of a table that was never analyzed") {}
    SUBCASE("of a table that was empty when it was analyzed") {
        client.execute("ANALYZE outbox.message");
        client.execute("INSERT INTO outbox.message (topic, key) SELECT 't', n::text FROM generate_series(1, 20000) n");
    }
    SUBCASE("of a table full of rows") {
        client.execute("INSERT INTO outbox.message (topic, key) SELECT 't', n::text FROM generate_series(1, 20000) n");
        client.execute("ANALYZE outbox.message");
    }
    SUBCASE("of a table that was full when it was analyzed") {
        client.execute("INSERT INTO outbox.message (topic, key) SELECT 't', n::text FROM generate_series(1, 20000) n");
        client.execute("ANALYZE outbox.message");
        client.execute("DELETE FROM outbox.message");
    }
    check_plans(database);
}

TEST_CASE("the session pins the plans with these settings") {
    const PostgresDatabase database;
    Client client = database.connect();
    // A trigger of the test's tells what the session's settings are while it deletes.
    client.execute_script(
        "CREATE TABLE public.seen (name text, setting text);"
        "CREATE FUNCTION public.look() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.seen SELECT "
        "name,"
        " setting FROM pg_settings WHERE name IN ('plan_cache_mode', 'enable_seqscan', 'enable_bitmapscan',"
        " 'enable_sort', 'jit', 'statement_timeout', 'idle_in_transaction_session_timeout'); RETURN NULL; END $$;"
        "CREATE TRIGGER look AFTER DELETE ON outbox.message EXECUTE FUNCTION public.look()");
    SessionDriver driver(database.settings());
    driver.ask<RowsDeleted>(DeleteRows{std::vector{RowId{1}}, {}});
    CHECK(client.execute("SELECT string_agg(name || '=' || setting, ' ' ORDER BY name) FROM public.seen").text(0, 0) ==
          "enable_bitmapscan=off enable_seqscan=off enable_sort=off idle_in_transaction_session_timeout=30000 jit=off "
          "plan_cache_mode=force_generic_plan statement_timeout=30000");
}

TEST_CASE("while ten writers commit, roll back and prepare, no row is missed") {
    const PostgresDatabase database;
    std::vector<std::unique_ptr<Writer>> writers;
    for (unsigned i = 0; i < 10; ++i) writers.push_back(std::make_unique<Writer>(database, i));
    Follower follower(database.settings());
    std::atomic<int> running{static_cast<int>(writers.size())};
    std::vector<std::jthread> threads;
    for (auto& writer : writers)
        threads.emplace_back([&, until = boot_now() + 3s] {
            writer->run(until);
            --running;
        });
    RowId early;  // where the mark was while there were still writers
    while (running > 0) {
        follower.step();
        early = follower.low();
    }
    threads.clear();
    const Instant give_up = boot_now() + 10s;
    do {
        follower.step();
        std::this_thread::sleep_for(1ms);
    } while (follower.lags() && boot_now() < give_up);

    std::int64_t committed = 0;
    for (const auto& writer : writers) committed += writer->committed();
    CHECK(committed > 100);
    CHECK(follower.seen() == committed);
    CHECK_FALSE(follower.lags());
    CHECK(early > RowId{0});  // it did move, so that it could have missed something
}

}  // namespace outbox
