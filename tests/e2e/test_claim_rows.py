"""claim = "rows": workers lock rows instead of leasing lanes. Every event once and no order, until a process dies or
Kafka takes longer than a claim may last."""
import time

import pytest

from harness.verifier import verify
from harness.waiting import eventually

_LEASE = 3.0
_HOLD = _LEASE / 2


def settings(**relay):
    return {"relay": {"claim": "rows", "lease_ttl": f"{_LEASE:g}s", **relay}}


@pytest.fixture
def replicas(relay):
    """replicas(n) starts n relays at once."""
    return lambda count, **more: [one.wait_ready() for one in [relay(settings(**more)).start() for _ in range(count)]]


def assert_each_once(committed, records):
    verdict = verify(committed, records)
    assert not (verdict.lost or verdict.phantom or verdict.duplicates), str(verdict)


def assert_none_lost(committed, records, duplicates_max):
    verdict = verify(committed, records)
    assert not (verdict.lost or verdict.phantom), str(verdict)
    assert len(verdict.duplicates) <= duplicates_max, str(verdict)
    return verdict


def gone(database, timeout=60):
    eventually(lambda: database.backlog() == 0, timeout, "the outbox is empty")


def open_for(database):
    """Seconds for which the longest open transaction of a relay's worker has been open."""
    return float(database.execute(
        "SELECT coalesce(extract(epoch FROM max(clock_timestamp() - xact_start)), 0) FROM pg_stat_activity "
        "WHERE application_name = 'outbox-relay' AND datname = current_database() "
        "AND state LIKE 'idle in transaction%'")[0][0])


def test_four_replicas_drain_a_backlog_and_each_event_arrives_once(replicas, database, load, topic, consumer):
    committed = load(writers=2, keys=500, transactions=150, rows=200).finish()
    fleet = replicas(4)
    gone(database)
    shares = [one.metric("outbox_rows_deleted_total") for one in fleet]
    assert [one.stop() for one in fleet] == [0] * 4
    assert_each_once(committed, consumer.read(topic))
    assert sum(shares) == len(committed)
    assert sum(share > 0 for share in shares) > 1, shares


def test_a_rolling_restart_under_load_sends_nothing_twice(replicas, database, load, topic, consumer):
    fleet = replicas(3)
    writers = load(writers=2, keys=500, rows=10, rows_per_second=2000)
    for one in fleet:
        eventually(lambda: one.metric("outbox_rows_deleted_total") > 100)
        assert one.stop() == 0
        one.start().wait_ready()
    eventually(lambda: min(one.metric("outbox_rows_deleted_total") for one in fleet) > 100)
    committed = writers.finish()
    gone(database)
    assert [one.stop() for one in fleet] == [0] * 3
    assert_each_once(committed, consumer.read(topic))


def test_when_one_of_three_is_killed_the_others_relay_what_it_held(replicas, database, load, topic, consumer):
    window = 2000
    fleet = replicas(3, in_flight_rows=window)
    writers = load(writers=2, keys=500, rows=20, rows_per_second=4000)
    eventually(lambda: min(one.metric("outbox_rows_deleted_total") for one in fleet) > 500)
    fleet[0].kill()
    target = fleet[1].metric("outbox_rows_deleted_total") + 2000
    eventually(lambda: fleet[1].metric("outbox_rows_deleted_total") > target)
    committed = writers.finish()
    gone(database, timeout=20)  # sooner than a sweep
    assert [one.stop() for one in fleet[1:]] == [0] * 2
    assert_none_lost(committed, consumer.read(topic), duplicates_max=window)


