"""What every outage must look like from outside while it lasts, and what it must end with."""
import json

from .verifier import assert_nothing_lost
from .waiting import eventually


def deleted(relay):
    return relay.metric("outbox_rows_deleted_total")


def delivered(relay, rows, timeout=30):
    """Waits until that many rows more are relayed than there are now."""
    target = deleted(relay) + rows
    eventually(lambda: deleted(relay) >= target, timeout, f"{rows} rows more relayed")


def not_ready(relay, *words, timeout=20):
    """Waits until /readyz says 503 and gives Postgres and all these words as the reason; returns what it says."""
    def says():
        status, text = relay.http("/readyz")
        reason = json.loads(text).get("checks", {}).get("waiting_for", {}).get("postgres", "")
        return status == 503 and all(word in reason for word in words) and reason

    return eventually(says, timeout, f"/readyz says {words} of postgres")


def told_once(relay, *words):
    """However often it tried: one line when the session ended and at most one about what it then waited for."""
    told = [(line["event"], line["msg"]) for line in relay.log()
            if line["event"] in ("postgres_lost", "postgres_waiting") and all(word in line["msg"] for word in words)]
    assert told, [line["msg"] for line in relay.log() if line["level"] != "debug"]
    assert len({event for event, _ in told}) == len(told), told


def migrated(database):
    """For a database that is not on the shared server."""
    done = database.migrate("--grant-app", "outbox_app", "--grant-relay", "outbox_relay")
    assert done.returncode == 0, done.stdout + done.stderr
    return database


def repeated_at_most(relay):
    """None, but where librdkafka began a new epoch of its producer id (docs/failures.md): then what was in flight."""
    return relay.window * sum(line["event"] == "producer_epoch_bumped" for line in relay.log())


def finish(relay, committed, database, consumer, topic, in_doubt=(), duplicates_max=0, brokers_died=False):
    """No row left, none dead, none lost, none out of order, none twice, and the relay was never started again."""
    eventually(lambda: database.backlog() == 0, timeout=60)
    assert relay.stop() == 0
    assert database.dead_letters() == 0
    if brokers_died:
        duplicates_max += repeated_at_most(relay)
    assert_nothing_lost(committed, consumer.read(topic), in_doubt, duplicates_max)
