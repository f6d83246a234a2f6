"""What is committed arrives as it was written; what is not committed never does."""
import os
import time

import pytest

from harness.verifier import assert_once_in_order
from harness.waiting import eventually


@pytest.fixture
def running(relay):
    return relay().start().wait_ready()


@pytest.fixture
def writer(database):
    return database.writer()


def test_a_committed_row_arrives_with_its_id_and_leaves_the_table(running, database, writer, topic, consumer):
    before_ms = time.time() * 1000
    row = writer.publish(topic, "order-1", b'{"state": "placed"}', {"content-type": "application/json"})
    (record,) = consumer.wait_for(topic, 1)
    assert (record.key, record.payload) == (b"order-1", b'{"state": "placed"}')
    assert record.event_id == row.event_id
    assert record.header("content-type") == "application/json"
    assert record.header("created_at")
    assert abs(record.timestamp_ms - before_ms) < 60_000
    eventually(lambda: database.backlog() == 0)
    assert running.metric("outbox_messages_delivered_total") == 1
    assert running.stop() == 0


def test_rows_committed_before_the_relay_started_arrive(relay, database, writer, topic, consumer):
    for serial in range(500):
        writer.insert(topic, f"key-{serial % 7}", b"%d" % serial)
    writer.commit()
    relay().start().wait_ready()
    assert_once_in_order(writer.committed, consumer.wait_for(topic, 500))
    eventually(lambda: database.backlog() == 0)


@pytest.mark.usefixtures("running")
def test_publish_works_for_a_role_that_may_do_nothing_else(database, topic, consumer):
    with database.connect("outbox_app").cursor() as cursor:
        cursor.execute("SELECT outbox.publish(%s, 'k', '{\"a\": 1}'::jsonb)::text", (topic,))
        (event_id,) = cursor.fetchone()
    (record,) = consumer.wait_for(topic, 1)
    assert record.event_id == event_id
    assert record.payload.replace(b" ", b"") == b'{"a":1}'


@pytest.mark.usefixtures("running")
def test_null_key_tombstone_and_empty_payload_stay_what_they_are(writer, topic, consumer):
    without_key = writer.publish(topic, None, b"no key")
    tombstone = writer.publish(topic, "gone", None)
    empty = writer.publish(topic, "empty", b"")
    empty_key = writer.publish(topic, "", b"empty key")
    records = {record.event_id: record for record in consumer.wait_for(topic, 4)}
    assert (records[without_key.event_id].key, records[without_key.event_id].payload) == (None, b"no key")
    assert (records[tombstone.event_id].key, records[tombstone.event_id].payload) == (b"gone", None)
    assert (records[empty.event_id].key, records[empty.event_id].payload) == (b"empty", b"")
    assert (records[empty_key.event_id].key, records[empty_key.event_id].payload) == (b"", b"empty key")


@pytest.mark.usefixtures("running")
def test_every_byte_of_a_payload_and_every_character_of_key_and_headers_survives(writer, topic, consumer):
    payload = bytes(range(256)) * 40 + os.urandom(5000)
    headers = {"größe": "zwölf", "日本": "語 \U0001f680", "quote": 'a"b\\c\nd\te', "empty": ""}
    writer.publish(topic, "schlüssel \U0001f511\n\t", payload, headers)
    (record,) = consumer.wait_for(topic, 1)
    assert record.payload == payload
    assert record.key == "schlüssel \U0001f511\n\t".encode()
    assert {name: record.header(name) for name in headers} == headers


@pytest.mark.usefixtures("running")
def test_what_is_rolled_back_is_never_published(database, writer, topic, consumer):
    for serial in range(60):
        writer.insert(topic, f"key-{serial % 3}", b"%d" % serial)
        if serial % 2:
            writer.rollback()
        else:
            writer.commit()
    consumer.wait_for(topic, 30)
    eventually(lambda: database.backlog() == 0)
    assert_once_in_order(writer.committed, consumer.read(topic))


@pytest.mark.usefixtures("running")
def test_a_rolled_back_savepoint_is_not_published(writer, topic, consumer):
    kept = writer.insert(topic, "k", b"kept")
    with writer.connection.cursor() as cursor:
        cursor.execute("SAVEPOINT s")
        writer.insert(topic, "k", b"undone")
        cursor.execute("ROLLBACK TO SAVEPOINT s")
    after = writer.insert(topic, "k", b"after")
    writer.commit()
    assert_once_in_order([kept, after], consumer.wait_for(topic, 2))


# --- sizes ---

_LIMIT = 100_000


@pytest.fixture
def small_topic(kafka, topic):
    name = f"{topic}-small"
    kafka.create_topic(name, partitions=1, max_message_bytes=_LIMIT)
    return name


@pytest.mark.usefixtures("running")
def test_a_payload_just_under_the_limit_arrives_and_one_above_is_a_dead_letter(database, writer, small_topic, consumer):
    under = writer.publish(small_topic, "k", os.urandom(_LIMIT - 1000))
    above = writer.publish(small_topic, "k", os.urandom(_LIMIT + 1000))
    after = writer.publish(small_topic, "k", b"the lane goes on")
    records = consumer.wait_for(small_topic, 2)
    assert_once_in_order([under, after], records)
    assert len(records[0].payload) == _LIMIT - 1000
    eventually(lambda: database.backlog() == 0)
    dead = database.execute("SELECT event_id::text, topic, key, octet_length(payload) FROM outbox.dead_letter")
    assert dead == [(above.event_id, small_topic, "k", _LIMIT + 1000)]


