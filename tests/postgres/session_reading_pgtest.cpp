// Reading, probing, deleting and burying.
#include <doctest/doctest.h>

#include <random>
#include <set>
#include <string>
#include <vector>

#include "support/postgres_database.hpp"
#include "support/session_driver.hpp"

namespace outbox {

namespace {

using testing::boot_now;
using testing::PostgresDatabase;
using testing::SessionDriver;

void insert(Client& client, int rows) {
    client.execute("INSERT INTO outbox.message (topic, key) SELECT 't', 'k' || n FROM generate_series(1, $1::int) n",
                   {std::to_string(rows)});
}

std::int64_t number(Client& client, const std::string& sql) {
    return client.execute(sql).integer(0, 0);
}

std::vector<std::int64_t> read_ids(SessionDriver& driver, const ReadRows& action) {
    std::vector<std::int64_t> ids;
    for (const RowHead& head : driver.ask<RowsRead>(action).rows) ids.push_back(head.id.value);
    CHECK(driver.last.rows == ids.size());
    return ids;
}

std::vector<std::int64_t> ids_in_table(Client& client, const std::string& condition) {
    const Rows rows = client.execute("SELECT id FROM outbox.message WHERE " + condition + " ORDER BY id");
    std::vector<std::int64_t> ids;
    for (std::size_t i = 0; i < rows.size(); ++i) ids.push_back(rows.integer(i, 0));
    return ids;
}

std::vector<Holder> holders(SessionDriver& driver) {
    const auto answer = driver.ask<ProbeAnswered>(Probe{});
    return {answer.holders.begin(), answer.holders.end()};
}

}  // namespace

TEST_CASE("a large answer that has come is taken off the socket in one go") {
    const PostgresDatabase database;
    Client client = database.connect();
    insert(client, 1000);  // more than libpq's buffer takes, and less than a socket's
    SessionDriver driver(database.settings());
    ReadRows everything = SessionDriver::everything();
    everything.limit = 1000;
    driver.ask<RowsRead>(everything);  // from now on answers are thought to be large
    const auto last_statement = [&](const std::string& column) {
        return client
            .execute("SELECT " + column +
                     " FROM pg_stat_activity WHERE application_name = 'outbox-relay' AND datname = current_database()")
            .text(0, 0);
    };
    const std::string begun(last_statement("query_start"));
    driver.send(everything);
    while (last_statement("query_start") == begun || last_statement("state") != "idle") continue;
    driver.session.pump(boot_now());
    const auto answer = driver.session.next_answer(driver.topics, boot_now());
    REQUIRE(answer);
    CHECK(std::get<RowsRead>(answer->event).rows.size() == 1000);
}

TEST_CASE("every column of a row is read exactly") {
    const PostgresDatabase database;
    Client client = database.connect();
    client.execute(
        "INSERT INTO outbox.message (id, event_id, topic, key, payload, headers, created_at) OVERRIDING SYSTEM VALUE "
        "VALUES (1, '00010203-0405-0607-0809-0a0b0c0d0eff', 'first.topic', 'schlüssel 日本 😀',"
        "  (SELECT string_agg(set_byte('\\x00', 0, n), ''::bytea ORDER BY n) FROM generate_series(0, 255) n),"
        "  '{\"trace\": \"ü😀\", \"quote\": \"\\\"\\\\\"}', '2026-11-21 09:00:00.123456+00'),"
        "(4611686018427387904, DEFAULT, 'second', NULL, NULL, '{}', 'infinity'),"
        "(9223372036854775806, DEFAULT, 'first.topic', '', '', '{}', '-infinity')");
    SessionDriver driver(database.settings());
    const auto rows = driver.ask<RowsRead>(SessionDriver::everything()).rows;
    REQUIRE(rows.size() == 3);
    const RowBatch& batch = driver.session.rows();

    const EventId event_id{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 255};
    const RowContent& first = batch.content(0);
    std::string all_bytes;
    for (int byte = 0; byte < 256; ++byte) all_bytes.push_back(static_cast<char>(byte));
    CHECK(rows[0].id == RowId{1});
    CHECK(rows[0].event_id == event_id);
    CHECK(rows[0].created_at_us == 848566800123456);
    CHECK(rows[0].bytes == first.key->size() + 256 + first.headers.size());
    CHECK_FALSE(rows[0].payload_withheld);
    CHECK(rows[0].lane == number(client, "SELECT lane FROM outbox.message WHERE id = 1"));
    CHECK(first.topic == "first.topic");
    CHECK(first.key == "schlüssel 日本 😀");
    CHECK(first.payload == all_bytes);
    CHECK(first.headers == R"({"quote": "\"\\", "trace": "ü😀"})");
    CHECK(first.event_id == event_id);
    CHECK(first.created_at_us == 848566800123456);

