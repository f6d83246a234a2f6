"""Several relays on one outbox: they share the lanes, stand in for each other, and hand over without a duplicate."""
import datetime
import time

import pytest

from harness.verifier import assert_nothing_lost, assert_once_in_order
from harness.waiting import eventually

_LEASE = 2.0
_SETTINGS = {"relay": {"lease_ttl": "2s"}}


def shares(database):
    """How many lanes each owner has whose lease is alive, smallest first."""
    return sorted(count for (count,) in database.execute(
        "SELECT count(*) FROM outbox.lane WHERE owner IS NOT NULL AND expires_at > clock_timestamp() GROUP BY owner"))


def shared(database, *wanted, timeout=10):
    eventually(lambda: shares(database) == sorted(wanted), timeout, f"lanes shared {wanted}")


def delays(records):
    """Seconds from a row's creation to its publishing, both clocks being this machine's."""
    return [record.timestamp_ms / 1000 - datetime.datetime.fromisoformat(record.header("created_at")).timestamp()
            for record in records]


@pytest.fixture
def replicas(relay):
    """replicas(n) starts n relays at once."""
    return lambda count: [one.wait_ready() for one in [relay(_SETTINGS).start() for _ in range(count)]]


def test_replicas_share_the_lanes_evenly_as_they_come_and_go(replicas, relay, database, load, topic, consumer):
    writers = load(writers=2, keys=200, rows=10, rows_per_second=2000)
    one, two = replicas(2)
    shared(database, 32, 32)
    three = relay(_SETTINGS).start().wait_ready()
    shared(database, 21, 21, 22)
    assert sorted(each.metric("outbox_lanes_owned") for each in (one, two, three)) == [21, 21, 22]
    assert one.stop() == 0
    shared(database, 32, 32)
    assert two.stop() == 0
    shared(database, 64)
    committed = writers.finish()
    eventually(lambda: database.backlog() == 0)
    assert three.stop() == 0
    assert_once_in_order(committed, consumer.read(topic))


def test_the_workers_of_one_process_share_like_replicas(relay, database, load, topic, consumer):
    writers = load(writers=4, keys=1000, transactions=100, rows=50)
    one = relay({"relay": {"workers": 4}}).start().wait_ready()
    shared(database, 16, 16, 16, 16)
    assert one.metric("outbox_lanes_owned") == 64
    assert [worker["lanes_owned"] for worker in one.status()["workers"]] == [16] * 4
    committed = writers.finish()
    eventually(lambda: database.backlog() == 0, timeout=60)
    assert one.stop() == 0
    assert_once_in_order(committed, consumer.read(topic))


def test_when_one_of_two_is_killed_the_other_takes_over_within_the_lease(replicas, database, load, topic, consumer,
                                                                        record_property):
    one, two = replicas(2)
    shared(database, 32, 32)
    writers = load(writers=2, keys=500, rows=10, rows_per_second=2000)
    eventually(lambda: min(each.metric("outbox_rows_deleted_total") for each in (one, two)) > 1000)
    killed = time.monotonic()
    one.kill()
    shared(database, 64)
    taken = time.monotonic() - killed
    committed = writers.finish()
    eventually(lambda: database.backlog() == 0)
    assert two.stop() == 0
    records = consumer.read(topic)
    longest = max(delays(records))
    record_property("takeover_seconds", round(taken, 2))
    record_property("longest_delay_seconds", round(longest, 2))
    print(f"lanes taken over after {taken:.2f} s, longest delay of a row {longest:.2f} s, lease {_LEASE} s")
    assert_nothing_lost(committed, records, duplicates_max=20_000)
    assert taken < _LEASE + 1
    assert longest < _LEASE + 1


def test_a_rolling_restart_under_load_sends_nothing_twice_and_makes_nobody_wait(replicas, database, load, topic, consumer,
                                                                               record_property):
    fleet = replicas(3)
    shared(database, 21, 21, 22)
    writers = load(writers=2, keys=500, rows=10, rows_per_second=2000)
    eventually(lambda: min(each.metric("outbox_rows_deleted_total") for each in fleet) > 100)
    for each in fleet:
        assert each.stop() == 0
        shared(database, 32, 32)
        each.start().wait_ready()
        shared(database, 21, 21, 22)
    committed = writers.finish()
    eventually(lambda: database.backlog() == 0)
    assert [each.stop() for each in fleet] == [0, 0, 0]
    records = consumer.read(topic)
    longest = max(delays(records))
    record_property("longest_delay_seconds", round(longest, 2))
    print(f"longest delay of a row {longest:.2f} s")
    assert_once_in_order(committed, records)
    assert longest < 3  # 0.1 to 1 s is what it takes; a lease that had to expire would show


def test_a_replica_that_does_not_reach_kafka_takes_no_lanes_until_it_does(replicas, relay, kafka, database, load, topic,
                                                                          consumer):
    (one,) = replicas(1)
    shared(database, 64)
    changes = "SELECT sum(epoch) FROM outbox.lane"
    before = database.execute(changes)
    kafka.proxy.refuse()
    two = relay(_SETTINGS, bootstrap=kafka.proxied).start()
    eventually(lambda: two.log(event="postgres_connected"))
    committed = load(writers=2, keys=200, transactions=300, rows=10, rows_per_second=1000).finish()  # three leases long
    eventually(lambda: database.backlog() == 0)
    assert database.execute(changes) == before
    kafka.proxy.heal()
    two.wait_ready()
    shared(database, 32, 32)
    assert (one.stop(), two.stop()) == (0, 0)
    assert_once_in_order(committed, consumer.read(topic))


def test_a_relay_that_was_stopped_for_longer_than_its_lease_reorders_nothing(replicas, database, load, topic, consumer):
    one, two = replicas(2)
    shared(database, 32, 32)
    writers = load(writers=2, keys=200, rows=10, rows_per_second=3000)
    for paused, other in ((one, two), (two, one), (one, two)):
        eventually(lambda: shares(database) == [32, 32])
        before = other.metric("outbox_rows_deleted_total")
        paused.pause()
        shared(database, 64)
        eventually(lambda: other.metric("outbox_rows_deleted_total") > before + 2000)
        paused.resume()
    shared(database, 32, 32)
    committed = writers.finish()
    eventually(lambda: database.backlog() == 0)
    assert (one.stop(), two.stop()) == (0, 0)
    assert_nothing_lost(committed, consumer.read(topic))
