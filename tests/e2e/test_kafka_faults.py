"""What one Kafka broker can do to the relay besides going away: hang, crawl, come back only to go, lose a topic, hold
producers back, reject a batch. Nothing is lost or dead-lettered for it, and first occurrences stay in order."""
import os
import random
import time

import pytest

from harness.clock import Clock
from harness.outage import deleted, delivered, finish
from harness.verifier import assert_nothing_lost, assert_once_in_order
from harness.waiting import eventually


def waits_for_kafka(relay, timeout=20):
    """Waits until /readyz says 503 because of Kafka."""
    def says():
        status, text = relay.http("/readyz")
        return status == 503 and "kafka" in text

    eventually(says, timeout, "/readyz says 503 because of Kafka")


def test_a_broker_that_hangs_for_longer_than_its_session_lasts(relay, kafka, database, load, topic, consumer):
    one = relay().start().wait_ready()
    writers = load(writers=2, keys=100, rows=10, rows_per_second=2000)
    delivered(one, 1000)
    kafka.pause()
    waits_for_kafka(one)
    eventually(lambda: database.backlog() > 12_000)  # at 2000 a second that is more than 5 s
    kafka.resume()
    one.wait_ready(timeout=60)
    delivered(one, 2000, timeout=60)
    finish(one, writers.finish(), database, consumer, topic, writers.in_doubt())


def test_a_broker_that_comes_back_only_to_be_killed_again(relay, kafka, database, load, topic, consumer):
    window = 2000
    one = relay({"relay": {"in_flight_rows": window}}).start().wait_ready()
    writers = load(writers=2, keys=100, rows=10, rows_per_second=1000)
    delivered(one, 500)
    dice = random.Random(3)
    outages = 3
    for _ in range(outages):
        kafka.kill()
        kafka.start()
        target = deleted(one) + dice.randrange(300)
        eventually(lambda: deleted(one) > target, timeout=60)
    # librdkafka may give a producer up after such a thing, and then knows of nothing it had under way.
    finish(one, writers.finish(), database, consumer, topic, writers.in_doubt(), duplicates_max=outages * window)


def test_a_broker_behind_a_link_that_takes_seconds(relay, kafka, database, load, topic, consumer):
    one = relay(bootstrap=kafka.proxied).start().wait_ready()
    writers = load(writers=2, keys=100, rows=5, rows_per_second=100)
    delivered(one, 100)
    kafka.proxy.delay(2.0)
    delivered(one, 200, timeout=60)
    kafka.proxy.heal()
    delivered(one, 200, timeout=60)
    finish(one, writers.finish(), database, consumer, topic, writers.in_doubt())


def test_a_broker_that_holds_producers_back_by_quota(relay, kafka, database, load, topic, consumer):
    one = relay().start().wait_ready()
    delivered_before = deleted(one)
    kafka.limit_producers(200_000)
    try:
        committed = load(writers=1, keys=100, transactions=50, rows=100).finish()
        eventually(lambda: deleted(one) > delivered_before)
        eventually(lambda: database.backlog() == 0, timeout=60)
    finally:
        kafka.limit_producers(None)
    finish(one, committed, database, consumer, topic)


def test_a_topic_deleted_and_made_again_stops_its_own_rows_alone(relay, kafka, database, load, topic, consumer):
    lost_one = f"{topic}-lost"
    kafka.create_topic(lost_one)
    one = relay().start().wait_ready()
    writers = load(writers=1, keys=100, rows=10, rows_per_second=1000)
    writer = database.writer()
    for serial in range(100):
        writer.publish(lost_one, f"key-{serial % 10}")
    eventually(lambda: len(consumer.read(lost_one)) == 100)
    eventually(lambda: database.execute("SELECT count(*) FROM outbox.message WHERE topic = %s", (lost_one,)) == [(0,)])

    kafka.delete_topic(lost_one)
    waiting = [writer.publish(lost_one, f"key-{serial % 10}") for serial in range(500)]
    delivered(one, 2000)
    assert one.http("/readyz")[0] == 200
    assert database.execute("SELECT count(*) FROM outbox.message WHERE topic = %s", (lost_one,)) == [(500,)]
    kafka.create_topic(lost_one)
    waiting += [writer.publish(lost_one, f"key-{serial % 10}") for serial in range(100)]
    finish(one, writers.finish(), database, consumer, topic, writers.in_doubt())
    assert_once_in_order(waiting, consumer.read(lost_one))