    CHECK(rows[1].id == RowId{std::int64_t{1} << 62});
    CHECK(rows[1].created_at_us == INT64_MAX);
    CHECK(rows[1].bytes == 2);
    CHECK(rows[1].lane == 0);
    CHECK_FALSE(batch.content(1).key.has_value());
    CHECK_FALSE(batch.content(1).payload.has_value());
    CHECK(batch.content(1).headers == "{}");

    CHECK(rows[2].id == RowId{INT64_MAX - 1});
    CHECK(rows[2].created_at_us == INT64_MIN);
    CHECK(batch.content(2).key == "");
    CHECK(batch.content(2).payload == "");
    CHECK(rows[2].topic == rows[0].topic);
    CHECK(rows[1].topic != rows[0].topic);
    CHECK(driver.topics[rows[1].topic].name == "second");
}

TEST_CASE("a read keeps to its range, its lanes, its limit and the order of ids") {
    const PostgresDatabase database;
    Client client = database.connect();
    insert(client, 500);
    SessionDriver driver(database.settings());
    ReadRows read = SessionDriver::everything();
    CHECK(read_ids(driver, read) == ids_in_table(client, "true"));
    read.after = RowId{100};
    read.upto = RowId{200};
    CHECK(read_ids(driver, read) == ids_in_table(client, "id BETWEEN 101 AND 200"));
    read.limit = 7;
    CHECK(read_ids(driver, read) == ids_in_table(client, "id BETWEEN 101 AND 107"));
    read = SessionDriver::everything();
    for (std::uint8_t lane = 0; lane < lane_count; ++lane) {
        read.lanes = LaneSet::only(lane);
        CHECK(read_ids(driver, read) == ids_in_table(client, "lane = " + std::to_string(lane)));
    }
    read.lanes = LaneSet::only(0) | LaneSet::only(31) | LaneSet::only(63);
    read.after = RowId{50};
    CHECK(read_ids(driver, read) == ids_in_table(client, "lane IN (0, 31, 63) AND id > 50"));
    read.lanes = LaneSet{};
    CHECK(read_ids(driver, read).empty());
    CHECK(driver.session.rows().heads().empty());
}

TEST_CASE("a read of one topic returns that topic's rows alone") {
    const PostgresDatabase database;
    Client client = database.connect();
    client.execute(
        "INSERT INTO outbox.message (topic, key) SELECT 't' || n % 3, n::text FROM generate_series(1, 300) n");
    SessionDriver driver(database.settings());
    ReadRows read = SessionDriver::everything();
    read.topic = driver.topics.index_of("t2");
    CHECK(read_ids(driver, read) == ids_in_table(client, "topic = 't2'"));
    read.after = RowId{30};
    read.upto = RowId{270};
    read.limit = 5;
    read.lanes = LaneSet(0xF0F0F0F0F0F0F0F0);
    CHECK(read_ids(driver, read) ==
          ids_in_table(client,
                       "id IN (SELECT id FROM outbox.message WHERE topic = 't2' AND id BETWEEN 31 AND 270 AND"
                       " lane & 4 = 4 ORDER BY id LIMIT 5)"));
    read.topic = driver.topics.index_of("absent");
    CHECK(read_ids(driver, read).empty());
}

