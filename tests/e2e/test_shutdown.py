"""SIGTERM hands over: what is in flight is finished, nothing is sent twice, and no outage keeps the process alive."""
import time

import pytest

from harness.verifier import assert_nothing_lost, assert_once_in_order
from harness.waiting import eventually


def delivered(relay, rows):
    eventually(lambda: relay.metric("outbox_rows_deleted_total") >= rows, what=f"{rows} rows relayed")


def lanes_owned(database):
    return database.execute("SELECT count(*) FROM outbox.lane WHERE owner IS NOT NULL")[0][0]


def test_restarts_under_load_send_nothing_twice(relay, database, load, topic, consumer):
    writers = load(writers=2, keys=200, rows=20, rows_per_second=4000)
    one = relay()
    for _ in range(5):
        one.start().wait_ready()
        delivered(one, 1000)
        assert one.stop() == 0
        assert lanes_owned(database) == 0
        assert database.execute("SELECT count(*) FROM outbox.relay") == [(0,)]
    one.start()
    committed = writers.finish()
    eventually(lambda: database.backlog() == 0)
    assert one.stop() == 0
    assert_once_in_order(committed, consumer.read(topic))
    assert not one.log(event="drain_cut_short")


def test_a_second_relay_continues_where_the_first_left_off(relay, database, load, topic, consumer):
    writers = load(writers=2, keys=100, rows=20, rows_per_second=4000)
    first = relay().start().wait_ready()
    delivered(first, 1000)
    assert first.stop() == 0
    second = relay({"relay": {"lease_ttl": "60s"}}).start()
    # Well within any lease: the lanes were handed back, not left to expire.
    eventually(lambda: lanes_owned(database) == 64, timeout=3)
    delivered(second, 1000)
    committed = writers.finish()
    eventually(lambda: database.backlog() == 0)
    assert second.stop() == 0
    assert_once_in_order(committed, consumer.read(topic))


@pytest.mark.parametrize("workers", [1, 4])
def test_sigterm_before_anything_was_connected_ends_it_at_once(relay, kafka, database, workers):
    one = relay({"relay": {"workers": workers}}).start()
    eventually(lambda: one.log(event="started"))
    assert one.stop(timeout=10) == 0
    assert lanes_owned(database) == 0


@pytest.fixture
def stuck(relay, kafka, database, load):
    """stuck(drain_timeout) is a relay with rows in flight that Kafka does not answer for, and the rows committed."""
    def make(drain_timeout):
        one = relay({"relay": {"drain_timeout": drain_timeout, "in_flight_rows": 2000, "batch_rows": 500}},
                    bootstrap=kafka.proxied).start().wait_ready()
        before = load(writers=1, keys=50, transactions=20, rows=20).finish()
        eventually(lambda: database.backlog() == 0)
        kafka.proxy.stall()
        after = load(writers=1, keys=50, transactions=200, rows=20).finish()
        eventually(lambda: one.metric("outbox_in_flight_rows") > 0)
        return one, [*before, *after]

    return make


def finish_with_another(relay, kafka, database, consumer, topic, committed):
    assert lanes_owned(database) == 0
    assert database.backlog() > 0
    kafka.proxy.heal()
    other = relay().start().wait_ready()
    eventually(lambda: database.backlog() == 0)
    assert other.stop() == 0
    assert_nothing_lost(committed, consumer.read(topic), duplicates_max=2000)
    assert database.dead_letters() == 0


def test_a_second_sigterm_cuts_the_drain_short(stuck, relay, kafka, database, consumer, topic):
    one, committed = stuck("60s")
    one.sigterm()
    eventually(lambda: one.log(event="draining"))
    assert one.running()
    one.sigterm()
    asked = time.monotonic()
    assert one.wait(timeout=20) == 0
    assert time.monotonic() - asked < 5
    assert one.log(event="drain_cut_short")
    finish_with_another(relay, kafka, database, consumer, topic, committed)


def test_sigterm_while_kafka_does_not_answer_ends_after_the_drain_timeout(stuck, relay, kafka, database, consumer, topic):
    one, committed = stuck("2s")
    asked = time.monotonic()
    assert one.stop() == 0
    assert 1.9 < time.monotonic() - asked < 8
    finish_with_another(relay, kafka, database, consumer, topic, committed)


def test_sigterm_while_kafka_refuses_connections_keeps_the_rows(stuck, relay, kafka, database, consumer, topic):
    one, committed = stuck("1s")
    kafka.proxy.refuse()
    eventually(lambda: one.log(event="circuit_open", circuit="cluster"))
    asked = time.monotonic()
    assert one.stop() == 0
    assert time.monotonic() - asked < 7
    finish_with_another(relay, kafka, database, consumer, topic, committed)


def test_sigterm_while_postgres_is_down_ends_after_the_drain_timeout(relay, postgres, database, load, topic, consumer):
    one = relay({"relay": {"drain_timeout": "2s"}}).start().wait_ready()
    writers = load(writers=2, keys=50, rows=20, rows_per_second=3000)
    delivered(one, 500)
    postgres.stop("immediate")
    eventually(lambda: one.log(event="postgres_lost"))
    asked = time.monotonic()
    assert one.stop() == 0
    assert time.monotonic() - asked < 8
    postgres.start()
    other = relay().start().wait_ready()
    delivered(other, 500)
    committed = writers.finish()
    eventually(lambda: database.backlog() == 0)
    assert other.stop() == 0
    assert_nothing_lost(committed, consumer.read(topic), writers.in_doubt())
