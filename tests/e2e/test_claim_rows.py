"""claim = "rows": workers lock rows instead of leasing lanes. Every event once and no order, until a process dies or
Kafka takes longer than a claim may last."""
import time

import pytest

from harness.consumer import Consumer
from harness.relay import run_command
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