TEST_CASE("a skipping read leaves out exactly the ids in the bitmap") {
    const PostgresDatabase database;
    Client client = database.connect();
    insert(client, 400);
    client.execute("DELETE FROM outbox.message WHERE id % 7 = 0");
    const std::vector<std::int64_t> present = ids_in_table(client, "true");
    SessionDriver driver(database.settings());
    std::mt19937 random(20240229);
    const auto below = [&](int bound) { return static_cast<int>(random() % static_cast<unsigned>(bound)); };
    for (int round = 0; round < 200; ++round) {
        CAPTURE(round);
        ReadRows read = SessionDriver::everything();
        read.after = RowId{below(300)};
        read.known_base = RowId{read.after.value + 1};
        read.limit = static_cast<std::uint32_t>(1 + below(400));
        std::vector<std::uint8_t> known(static_cast<std::size_t>(1 + below(30)), 0);  // may end before the rows do
        const int share = 1 + below(8);
        for (std::uint8_t& byte : known)
            for (unsigned bit = 0; bit < 8; ++bit)
                if (below(share) == 0) byte = static_cast<std::uint8_t>(byte | (1U << bit));
        read.known = known;
        std::vector<std::int64_t> expected;
        for (const std::int64_t id : present) {
            const auto bit = static_cast<std::size_t>(id - read.known_base.value);
            const bool skipped =
                id > read.after.value && bit / 8 < known.size() && ((unsigned{known[bit / 8]} >> bit % 8) & 1U) != 0;
            if (id > read.after.value && !skipped && expected.size() < read.limit) expected.push_back(id);
        }
        REQUIRE(read_ids(driver, read) == expected);
    }
}

TEST_CASE("a skipping read works at the largest ids and with the largest bitmap") {
    const PostgresDatabase database;
    Client client = database.connect();
    client.execute(
        "INSERT INTO outbox.message (id, topic) OVERRIDING SYSTEM VALUE VALUES (1, 't'), (1048576, 't'), (1048577, "
        "'t'),"
        " (9223372036854775805, 't'), (9223372036854775806, 't')");
    SessionDriver driver(database.settings());
    ReadRows read = SessionDriver::everything();
    std::vector<std::uint8_t> known(131072, 0xFF);  // the window's own bound: 1 << 20 bits
    read.known_base = RowId{1};
    read.known = known;
    CHECK(read_ids(driver, read) == std::vector<std::int64_t>{1048577, INT64_MAX - 2, INT64_MAX - 1});
    read.after = RowId{INT64_MAX - 3};
    read.known_base = RowId{INT64_MAX - 2};
    known.assign(1, 0x01);
    read.known = known;
    CHECK(read_ids(driver, read) == std::vector<std::int64_t>{INT64_MAX - 1});
}

TEST_CASE("a payload above the read's limit is withheld and its size comes along") {
    const PostgresDatabase database;
    Client client = database.connect();
    client.execute(
        "INSERT INTO outbox.message (topic, key, payload) SELECT 't', 'k', convert_to(repeat('x', n), 'UTF8')"
        " FROM unnest(ARRAY[999, 1000, 1001, 5000000]) n UNION ALL SELECT 't', 'k', NULL");
    SessionDriver driver(database.settings());
    ReadRows read = SessionDriver::everything();
    read.payload_bytes_max = 1000;
    const auto rows = driver.ask<RowsRead>(read).rows;
    REQUIRE(rows.size() == 5);
    const std::uint32_t sizes[] = {999, 1000, 1001, 5'000'000, 0};
    for (std::uint32_t i = 0; i < 5; ++i) {
        const bool withheld = sizes[i] > 1000;
        CHECK(rows[i].bytes == sizes[i] + 1 + 2);
        CHECK(rows[i].payload_withheld == withheld);
        CHECK(driver.session.rows().content(i).payload.has_value() == (!withheld && i != 4));
    }
    read.payload_bytes_max = UINT32_MAX;
    CHECK(driver.ask<RowsRead>(read).rows[3].bytes == 5'000'003);
    CHECK(driver.session.rows().content(3).payload == std::string(5'000'000, 'x'));
    read.payload_bytes_max = 0;
    CHECK(driver.ask<RowsRead>(read).rows[0].payload_withheld);
}