@pytest.mark.usefixtures("running")
def test_a_payload_just_under_the_brokers_own_limit_arrives(database, writer, topic, consumer):
    row = writer.publish(topic, "k", os.urandom(999_000))
    (record,) = consumer.wait_for(topic, 1)
    assert (record.event_id, len(record.payload)) == (row.event_id, 999_000)
    assert database.dead_letters() == 0


def test_rows_that_fit_alone_but_not_together_all_arrive(relay, database, writer, small_topic, consumer):
    for serial in range(20):
        writer.insert(small_topic, f"key-{serial % 3}", os.urandom(_LIMIT * 2 // 5))
    writer.commit()
    relay().start().wait_ready()
    eventually(lambda: database.backlog() == 0, timeout=60)
    assert database.dead_letters() == 0
    assert_once_in_order(writer.committed, consumer.read(small_topic))


# --- topics ---

@pytest.mark.usefixtures("running")
def test_a_topic_that_does_not_exist_yet_holds_up_only_its_own_rows(kafka, database, writer, topic, consumer):
    late = f"{topic}-late"
    waiting = [writer.publish(late, f"key-{serial}", b"waits") for serial in range(50)]
    others = [writer.publish(topic, f"key-{serial % 5}", b"goes") for serial in range(50)]
    assert_once_in_order(others, consumer.wait_for(topic, 50))
    eventually(lambda: database.backlog() == 50)
    assert database.dead_letters() == 0
    kafka.create_topic(late)
    # Clients look for a missing topic again only now and then, so this takes its time.
    assert_once_in_order(waiting, consumer.wait_for(late, 50, timeout=90))
    eventually(lambda: database.backlog() == 0)
    assert database.dead_letters() == 0


def test_a_topic_that_is_not_allowed_is_a_dead_letter_and_holds_up_nothing(relay, database, writer, topic, consumer):
    relay({"topics": {"allow": [topic]}}).start().wait_ready()
    refused = writer.publish("secrets", "k", b"x")
    allowed = writer.publish(topic, "k", b"y")
    assert_once_in_order([allowed], consumer.wait_for(topic, 1))
    eventually(lambda: database.backlog() == 0)
    assert database.execute("SELECT event_id::text FROM outbox.dead_letter") == [(refused.event_id,)]


# --- commits out of order ---

@pytest.mark.usefixtures("running")
def test_a_row_that_commits_after_later_rows_were_delivered_arrives(database, topic, consumer):
    early, late = database.writer(), database.writer()
    first = early.insert(topic, "a", b"first id, last commit")
    rows = [late.publish(topic, "b", b"%d" % serial) for serial in range(100)]
    assert first.id < rows[0].id
    assert_once_in_order(rows, consumer.wait_for(topic, 100))
    early.commit()
    assert_once_in_order([first, *rows], consumer.wait_for(topic, 101))
    eventually(lambda: database.backlog() == 0)


@pytest.mark.usefixtures("running")
def test_a_prepared_transaction_arrives_when_it_is_committed_and_not_before(database, writer, topic, consumer):
    other = database.writer()
    prepared = [writer.insert(topic, "a", b"%d" % serial) for serial in range(3)]
    writer.prepare(topic)
    rows = [other.publish(topic, "b", b"%d" % serial) for serial in range(50)]
    assert_once_in_order(rows, consumer.wait_for(topic, 50))
    writer.commit_prepared(topic)
    assert_once_in_order([*prepared, *rows], consumer.wait_for(topic, 53))
    eventually(lambda: database.backlog() == 0)


@pytest.mark.usefixtures("running")
def test_a_long_writer_holds_up_nobody_and_loses_nothing(database, load, topic, consumer):
    long_writer = database.writer()
    early = [long_writer.insert(topic, "long", b"early") for _ in range(10)]
    first = load(writers=2, keys=20, transactions=50, rows=20).finish()
    assert_once_in_order(first, consumer.wait_for(topic, len(first)))
    eventually(lambda: database.backlog() == 0)
    late = [long_writer.insert(topic, "long", b"late") for _ in range(10)]
    second = load(writers=2, keys=20, transactions=20, rows=20)
    long_writer.commit()
    committed = [*first, *second.finish()]
    records = consumer.wait_for(topic, len(committed) + 20, timeout=60)
    # Both loads use the same keys one after the other, so ids still say what the order is.
    assert_once_in_order([*committed, *early, *late], records)


def test_ten_thousand_keys_from_concurrent_writers_arrive_once_and_in_order(relay, database, load, topic, consumer):
    writers = load(writers=4, keys=10_000, transactions=100, rows=125)
    one = relay({"relay": {"workers": 2}}).start().wait_ready()
    committed = writers.finish()
    assert len({row.key for row in committed}) == 10_000
    records = consumer.wait_for(topic, len(committed), timeout=90)
    eventually(lambda: database.backlog() == 0)
    assert_once_in_order(committed, records)
    assert one.stop() == 0
    assert len(consumer.read(topic)) == len(committed)