def test_a_relay_that_is_frozen_loses_its_claim_and_no_row(replicas, database, load, topic, consumer):
    window = 2000
    one, two = replicas(2, in_flight_rows=window)
    writers = load(writers=2, keys=500, rows=20, rows_per_second=4000)
    rounds = 3
    for _ in range(rounds):
        eventually(lambda: one.metric("outbox_postgres_connected") == 1)
        target = one.metric("outbox_rows_deleted_total") + 500
        eventually(lambda: one.metric("outbox_rows_deleted_total") > target)
        one.pause()
        stopped = time.monotonic()
        target = two.metric("outbox_rows_deleted_total") + 2000
        eventually(lambda: two.metric("outbox_rows_deleted_total") > target
                   and time.monotonic() > stopped + _LEASE + 0.5)
        assert open_for(database) < _LEASE + 0.5
        one.resume()
    committed = writers.finish()
    gone(database)
    assert [each.stop() for each in (one, two)] == [0, 0]
    assert_none_lost(committed, consumer.read(topic), duplicates_max=rounds * window)


def test_no_transaction_stays_open_while_kafka_is_away(replicas, kafka, database, load, topic, consumer, record_property):
    window = 2000
    fleet = replicas(2, in_flight_rows=window)
    writers = load(writers=2, keys=100, rows=10, rows_per_second=2000)
    eventually(lambda: min(one.metric("outbox_rows_deleted_total") for one in fleet) > 500)
    kafka.pause()
    longest = 0.0
    until = time.monotonic() + 5 * _LEASE
    while time.monotonic() < until:
        longest = max(longest, open_for(database))
        time.sleep(0.02)
    # Between claims a worker asks what it is to do, which takes a moment.
    eventually(lambda: open_for(database) == 0, 1, "no claim is open")
    kafka.resume()
    record_property("longest_claim_seconds", round(longest, 2))
    print(f"the longest transaction was open for {longest:.2f} s, of {_HOLD} s allowed")
    assert 0 < longest < _HOLD + 1
    for one in fleet:
        one.wait_ready(timeout=60)
    committed = writers.finish()
    gone(database, timeout=120)
    assert [one.stop() for one in fleet] == [0] * 2
    assert database.dead_letters() == 0
    assert_none_lost(committed, consumer.read(topic), duplicates_max=2 * window)


def test_a_snapshot_held_open_makes_no_claim_look_at_more_rows(relay, database, load, topic, consumer):
    """Counted, not timed: index entries that were looked at for each row relayed, at the start and at the end."""
    reader = database.connect(autocommit=False)
    with reader.cursor() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        cursor.execute("SELECT count(*) FROM outbox.message")
    committed = load(writers=2, keys=500, transactions=250, rows=200).finish()

    def looked_at():
        return database.execute("SELECT idx_tup_read FROM pg_stat_user_indexes "
                                "WHERE schemaname = 'outbox' AND indexrelname = 'message_pkey'")[0][0]

    fleet = [relay({**settings(), "pacing": {"max_rows_per_second": 15_000}}).start() for _ in range(2)]
    for one in fleet:
        one.wait_ready()

    def relayed():
        return sum(one.metric("outbox_rows_deleted_total") for one in fleet)

    samples = []

    def look():
        samples.append((relayed(), looked_at()))
        return samples[-1][0] >= len(committed)

    eventually(look, timeout=60, interval=0.25)
    samples = [sample for sample in samples if sample[0] > 0]
    third = len(samples) // 3
    assert third > 0, samples

    def each(first, last):
        return (last[1] - first[1]) / (last[0] - first[0])

    early, late = each(samples[0], samples[third]), each(samples[-1 - third], samples[-1])
    print(f"index entries looked at for each row: {early:.1f} at the start, {late:.1f} at the end")
    assert late < 3 * early + 10
    reader.rollback()
    assert [one.stop() for one in fleet] == [0] * 2
    assert_each_once(committed, consumer.read(topic))


