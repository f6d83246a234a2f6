"""Everything around the relay fails, and the relay itself: nothing is lost, and first occurrences stay in order."""
import os
import random

import pytest

from harness.fault_proxy import FaultProxy
from harness.verifier import assert_nothing_lost
from harness.waiting import eventually


@pytest.fixture
def postgres_proxy(postgres):
    proxy = FaultProxy(("127.0.0.1", postgres.port))
    yield proxy
    proxy.close()


def deleted(relay):
    return relay.metric("outbox_rows_deleted_total")


def delivered(relay, rows, timeout=30):
    """Waits until that many rows more are relayed than there are now."""
    target = deleted(relay) + rows
    eventually(lambda: deleted(relay) >= target, timeout, f"{rows} rows more relayed")


def finish(one, writers, database, consumer, topic, duplicates_max=None):
    """What every fault must end with: no row left, none dead, none lost, none out of order."""
    committed = writers.finish()
    eventually(lambda: database.backlog() == 0, timeout=60)
    assert one.stop() == 0
    assert database.dead_letters() == 0
    assert_nothing_lost(committed, consumer.read(topic), writers.in_doubt(), duplicates_max)


# --- the relay ---

def test_killed_twenty_times_under_load(relay, database, load, topic, consumer):
    kills, window = 20, 1000
    writers = load(writers=2, keys=100, rows=10, rows_per_second=2000)
    one = relay({"relay": {"lease_ttl": "1s", "in_flight_rows": window, "batch_rows": 200}})
    dice = random.Random(20)
    for _ in range(kills):
        one.start().wait_ready()
        delivered(one, dice.randrange(1, 1500))
        one.kill()
    one.start()
    finish(one, writers, database, consumer, topic, duplicates_max=kills * window)


def test_killed_while_it_drains_a_backlog(relay, database, load, topic, consumer):
    window = 5000
    writers = load(writers=2, keys=300, transactions=60, rows=200)
    committed = writers.finish()
    one = relay({"relay": {"lease_ttl": "1s", "in_flight_rows": window}})
    kills = 0
    while database.backlog() > 5000:
        one.start().wait_ready()
        eventually(lambda: deleted(one) > 0)
        one.kill()
        kills += 1
    one.start().wait_ready()
    eventually(lambda: database.backlog() == 0)
    assert one.stop() == 0
    assert_nothing_lost(committed, consumer.read(topic), duplicates_max=kills * window)


# --- Kafka ---

@pytest.mark.parametrize("violently", [False, True], ids=["stopped", "killed"])
def test_a_broker_that_restarts_under_load(relay, kafka, database, load, topic, consumer, violently):
    one = relay().start().wait_ready()
    writers = load(writers=2, keys=100, rows=10, rows_per_second=2000)
    delivered(one, 1000)
    if violently:
        kafka.kill()
    else:
        kafka.stop()
    eventually(lambda: one.http("/readyz")[0] == 503)
    assert "kafka" in one.http("/readyz")[1]
    kafka.start()
    one.wait_ready(timeout=60)
    delivered(one, 2000)
    finish(one, writers, database, consumer, topic)


def test_kafka_connections_cut_again_and_again(relay, kafka, database, load, topic, consumer):
    one = relay(bootstrap=kafka.proxied).start().wait_ready()
    writers = load(writers=2, keys=100, rows=10, rows_per_second=2000)
    for _ in range(6):
        delivered(one, 300)
        kafka.proxy.cut()
    delivered(one, 300)
    finish(one, writers, database, consumer, topic)


def test_a_kafka_outage_opens_no_transaction_and_holds_no_more_than_the_window(relay, kafka, database, load, topic,
                                                                              consumer):
    one = relay({"relay": {"in_flight_rows": 1000, "batch_rows": 200}}, bootstrap=kafka.proxied).start().wait_ready()
    writers = load(writers=2, keys=100, rows=20, rows_per_second=4000)
    delivered(one, 500)
    kafka.proxy.refuse()
    eventually(lambda: database.backlog() > 10_000)
    assert one.metric("outbox_in_flight_rows") <= 1000
    assert one.metric("outbox_kafka_connected") == 0
    # xact_start is that of a statement as well, so only what idles inside a transaction counts.
    assert database.execute("SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND usename = 'outbox_relay' AND "
                            "state LIKE 'idle in transaction%%'", (database.name,)) == [(0,)]
    kafka.proxy.heal()
    one.wait_ready()
    finish(one, writers, database, consumer, topic)


