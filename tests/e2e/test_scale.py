"""Many keys, many writers, commits in any order: exactly once and in order, in a bounded time."""
import random
import threading
import time

import pytest

from harness.verifier import assert_once_in_order
from harness.waiting import eventually


class Tangle:
    """Threads that hold several transactions open at once, each on keys of its own, and end them in any order: ids
    are drawn long before they commit, later ones become visible first, one in nine never does."""

    def __init__(self, database, topic, threads=4, sessions=3, keys=10_000, rows=100_000, batch=100):
        self._topic = topic
        self._batch = batch
        own = keys // (threads * sessions) + 1
        self._writers = [[(database.writer(), range((thread * sessions + session) * own,
                                                    (thread * sessions + session + 1) * own))
                          for session in range(sessions)] for thread in range(threads)]
        self._failures = []
        self._threads = [threading.Thread(target=self._run, args=(number, rows // threads), daemon=True)
                         for number in range(threads)]
        for thread in self._threads:
            thread.start()

    def _run(self, number, rows):
        try:
            dice = random.Random(number)
            open_now = set()
            written = 0
            while written < rows or open_now:
                writer, keys = dice.choice(self._writers[number])
                if writer in open_now:
                    open_now.remove(writer)
                    writer.rollback() if dice.random() < 1 / 9 else writer.commit()
                elif written < rows:
                    open_now.add(writer)
                    writer.insert_many([(self._topic, f"key-{dice.choice(keys)}", b'{"order": 1}', None)
                                        for _ in range(self._batch)])
                    written += self._batch
        except Exception as failure:  # noqa: BLE001 - told by finish(), in the test's own thread
            self._failures.append(failure)

    def finish(self):
        for thread in self._threads:
            thread.join()
        if self._failures:
            raise self._failures[0]
        return [row for writers in self._writers for writer, _ in writers for row in writer.committed]


@pytest.mark.parametrize("workers", [1, 4])
def test_a_hundred_thousand_rows_of_ten_thousand_keys_committed_in_any_order(relay, database, topic, consumer, workers):
    one = relay({"relay": {"workers": workers}}).start().wait_ready()
    committed = Tangle(database, topic).finish()
    eventually(lambda: database.backlog() == 0, timeout=60)
    assert len(committed) > 80_000
    assert len({row.key for row in committed}) > 9_000
    assert_once_in_order(committed, consumer.read(topic))
    assert one.metric("outbox_messages_delivered_total") == len(committed)
    assert one.stop() == 0


def test_two_replicas_of_two_workers_share_the_same_tangle(relay, database, topic, consumer):
    fleet = [each.wait_ready() for each in [relay({"relay": {"workers": 2}}).start() for _ in range(2)]]
    eventually(lambda: [each.metric("outbox_lanes_owned") for each in fleet] == [32, 32])
    committed = Tangle(database, topic, rows=40_000).finish()
    eventually(lambda: database.backlog() == 0, timeout=60)
    assert_once_in_order(committed, consumer.read(topic))
    assert min(each.metric("outbox_messages_delivered_total") for each in fleet) > len(committed) // 10
    assert [each.stop() for each in fleet] == [0, 0]


def test_a_backlog_of_many_large_rows_behind_many_small_ones_stays_within_memory(relay, database, topic, consumer):
    writer = database.writer()
    for size, count in ((100, 20_000), (200_000, 200)):
        for _ in range(0, count, 100):
            writer.insert_many([(topic, f"k{serial}", b"x" * size, None) for serial in range(100)])
    writer.commit()
    one = relay({"relay": {"in_flight_bytes": "4MiB"}}).start().wait_ready()
    eventually(lambda: database.backlog() == 0, timeout=60)
    assert one.metric("process_resident_memory_bytes") < 96 * 2**20
    assert_once_in_order(writer.committed, consumer.read(topic))
    assert one.stop() == 0


def arrival(consumer, topic, count, since):
    """Seconds from `since` until the topic held `count` records."""
    consumer.wait_for(topic, count)
    return time.monotonic() - since


def test_a_row_held_open_for_long_holds_up_nobody_and_arrives_right_after_its_commit(relay, database, load, topic, kafka,
                                                                                    consumer):
    kafka.create_topic(f"{topic}-held", partitions=1)
    one = relay().start().wait_ready()
    holder = database.writer()
    held = holder.insert(f"{topic}-held", "held")
    opened = time.monotonic()
    writers = load(writers=2, keys=100, rows=10, rows_per_second=2000)
    eventually(lambda: time.monotonic() - opened > 4 and one.metric("outbox_rows_deleted_total") > 6000)
    assert one.metric("outbox_low_mark_lag_ids") > 0
    assert consumer.read(f"{topic}-held") == []
    holder.commit()
    took = arrival(consumer, f"{topic}-held", 1, time.monotonic())
    print(f"arrived {took:.2f} s after its commit")
    assert took < 2  # kcat's own start included
    committed = writers.finish()
    eventually(lambda: database.backlog() == 0)
    assert_once_in_order(committed, consumer.read(topic))
    assert_once_in_order([held], consumer.read(f"{topic}-held"))
    eventually(lambda: one.metric("outbox_low_mark_lag_ids") == 0)
    assert one.stop() == 0


def test_a_snapshot_held_open_slows_nobody(relay, database, load, topic, consumer):
    one = relay().start().wait_ready()
    reader = database.connect(autocommit=False)
    with reader.cursor() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        cursor.execute("SELECT count(*) FROM outbox.message")
        committed = load(writers=2, keys=100, transactions=200, rows=50).finish()
        eventually(lambda: database.backlog() == 0)
        assert one.metric("outbox_low_mark_lag_ids") < 20_000
        cursor.execute("SELECT count(*) FROM outbox.message")
        assert cursor.fetchone() == (0,)
    assert_once_in_order(committed, consumer.read(topic))
    eventually(lambda: one.metric("outbox_low_mark_lag_ids") == 0)
    reader.rollback()
    assert one.stop() == 0
