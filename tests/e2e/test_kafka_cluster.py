"""Three brokers, three replicas, two of which must be in sync: what one of them does must not be felt for long."""
import itertools

import pytest

from harness.consumer import Consumer
from harness.kafka import KafkaCluster
from harness.outage import deleted, delivered, finish, repeated_at_most
from harness.verifier import assert_nothing_lost
from harness.waiting import eventually

_serial = itertools.count(1)


@pytest.fixture(scope="module")
def cluster():
    three = KafkaCluster()
    try:
        yield three.start()
    finally:
        three.remove()


@pytest.fixture
def kafka(cluster):
    """In place of the shared broker."""
    yield cluster
    cluster.heal()


@pytest.fixture
def topic(kafka):
    name = f"replicated-{next(_serial)}"
    kafka.create_topic(name, partitions=6, replicas=3)
    return name


def a_leader_that_may_die(kafka, topic):
    return kafka.brokers[next(leader for leader in kafka.leaders(topic).values() if leader != 1)]


def waiting_rows(database, topic):
    return database.execute("SELECT count(*) FROM outbox.message WHERE topic = %s", (topic,))[0][0]


@pytest.mark.parametrize("end", ["kill", "stop", "pause"])
def test_a_leader_goes_under_load(relay, kafka, database, load, topic, end):
    one = relay().start().wait_ready()
    writers = load(writers=2, keys=100, rows=10, rows_per_second=2000)
    delivered(one, 1000)
    leader = a_leader_that_may_die(kafka, topic)
    getattr(leader, end)()
    gone = int(leader.directory.name)
    eventually(lambda: gone not in kafka.leaders(topic).values(), timeout=60, what="another broker leads")
    delivered(one, 4000, timeout=60)
    kafka.heal()
    delivered(one, 1000, timeout=60)
    finish(one, writers.finish(), database, Consumer(kafka.bootstrap), topic, writers.in_doubt(), brokers_died=True)


def test_a_topic_with_too_few_replicas_in_sync_waits_alone(relay, kafka, database, load, topic):
    strict = f"{topic}-strict"
    kafka.create_topic(strict, partitions=3, replicas=3, min_insync_replicas=3)
    one = relay({"relay": {"in_flight_rows": 2000, "batch_rows": 500}}).start().wait_ready()
    writers = load(writers=1, keys=100, rows=10, rows_per_second=1000)
    writer = database.writer()
    committed = [writer.publish(strict, f"key-{serial % 10}") for serial in range(50)]
    eventually(lambda: waiting_rows(database, strict) == 0)

    kafka.brokers[3].kill()
    # Far more than the window holds, in front of the rows of the other topic.
    for _ in range(10):
        committed += writer.insert_many([(strict, f"key-{number % 50}", b"{}", None) for number in range(1000)])
        writer.commit()
    delivered(one, 5000, timeout=60)
    assert waiting_rows(database, strict) >= 9_000
    assert database.dead_letters() == 0
    kafka.brokers[3].start()
    eventually(lambda: waiting_rows(database, strict) == 0, timeout=60)
    finish(one, writers.finish(), database, Consumer(kafka.bootstrap), topic, writers.in_doubt(), brokers_died=True)
    assert_nothing_lost(committed, Consumer(kafka.bootstrap).read(strict), duplicates_max=repeated_at_most(one))


def test_every_broker_but_one_goes_and_comes_back(relay, kafka, database, load, topic):
    window = 2000
    one = relay({"relay": {"in_flight_rows": window}}).start().wait_ready()
    writers = load(writers=2, keys=100, rows=10, rows_per_second=1000)
    delivered(one, 500)
    kafka.brokers[2].kill()
    kafka.brokers[3].kill()
    eventually(lambda: database.backlog() > 3000)
    kafka.heal()
    before = deleted(one)
    eventually(lambda: deleted(one) > before + 2000, timeout=60)
    finish(one, writers.finish(), database, Consumer(kafka.bootstrap), topic, writers.in_doubt(), brokers_died=True)


def test_rows_in_front_of_partitions_that_take_none_yet_keep_their_order(relay, kafka, database, topic):
    """First contact: brokers that know nothing of a producer take whatever comes first."""
    strict = f"{topic}-strict"
    kafka.create_topic(strict, partitions=12, replicas=3, min_insync_replicas=3)
    kafka.brokers[3].kill()
    writer = database.writer()
    committed = []

    def write():
        committed.extend(writer.insert_many([(strict, f"key-{number % 200}", b"{}", None) for number in range(2000)]))
        writer.commit()

    # Small requests, so that several are under way when the partitions begin to take them.
    one = relay({"kafka": {"batch.num.messages": "20"}}).start().wait_ready()
    write()
    eventually(lambda: one.metric("outbox_in_flight_rows") > 0)
    kafka.brokers[3].start()
    write()
    eventually(lambda: waiting_rows(database, strict) == 0, timeout=60)
    assert database.dead_letters() == 0
    assert_nothing_lost(committed, Consumer(kafka.bootstrap).read(strict), duplicates_max=repeated_at_most(one))