@pytest.mark.parametrize("workers", [1, 2])
def test_rows_are_not_condemned_with_the_oversized_ones_of_their_batch(relay, kafka, database, topic, consumer, workers):
    small = f"{topic}-small"
    kafka.create_topic(small, partitions=2, max_message_bytes=3000)
    one = relay({"relay": {"workers": workers}}).start().wait_ready()
    writer = database.writer()
    good, oversized = [], []
    for _ in range(30):
        for serial in range(20):
            size, kind = (5000, oversized) if serial % 5 == 0 else (1, good)
            kind.append(writer.insert(small, f"key-{serial % 3}", os.urandom(size)))
        writer.commit()
    eventually(lambda: database.backlog() == 0, timeout=60)
    condemned = {event_id for (event_id,) in database.execute("SELECT event_id::text FROM outbox.dead_letter")}
    assert condemned == {row.event_id for row in oversized}
    assert_nothing_lost(good, consumer.read(small), duplicates_max=0)
    assert one.stop() == 0


# --- Postgres ---

@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_postgres_restarted_under_load(relay, postgres, database, load, topic, consumer, mode):
    one = relay().start().wait_ready()
    writers = load(writers=3, keys=100, rows=10, rows_per_second=3000)
    for _ in range(3):
        delivered(one, 1000)
        postgres.stop(mode)
        eventually(lambda: one.http("/readyz")[0] == 503)
        assert "postgres" in one.http("/readyz")[1]
        postgres.start()
        one.wait_ready()
    delivered(one, 1000)
    assert one.metric("outbox_postgres_reconnects_total") >= 3
    finish(one, writers, database, consumer, topic)


def test_postgres_connection_cut_again_and_again(relay, database, load, topic, consumer, postgres_proxy):
    window = 1000
    one = relay({"relay": {"in_flight_rows": window, "batch_rows": 200}},
                dsn=database.dsn(port=postgres_proxy.port)).start().wait_ready()
    writers = load(writers=2, keys=100, rows=10, rows_per_second=2000)
    for _ in range(20):
        delivered(one, 200)
        postgres_proxy.cut()
    delivered(one, 200)
    # The acknowledged rows are known in memory, and deleted by the next session: cuts make no duplicates.
    finish(one, writers, database, consumer, topic, duplicates_max=0)


def test_a_session_ended_by_an_administrator_is_opened_again(relay, database, load, topic, consumer):
    one = relay({"relay": {"workers": 2}}).start().wait_ready()
    writers = load(writers=2, keys=100, rows=10, rows_per_second=2000)
    for _ in range(5):
        delivered(one, 300)
        database.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'outbox_relay' AND "
                         "datname = %s", (database.name,))
    delivered(one, 300)
    finish(one, writers, database, consumer, topic)


def test_a_postgres_connection_that_stalls_past_the_lease(relay, database, load, topic, consumer, postgres_proxy):
    settings = {"relay": {"lease_ttl": "1s"}}
    stalled = relay(settings, dsn=database.dsn(port=postgres_proxy.port)).start().wait_ready()
    writers = load(writers=2, keys=100, rows=10, rows_per_second=2000)
    delivered(stalled, 500)
    postgres_proxy.stall()
    other = relay(settings).start().wait_ready()
    delivered(other, 2000)
    postgres_proxy.resume()
    delivered(stalled, 500)
    assert stalled.stop() == 0
    finish(other, writers, database, consumer, topic)


def test_a_slow_link_to_postgres_and_kafka_only_slows_it_down(relay, kafka, database, load, topic, consumer,
                                                             postgres_proxy):
    postgres_proxy.delay(0.02)
    kafka.proxy.delay(0.02)
    committed = load(writers=2, keys=100, transactions=100, rows=50).finish()
    one = relay(bootstrap=kafka.proxied, dsn=database.dsn(port=postgres_proxy.port)).start().wait_ready()
    eventually(lambda: database.backlog() == 0, timeout=60)
    assert one.stop() == 0
    assert_nothing_lost(committed, consumer.read(topic), duplicates_max=0)


def test_memory_does_not_grow_while_postgres_and_kafka_come_and_go(relay, kafka, database, load, topic, consumer,
                                                                  postgres_proxy):
    one = relay({"relay": {"in_flight_rows": 1000, "batch_rows": 200}}, bootstrap=kafka.proxied,
                dsn=database.dsn(port=postgres_proxy.port)).start().wait_ready()
    writers = load(writers=2, keys=100, rows=10, rows_per_second=1000)
    delivered(one, 500)
    open_files = len(os.listdir(f"/proc/{one.process.pid}/fd"))
    for _ in range(5):
        postgres_proxy.cut()
        kafka.proxy.cut()
        delivered(one, 100)
    eventually(lambda: len(os.listdir(f"/proc/{one.process.pid}/fd")) <= open_files + 4)
    assert one.metric("process_resident_memory_bytes") < 100 * 2**20
    finish(one, writers, database, consumer, topic)