def test_a_commit_that_comes_late_is_not_missed(replicas, database, topic, consumer):
    one, two = replicas(2)
    late, early = database.writer(), database.writer()
    late.insert_many([(topic, f"late-{n}", b"{}", None) for n in range(50)])
    for n in range(200):
        early.publish(topic, f"early-{n}")
    eventually(lambda: database.execute("SELECT count(*) FROM outbox.message")[0][0] == 0)
    late.commit()
    gone(database, timeout=20)  # sooner than a sweep
    assert [each.stop() for each in (one, two)] == [0, 0]
    assert_each_once(early.committed + late.committed, consumer.read(topic))


def test_a_row_that_kafka_never_takes_becomes_a_dead_letter_and_the_others_go_on(replicas, database, topic, consumer):
    fleet = replicas(2)
    writer = database.writer()
    for n in range(20):
        writer.publish(topic, f"key-{n % 3}")
    good = list(writer.committed)
    poison = writer.publish(topic, "key-1", b"x" * 3_000_000)
    for n in range(20):
        good.append(writer.publish(topic, f"key-{n % 3}"))
    gone(database)
    assert database.execute("SELECT event_id::text FROM outbox.dead_letter") == [(poison.event_id,)]
    assert [one.stop() for one in fleet] == [0] * 2
    assert_each_once(good, consumer.read(topic))


def test_a_topic_that_cannot_be_written_does_not_stop_the_others(replicas, kafka, database, topic, consumer):
    missing = f"{topic}-missing"
    fleet = replicas(2)
    writer = database.writer()
    for n in range(300):
        writer.publish(missing if n % 3 == 0 else topic, f"key-{n}")
    eventually(lambda: database.backlog() == 100, timeout=30)
    assert database.execute("SELECT DISTINCT topic FROM outbox.message") == [(missing,)]
    kafka.create_topic(missing)
    gone(database)
    assert [one.stop() for one in fleet] == [0] * 2
    assert_each_once([row for row in writer.committed if row.topic == topic], consumer.read(topic))
    verdict = verify([row for row in writer.committed if row.topic == missing], consumer.read(missing))
    assert not (verdict.lost or verdict.phantom), str(verdict)


def test_claims_wait_while_somebody_leases_lanes(relay, database, load, topic, consumer):
    lanes = relay().start().wait_ready()
    eventually(lambda: lanes.metric("outbox_lanes_owned") == 64)
    rows = relay(settings()).start().wait_ready()
    eventually(lambda: rows.log(event="claims_wait"))
    writers = load(writers=2, keys=50, rows=10, rows_per_second=500)
    eventually(lambda: lanes.metric("outbox_rows_deleted_total") > 300)
    assert rows.metric("outbox_rows_read_total") == 0
    assert lanes.stop() == 0
    eventually(lambda: rows.metric("outbox_rows_deleted_total") > 300)
    assert rows.log(event="claims_go_on")
    committed = writers.finish()
    gone(database)
    assert rows.metric("outbox_lanes_uncovered") == 0
    assert rows.stop() == 0
    assert_each_once(committed, consumer.read(topic))


def test_a_missing_privilege_is_named_with_the_statement_that_gives_it(relay, database):
    database.execute("REVOKE UPDATE (lane) ON outbox.message FROM outbox_relay")
    grant = 'GRANT UPDATE (lane) ON TABLE outbox.message TO "outbox_relay";'
    one = relay(settings()).start()
    eventually(lambda: one.http("/readyz")[0] == 503 and "UPDATE (lane)" in one.http("/readyz")[1])
    checked = one.command("check")
    assert checked.returncode == 5, checked.stdout + checked.stderr
    assert grant in checked.stdout
    assert relay().command("check").returncode == 0  # with lanes nobody needs it
    database.execute(grant)
    one.wait_ready()
    assert one.stop() == 0


def test_keys_cannot_be_blocked_where_there_is_no_order(relay):
    one = relay({**settings(), "poison": {"policy": "block-key"}})
    checked = one.command("check", "--offline")
    assert checked.returncode == 3
    assert 'poison.policy: given "block-key" with relay.claim = "rows"' in checked.stderr