def test_a_hundred_thousand_rows_of_a_missing_topic_hold_no_other_row_up(relay, kafka, database, topic, consumer):
    missing = f"{topic}-missing"
    database.execute("INSERT INTO outbox.message (topic, key, payload) SELECT %s, 'key-' || n %% 1000, 'x'"
                     " FROM generate_series(1, 100000) AS n", (missing,))
    writer = database.writer()
    rows = []
    for _ in range(20):
        rows += writer.insert_many([(topic, f"key-{number % 1000}", b"x", None) for number in range(1000)])
        writer.commit()
    one = relay().start().wait_ready()
    eventually(lambda: database.execute("SELECT count(*) FROM outbox.message WHERE topic = %s", (topic,)) == [(0,)])
    assert_once_in_order(rows, consumer.read(topic))
    assert database.backlog() == 100_000
    assert one.http("/readyz")[0] == 200
    eventually(lambda: one.log(event="circuit_open", circuit=missing))
    kafka.create_topic(missing)
    eventually(lambda: database.backlog() == 0, timeout=60)
    assert database.dead_letters() == 0
    assert one.stop() == 0


@pytest.mark.parametrize("limit", [20_000, 200_000])
def test_rows_keep_their_order_beside_rows_that_are_too_large_for_the_topic(relay, kafka, database, topic, consumer,
                                                                            limit):
    """The link is slow, so that several batches of a partition are on their way when the first one is turned down."""
    small = f"{topic}-{limit}"
    kafka.create_topic(small, partitions=2, max_message_bytes=limit)
    one = relay(bootstrap=kafka.proxied).start().wait_ready()
    writer = database.writer()
    good, oversized = [], []
    kafka.proxy.delay(0.02)
    for serial in range(100):
        good += writer.insert_many([(small, f"key-{number % 20}", os.urandom(100), None) for number in range(20)])
        if serial % 20 == 10:
            oversized.append(writer.insert(small, f"key-{serial % 3}", os.urandom(limit + 1000)))
            good += writer.insert_many([(small, f"key-{number % 20}", os.urandom(100), None) for number in range(20)])
        writer.commit()
    kafka.proxy.heal()
    eventually(lambda: database.backlog() == 0, timeout=60)
    condemned = {event_id for (event_id,) in database.execute("SELECT event_id::text FROM outbox.dead_letter")}
    assert condemned == {row.event_id for row in oversized}
    assert_nothing_lost(good, consumer.read(small), duplicates_max=0)
    assert one.stop() == 0


def test_a_topic_whose_batches_must_be_small_is_drained_all_the_same(relay, kafka, database, topic, consumer):
    small = f"{topic}-small"
    kafka.create_topic(small, partitions=4, max_message_bytes=20_000)
    writer = database.writer()
    rows = []
    for _ in range(20):
        rows += writer.insert_many([(small, f"key-{number % 30}", os.urandom(200), None) for number in range(500)])
        writer.commit()
    one = relay().start().wait_ready()
    eventually(lambda: database.backlog() == 0, timeout=60)
    assert database.dead_letters() == 0
    assert_nothing_lost(rows, consumer.read(small), duplicates_max=0)
    assert one.stop() == 0


def test_what_brokers_take_is_known_of_each_topic_also_beside_one_that_is_missing(relay, kafka, database, topic, consumer):
    small = [f"{topic}-small-{number}" for number in range(3)]
    for name in small:
        kafka.create_topic(name, partitions=1, max_message_bytes=5_000)
    names = [f"{topic}-missing", *small]
    writer = database.writer()
    rows = writer.insert_many([(names[number % 4], f"key-{number}", b"x" * 200, None) for number in range(400)])
    writer.commit()
    one = relay().start().wait_ready()
    eventually(lambda: database.backlog() == 100)
    assert one.metric("outbox_delivery_errors_total", reason="row") == 0  # no batch was too large for its topic
    for name in small:
        assert_once_in_order([row for row in rows if row.topic == name], consumer.read(name))
    assert one.stop() == 0


# librdkafka's threads wait until times of the wall clock (its issue 2145): set back, they would sleep for as long as
# that. libfaketime leaves the times they wait until as they are, so that waits which begin while the clock is ahead are
# what they are on a machine whose clock is set back meanwhile.
@pytest.mark.skipif(not Clock.library, reason="libfaketime is not installed")
def test_a_clock_set_back_while_no_broker_is_reachable_keeps_nobody_asleep(relay, kafka, database, topic, consumer, tmp_path):
    clock = Clock(tmp_path / "clock")
    one = relay(bootstrap=kafka.proxied).start(environment=clock.environment).wait_ready()

    def write(rows):
        database.execute("INSERT INTO outbox.message (topic, key, payload) SELECT %s, n::text, 'x'"
                         " FROM generate_series(1, %s) AS n", (topic, rows))

    write(10)
    delivered(one, 10)
    kafka.proxy.refuse()
    waits_for_kafka(one)
    clock.step(3600)
    eventually(lambda: one.metric("outbox_backlog_sample_timestamp_seconds") > time.time() + 3000, what="it has the time")
    clock.step(0)
    eventually(lambda: one.log(event="clock_set_back"), what="the relay has seen it")
    kafka.proxy.accept()
    write(10)
    delivered(one, 10, timeout=20)