TEST_CASE("rows are streaming while a read is awaited that follows a large one, which brought all it might") {
    const PostgresDatabase database;
    Client client = database.connect();
    insert(client, 3000);
    SessionDriver driver(database.settings());
    const auto streams_after = [&](std::uint32_t limit) {
        ReadRows read = SessionDriver::everything();
        read.limit = limit;
        driver.ask<RowsRead>(read);
        CHECK_FALSE(driver.session.streaming(testing::boot_now()));  // nothing is awaited
        driver.send(Probe{});
        CHECK_FALSE(driver.session.streaming(testing::boot_now()));  // nothing large
        driver.expect<ProbeAnswered>();
        const Instant sent_at = testing::boot_now();
        driver.session.send(read, driver.topics, sent_at);
        const bool streams = driver.session.streaming(sent_at);
        CHECK_FALSE(
            driver.session.streaming(sent_at + std::chrono::milliseconds(100)));  // what is late is not streaming
        driver.expect<RowsRead>();
        return streams;
    };
    CHECK(streams_after(2000));
    CHECK_FALSE(streams_after(400));
    CHECK_FALSE(streams_after(5000));
    CHECK(streams_after(500));
}

TEST_CASE("a probe tells the last id drawn, committed or not") {
    const PostgresDatabase database;
    Client client = database.connect();
    SessionDriver driver(database.settings());
    CHECK(driver.ask<ProbeAnswered>(Probe{}).high == RowId{0});
    insert(client, 1);
    CHECK(driver.ask<ProbeAnswered>(Probe{}).high == RowId{1});
    client.execute("BEGIN");
    insert(client, 5);
    client.execute("ROLLBACK");
    CHECK(driver.ask<ProbeAnswered>(Probe{}).high == RowId{6});
    client.execute("SELECT setval('outbox.message_id_seq', 9223372036854775806)");
    CHECK(driver.ask<ProbeAnswered>(Probe{}).high == RowId{INT64_MAX - 1});
    client.execute("ALTER SEQUENCE outbox.message_id_seq RESTART WITH 500");
    CHECK(driver.ask<ProbeAnswered>(Probe{}).high == RowId{499});
}

TEST_CASE("a probe names open writers and prepared ones, not readers, and not itself") {
    const PostgresDatabase database;
    const PostgresDatabase elsewhere;
    Client writer = database.connect();
    Client reader = database.connect();
    Client foreign = elsewhere.connect();
    SessionDriver driver(database.settings());
    CHECK(holders(driver).empty());
    for (Client* client : {&reader, &foreign}) client->execute("BEGIN");
    reader.execute("SELECT count(*) FROM outbox.message");
    reader.execute("SELECT id FROM outbox.message FOR UPDATE");
    insert(foreign, 1);
    driver.ask<RowsDeleted>(DeleteRows{std::vector{RowId{1}}, {}});
    CHECK(holders(driver).empty());

    writer.execute("BEGIN");
    CHECK(holders(driver).empty());
    insert(writer, 1);
    const std::vector<Holder> first = holders(driver);
    REQUIRE(first.size() == 1);
    CHECK_FALSE(first[0].prepared);
    CHECK(holders(driver) == first);
    writer.execute("COMMIT");
    CHECK(holders(driver).empty());

    // The same backend's next transaction is another holder.
    writer.execute("BEGIN");
    insert(writer, 1);
    const std::vector<Holder> live = holders(driver);
    REQUIRE(live.size() == 1);
    CHECK_FALSE(live == first);
    const auto transaction = static_cast<std::uint64_t>(number(writer, "SELECT txid_current() & 4294967295"));
    writer.execute("PREPARE TRANSACTION 'probe_" + database.name() + "'");
    // Since the minor releases of late 2021 it keeps its virtual transaction id until the server restarts.
    const std::vector<Holder> prepared = holders(driver);
    CHECK((prepared == live || prepared == std::vector{Holder{transaction, true}}));
    writer.execute("BEGIN");
    insert(writer, 1);
    CHECK(holders(driver).size() == 2);
    writer.execute("COMMIT");
    CHECK(holders(driver) == prepared);
    writer.execute("COMMIT PREPARED 'probe_" + database.name() + "'");
    CHECK(holders(driver).empty());
}

