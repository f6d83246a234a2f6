"""What running relays make of the operator's commands."""
import time

import pytest

from harness.verifier import assert_once_in_order
from harness.waiting import eventually

_WHY = ("--reason", "a test")


def deleted(*relays):
    return sum(one.metric("outbox_rows_deleted_total") for one in relays)


def succeeds(relay, *arguments):
    done = relay.command(*arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def share(database, replicas):
    """Waits until that many workers own all lanes between them."""
    eventually(lambda: database.execute("SELECT count(DISTINCT owner), count(*) FROM outbox.lane WHERE owner IS NOT NULL"
                                        " AND expires_at > clock_timestamp()") == [(replicas, 64)], 20, f"{replicas} share")


def changed_at(database, topic="*"):
    return database.execute("SELECT extract(epoch FROM changed_at)::float8 FROM outbox.control WHERE topic = %s",
                            (topic,))[0][0]


def published_after(records, seconds):
    return [record for record in records if record.timestamp_ms / 1000 > seconds]


def insert(database, topic, rows, keys=200):
    writer = database.writer()
    writer.insert_many([(topic, f"key-{number % keys}", b"{}", None) for number in range(rows)])
    writer.commit()
    return writer.committed


@pytest.fixture
def two(relay, database):
    relays = [one.wait_ready() for one in [relay().start() for _ in range(2)]]
    share(database, 2)
    return relays


def test_a_pause_stops_every_replica_within_a_second_and_outlasts_them(two, database, load, topic, consumer):
    writers = load(writers=2, keys=200, rows=10, rows_per_second=1000)
    eventually(lambda: min(deleted(one) for one in two) > 500)
    assert "2 of 2 workers confirmed" in succeeds(two[0], "pause", *_WHY)
    paused = changed_at(database)
    backlog = database.backlog()
    eventually(lambda: database.backlog() > backlog + 1500)  # a good second of it
    before = consumer.read(topic)
    assert published_after(before, paused + 1) == []

    assert [one.stop() for one in two] == [0, 0]
    for one in two:
        one.start()
    share(database, 2)
    backlog = database.backlog()
    eventually(lambda: database.backlog() > backlog + 1000)
    assert len(consumer.read(topic)) == len(before)
    eventually(lambda: [one.metric("outbox_paused") for one in two] == [1, 1])  # sampled

    assert "2 of 2 workers confirmed" in succeeds(two[0], "resume")
    committed = writers.finish()
    eventually(lambda: database.backlog() == 0, timeout=60)
    assert [one.stop() for one in two] == [0, 0]
    assert_once_in_order(committed, consumer.read(topic))


def test_one_topic_is_paused_and_another_flows(two, database, kafka, topic, consumer):
    other = topic + "-other"
    kafka.create_topic(other)
    succeeds(two[0], "pause", topic, *_WHY)
    waiting = insert(database, topic, 2000)  # in front
    flowing = insert(database, other, 2000)
    assert_once_in_order(flowing, consumer.wait_for(other, 2000))
    eventually(lambda: database.backlog() == 2000)
    assert consumer.read(topic) == []
    eventually(lambda: two[0].metric("outbox_paused_topics") == 1)
    succeeds(two[0], "resume", topic)
    assert_once_in_order(waiting, consumer.wait_for(topic, 2000))


def test_a_rate_holds_for_all_replicas_together_and_can_be_lifted(two, database, topic, consumer):
    succeeds(two[0], "rate", "500", *_WHY)
    committed = insert(database, topic, 10_000)
    eventually(lambda: deleted(*two) >= 3500, timeout=30)
    records = consumer.read(topic)
    first = min(record.timestamp_ms for record in records) / 1000
    # After the burst of the first second, and before what was still under way when the topic was read.
    window = [record for record in records if first + 1 <= record.timestamp_ms / 1000 < first + 5]
    assert 400 * 4 <= len(window) <= 600 * 4

    succeeds(two[0], "rate", "default", *_WHY)
    lifted = time.monotonic()
    eventually(lambda: database.backlog() == 0, timeout=30)
    assert time.monotonic() - lifted < 10  # at 500/s it would have been 12 s or more
    assert_once_in_order(committed, consumer.read(topic))


def test_a_rate_outlasts_the_relay(relay, database, topic, consumer):
    one = relay().start().wait_ready()
    succeeds(one, "rate", "200", *_WHY)
    assert one.stop() == 0
    insert(database, topic, 2000)
    one.start()
    eventually(lambda: deleted(one) >= 1000, timeout=30)
    records = consumer.read(topic)
    first = min(record.timestamp_ms for record in records) / 1000
    window = [record for record in records if first + 1 <= record.timestamp_ms / 1000 < first + 4]
    assert 150 * 3 <= len(window) <= 250 * 3


def test_drain_brings_all_to_rest_under_load(two, database, load, topic, consumer):
    writers = load(writers=2, keys=200, rows=10, rows_per_second=2000)
    eventually(lambda: min(deleted(one) for one in two) > 500)
    assert "drained in " in succeeds(two[0], "drain", *_WHY)
    at_rest = len(consumer.read(topic))
    assert deleted(*two) == at_rest
    backlog = database.backlog()
    eventually(lambda: database.backlog() > backlog + 1000)
    assert len(consumer.read(topic)) == at_rest
    succeeds(two[0], "resume")
    committed = writers.finish()
    eventually(lambda: database.backlog() == 0, timeout=60)
    assert_once_in_order(committed, consumer.read(topic))


def test_drain_until_empty_pauses_only_then(two, database, topic, consumer):
    committed = insert(database, topic, 5000)
    assert "drained in " in succeeds(two[0], "drain", "--until-empty", *_WHY)
    assert database.backlog() == 0
    assert_once_in_order(committed, consumer.read(topic))
    insert(database, topic, 10)
    share(database, 2)
    assert len(consumer.read(topic)) == 5000


def test_a_requeued_dead_letter_is_published_as_the_same_event(relay, database, topic, consumer):
    one = relay({"topics": {"allow": ["something-else"]}}).start().wait_ready()
    row = database.writer().publish(topic, "key", b"payload", {"h": "v"})
    eventually(lambda: database.dead_letters() == 1)
    assert one.stop() == 0
    other = relay().start().wait_ready()
    assert "requeued 1 dead letters" in succeeds(other, "dlq", "requeue", "--topic", topic, "--yes", *_WHY)
    (record,) = consumer.wait_for(topic, 1)
    assert (record.event_id, record.key, record.payload) == (row.event_id, b"key", b"payload")
    assert record.header("h") == "v"
    eventually(lambda: database.backlog() == 0)
    assert database.dead_letters() == 0


# --- blocked keys ---

_BLOCKS = {"poison": {"policy": "block-key"}, "kafka": {"message.max.bytes": 2000}}
_BLOCKS_LESS = {"poison": {"policy": "block-key"}}


@pytest.fixture
def blocked(relay, database, topic, consumer):
    """A relay that has met a row too large for it: key "bad" is blocked with two rows behind it, all else has arrived."""
    one = relay(_BLOCKS).start().wait_ready()
    writer = database.writer()
    for payload in (b"first", b"x" * 3000, b"third", b"fourth"):
        writer.insert(topic, "bad", payload)
    for number in range(500):
        writer.insert(topic, f"good-{number % 50}", b"{}")
    writer.commit()
    consumer.wait_for(topic, 501)
    eventually(lambda: database.backlog() == 3)
    assert database.execute("SELECT topic, key FROM outbox.blocked_key") == [(topic, "bad")]
    assert database.dead_letters() == 0
    return one, writer


def payloads(records):
    return [record.payload for record in records if record.key == b"bad"]


def test_a_blocked_key_waits_while_all_others_go_on_also_after_a_restart(blocked, database, topic, consumer):
    one, writer = blocked
    eventually(lambda: one.metric("outbox_blocked_keys") == 1)
    assert "1 keys wait for unblock" in succeeds(one, "status")
    assert one.stop() == 0
    one.start().wait_ready()
    writer.insert(topic, "bad", b"fifth")
    writer.insert(topic, "good-1", b"later")
    writer.commit()
    records = consumer.wait_for(topic, 502)
    eventually(lambda: database.backlog() == 4)
    assert payloads(records) == [b"first"]
    assert len(database.execute("SELECT 1 FROM outbox.blocked_key")) == 1


def test_a_key_goes_on_in_order_once_its_row_is_a_dead_letter(blocked, database, topic, consumer):
    one, _ = blocked
    succeeds(one, "unblock", "--topic", topic, "--key", "bad", "--dead-letter", *_WHY)
    assert payloads(consumer.wait_for(topic, 503, timeout=10)) == [b"first", b"third", b"fourth"]
    eventually(lambda: database.backlog() == 0)
    assert database.dead_letters() == 1
    eventually(lambda: one.metric("outbox_blocked_keys") == 0)


def test_a_key_goes_on_in_order_once_its_row_fits(blocked, relay, database, topic, consumer):
    one, _ = blocked
    assert one.stop() == 0
    other = relay(_BLOCKS_LESS).start().wait_ready()
    succeeds(other, "unblock", "--topic", topic, "--key", "bad", *_WHY)
    records = consumer.wait_for(topic, 504, timeout=10)
    assert payloads(records) == [b"first", b"x" * 3000, b"third", b"fourth"]
    eventually(lambda: database.backlog() == 0)
    assert database.dead_letters() == 0


def test_a_key_that_is_released_too_early_is_blocked_again(blocked, database, topic, consumer):
    one, _ = blocked
    released = database.execute("SELECT blocked_at FROM outbox.blocked_key")
    succeeds(one, "unblock", "--topic", topic, "--key", "bad", *_WHY)
    eventually(lambda: database.execute("SELECT blocked_at FROM outbox.blocked_key") not in ([], released))
    assert payloads(consumer.read(topic)) == [b"first"]
    assert database.backlog() == 3


def test_a_row_without_a_key_is_dead_lettered_under_either_policy(relay, database, topic, consumer):
    one = relay(_BLOCKS).start().wait_ready()
    writer = database.writer()
    writer.publish(topic, None, b"x" * 3000)
    writer.publish(topic, None, b"small")
    assert [record.payload for record in consumer.wait_for(topic, 1)] == [b"small"]
    eventually(lambda: database.backlog() == 0)
    assert database.dead_letters() == 1
    assert database.execute("SELECT 1 FROM outbox.blocked_key") == []
    assert one.stop() == 0