TEST_CASE("a delete takes exactly the ids it names") {
    const PostgresDatabase database;
    Client client = database.connect();
    insert(client, 10);
    SessionDriver driver(database.settings());
    driver.ask<RowsDeleted>(DeleteRows{std::vector{RowId{2}, RowId{4}, RowId{99}, RowId{4}}, {}});
    CHECK(driver.last.rows == 2);
    CHECK(ids_in_table(client, "true") == std::vector<std::int64_t>{1, 3, 5, 6, 7, 8, 9, 10});
    driver.ask<RowsDeleted>(DeleteRows{});
    CHECK(driver.last.rows == 0);
}

TEST_CASE("a delete that names the events as well leaves an id that was issued again") {
    const PostgresDatabase database;
    Client client = database.connect();
    insert(client, 3);
    SessionDriver driver(database.settings());
    driver.ask<RowsRead>(SessionDriver::everything());
    std::vector<RowId> ids;
    std::vector<EventId> event_ids;
    for (const RowHead& head : driver.session.rows().heads()) {
        ids.push_back(head.id);
        event_ids.push_back(head.event_id);
    }
    client.execute("UPDATE outbox.message SET event_id = gen_random_uuid() WHERE id = 2");
    std::swap(ids[0], ids[2]);
    std::swap(event_ids[0], event_ids[2]);
    driver.ask<RowsDeleted>(DeleteRows{ids, event_ids});
    CHECK(driver.last.rows == 2);
    CHECK(ids_in_table(client, "true") == std::vector<std::int64_t>{2});
}

TEST_CASE("a buried row moves whole and with the reason, and only the row that was meant") {
    const PostgresDatabase database;
    Client client = database.connect();
    client.execute(
        "INSERT INTO outbox.message (topic, key, payload, headers) VALUES ('t', 'k', '\\x00ff', '{\"a\": \"b\"}'),"
        " ('t', NULL, NULL, '{}')");
    client.execute("CREATE TABLE public.before AS SELECT * FROM outbox.message");
    SessionDriver driver(database.settings());
    driver.ask<RowsRead>(SessionDriver::everything());
    const std::vector<RowHead> heads(driver.session.rows().heads().begin(), driver.session.rows().heads().end());
    REQUIRE(heads.size() == 2);
    driver.ask<RowsBuried>(BuryRow{heads[0].id, heads[1].event_id, "X", "another event"});
    CHECK(number(client, "SELECT count(*) FROM outbox.dead_letter") == 0);
    for (const RowHead& head : heads)
        driver.ask<RowsBuried>(BuryRow{head.id, head.event_id, "MSG_SIZE_TOO_LARGE", "it's \"too\" large"});
    driver.ask<RowsBuried>(BuryRow{heads[0].id, heads[0].event_id, "X", "a second time"});
    CHECK(number(client, "SELECT count(*) FROM outbox.message") == 0);
    CHECK(number(client, "SELECT count(*) FROM outbox.dead_letter") == 2);
    CHECK(number(client,
                 "SELECT count(*) FROM outbox.dead_letter d JOIN public.before b ON b.id = d.message_id AND"
                 " b.event_id = d.event_id AND b.topic = d.topic AND b.key IS NOT DISTINCT FROM d.key AND"
                 " b.payload IS NOT DISTINCT FROM d.payload AND b.headers = d.headers AND b.created_at = d.created_at"
                 " WHERE error_code = 'MSG_SIZE_TOO_LARGE' AND error_text = 'it''s \"too\" large' AND attempts = 1") ==
          2);
}

TEST_CASE("a row whose burial fails stays in the outbox") {
    const PostgresDatabase database;
    Client client = database.connect();
    insert(client, 1);
    client.execute("ALTER TABLE outbox.dead_letter ADD CONSTRAINT never CHECK (false)");
    SessionDriver driver(database.settings());
    const RowHead head = driver.ask<RowsRead>(SessionDriver::everything()).rows.front();
    CHECK_THROWS_AS(driver.ask<RowsBuried>(BuryRow{head.id, head.event_id, "X", "x"}), PostgresError);
    CHECK(ids_in_table(client, "true") == std::vector<std::int64_t>{1});
}

}  // namespace outbox
