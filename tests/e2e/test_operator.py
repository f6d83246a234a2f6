"""The operator's commands, as far as the database can tell: no relay runs here. What relays make of it:
test_operator_relays.py."""
import contextlib
import json
import os
import pty
import socket
import subprocess
import threading
import uuid

import pytest

from harness.relay import binary, run_command

_WHY = ("--reason", "an upgrade")


@pytest.fixture
def command(database):
    """command("pause", …) on this test's database, as the relay's role."""
    return lambda *arguments, **options: run_command(*arguments, "--set", f"postgres.dsn={database.dsn()}", **options)


@pytest.fixture
def stranger(database):
    """stranger(control_revision=…, in_flight_rows=…) adds a worker that lives and does nothing any more."""
    def add(**columns):
        identity = str(uuid.uuid4())
        database.execute("INSERT INTO outbox.relay (id, host, pid, version, lease_ttl_ms) VALUES (%s, 'h', 7, '0', 600000)",
                         (identity,))
        for name, value in columns.items():
            database.execute(f"UPDATE outbox.relay SET {name} = %s WHERE id = %s", (value, identity))
        return identity

    return add


@contextlib.contextmanager
def obedient_workers(database):
    """All workers act on every revision as soon as they can."""
    done = threading.Event()

    def obey():
        with database.connect().cursor() as cursor:
            while not done.wait(0.05):
                cursor.execute("UPDATE outbox.relay SET in_flight_rows = 0,"
                               " control_revision = (SELECT coalesce(max(revision), 0) FROM outbox.control)")

    thread = threading.Thread(target=obey)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def control(database):
    return {topic: (paused, rows) for topic, paused, rows in
            database.execute("SELECT topic, paused, max_rows_per_second FROM outbox.control")}


def audit(database):
    return database.execute("SELECT action, target, reason FROM outbox.audit ORDER BY id")


def bury(database, topic="orders", key="k1", payload=b"a payload nobody shall see", code="MSG_SIZE_TOO_LARGE",
         text="too large"):
    return database.execute(
        "INSERT INTO outbox.dead_letter (message_id, event_id, topic, key, payload, headers, created_at, error_code,"
        " error_text) VALUES (1, gen_random_uuid(), %s, %s, %s, '{\"h\": \"v\"}', now(), %s, %s)"
        " RETURNING id, event_id::text", (topic, key, payload, code, text))[0]


def block(database, key="k1", topic="orders"):
    row = database.execute("INSERT INTO outbox.message (topic, key, payload) VALUES (%s, %s, 'bad')"
                           " RETURNING id, event_id::text, lane", (topic, key))[0]
    database.execute("INSERT INTO outbox.blocked_key (topic, key, message_id, event_id, lane, error_code, error_text)"
                     " VALUES (%s, %s, %s, %s, %s, 'INVALID_RECORD', 'refused')", (topic, key, *row))
    return row[1]


# --- pause, resume, rate ---

def test_orders_are_kept_and_audited_with_who_and_why(command, database):
    done = command("pause", *_WHY)
    assert done.returncode == 0, done.stderr
    assert "everything is paused" in done.stdout
    assert "no worker is running" in done.stdout
    assert command("pause", "orders", "--reason", "partitions").returncode == 0
    assert command("rate", "500", "--reason", "the consumers lag").returncode == 0
    assert control(database) == {"*": (True, 500), "orders": (True, None)}
    done = command("resume")
    assert "still paused: orders" in done.stdout
    assert command("rate", "default", "--reason", "they do not lag").returncode == 0
    assert control(database) == {"*": (False, None), "orders": (True, None)}
    assert audit(database) == [("pause", "*", "an upgrade"), ("pause", "orders", "partitions"),
                               ("rate", "*", "the consumers lag"), ("resume", "*", None),
                               ("rate", "*", "they do not lag")]
    (actor, role), = database.execute("SELECT DISTINCT actor, db_role FROM outbox.audit")
    assert actor.endswith("@" + socket.gethostname())
    assert role == "outbox_relay"


def test_what_changes_nothing_is_said_and_not_audited(command, database):
    assert "was not paused" in command("resume", "orders").stdout
    assert command("rate", "default", *_WHY).returncode == 0
    assert audit(database) == []


@pytest.mark.parametrize("arguments", [
    ("pause",), ("pause", "--reason", " "), ("pause", "or ders", *_WHY), ("pause", "a*", *_WHY), ("pause", "a", "b", *_WHY),
    ("pause", "--reason", "x" * 1001), ("rate", *_WHY), ("rate", "0", *_WHY), ("rate", "fast", *_WHY), ("rate", "5"),
    ("rate", "1000000001", *_WHY), ("drain",), ("drain", "--timeout", "0s", *_WHY), ("drain", "--timeout", "60", *_WHY),
    ("unblock", "--topic", "t", *_WHY), ("unblock", "--topic", "t", "--key", "k"), ("dlq",), ("dlq", "purge"),
    ("dlq", "list", "--all"), ("dlq", "list", "--payload"), ("dlq", "show", "--yes"), ("dlq", "requeue", "--id", "1"),
    ("dlq", "requeue", "--all", "--id", "1", *_WHY), ("dlq", "list", "--limit", "0"), ("dlq", "list", "--limit", "-1"),
    ("dlq", "list", "--id", "one"), ("dlq", "list", "--output", "xml"), ("dlq", "list", "--since", "tomorrow"),
    ("dlq", "list", "--since", "2025-13-01"), ("dlq", "list", *_WHY)])
def test_what_makes_no_sense_is_a_usage_error_and_does_nothing(command, database, arguments):
    done = command(*arguments)
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stderr.startswith("outbox-relay: ")
    assert control(database) == {}


def test_an_order_waits_until_every_worker_has_confirmed(command, database, stranger):
    stranger()
    stranger()
    with obedient_workers(database):
        done = command("pause", *_WHY)
    assert done.returncode == 0, done.stdout
    assert "2 of 2 workers confirmed in " in done.stdout


def test_a_worker_that_does_not_confirm_is_named(command, stranger):
    stranger(control_revision=1_000_000)
    stranger()
    done = command("pause", *_WHY)
    assert done.returncode == 5
    assert "1 of 2 workers confirmed" in done.stdout
    assert done.stdout.count("has not confirmed yet") == 1
    assert "has not confirmed the last order yet" in command("status").stdout
    assert command("pause", "--no-wait", *_WHY).returncode == 0


def test_a_worker_that_is_gone_is_not_waited_for(command, database, stranger):
    stranger()
    database.execute("UPDATE outbox.relay SET seen_at = now() - interval '1 hour'")
    done = command("pause", *_WHY)
    assert done.returncode == 0
    assert "no worker is running" in done.stdout


def test_another_schema_is_told_from_an_unreachable_server(empty_database):
    dsn = f"postgres.dsn={empty_database.dsn('postgres')}"
    for arguments in (("pause", *_WHY), ("drain", *_WHY), ("dlq", "list"), ("unblock", "--topic", "t", "--key", "k", *_WHY)):
        assert run_command(*arguments, "--set", dsn).returncode == 6
    assert run_command("pause", *_WHY, "--set", "postgres.dsn=host=127.0.0.1 port=1").returncode == 4


# --- drain ---

def test_drain_waits_until_nothing_is_in_flight(command, database, stranger):
    stranger(in_flight_rows=12)
    with obedient_workers(database):
        done = command("drain", *_WHY)
    assert done.returncode == 0, done.stdout
    assert "drained in " in done.stdout
    assert control(database) == {"*": (True, None)}


def test_drain_gives_up_and_says_what_is_in_flight(command, database, stranger):
    stranger(in_flight_rows=12, control_revision=1_000_000)
    done = command("drain", "--timeout", "1s", *_WHY)
    assert done.returncode == 5
    assert "12 rows in flight" in done.stdout
    assert control(database) == {"*": (True, None)}


def test_drain_until_empty_pauses_nothing_when_the_outbox_does_not_empty(command, database):
    database.execute("INSERT INTO outbox.message (topic) VALUES ('orders')")
    done = command("drain", "--until-empty", "--timeout", "1s", *_WHY)
    assert done.returncode == 5
    assert "1 rows wait" in done.stdout
    assert "nothing was paused" in done.stdout
    assert control(database) == {}
    database.execute("DELETE FROM outbox.message")
    assert command("drain", "--until-empty", *_WHY).returncode == 0
    assert control(database) == {"*": (True, None)}


# --- dlq ---

def test_dead_letters_are_listed_without_their_payload(command, database):
    identity, event = bury(database)
    bury(database, topic="payments", key=None, payload=None, code="X")
    done = command("dlq", "list")
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 2
    assert f"{identity}  " in done.stdout and "key k1  26 B  MSG_SIZE_TOO_LARGE" in done.stdout
    assert "no key  tombstone  X" in done.stdout
    shown = command("dlq", "show", "--id", identity)
    assert event in shown.stdout and '{"h": "v"}' in shown.stdout and "too large" in shown.stdout
    for text in (done.stdout, shown.stdout, command("dlq", "show", "--output", "json").stdout,
                 command("dlq", "requeue", "--all", "--dry-run").stdout, command("status").stdout):
        assert "nobody shall see" not in text
    assert "a payload nobody shall see" in command("dlq", "show", "--id", identity, "--payload").stdout
    assert command("dlq", "show", "--id", "999").returncode == 5


def test_dead_letters_as_json(command, database):
    identity, event = bury(database)
    bury(database, payload=b"\xff\x00")
    document = json.loads(command("dlq", "list", "--output", "json", "--limit", "1").stdout)
    assert document["more"] is True
    (letter,) = document["dead_letters"]
    assert (letter["id"], letter["event_id"], letter["payload_bytes"]) == (identity, event, 26)
    assert "payload" not in letter
    one, two = json.loads(command("dlq", "show", "--payload", "--output", "json").stdout)["dead_letters"]
    assert one["payload"] == "a payload nobody shall see"
    assert one["headers"] == {"h": "v"}
    assert two["payload_hex"] == "ff00"


def test_dead_letters_are_filtered(command, database):
    for topic, key, code in (("a", "k1", "X"), ("a", "k2", "X"), ("b", "k1", "Y")):
        bury(database, topic=topic, key=key, code=code)
    database.execute("UPDATE outbox.dead_letter SET last_failed_at = now() - interval '2 days' WHERE topic = 'b'")

    def found(*arguments):
        document = json.loads(command("dlq", "list", "--output", "json", *arguments).stdout)
        return [letter["id"] for letter in document["dead_letters"]]

    assert found("--topic", "a") == [1, 2]
    assert found("--key", "k1") == [1, 3]
    assert found("--topic", "a", "--key", "k1") == [1]
    assert found("--error", "Y") == [3]
    assert found("--id", "2", "--id", "3") == [2, 3]
    assert found("--since", "24h") == [1, 2]
    assert found("--since", "2001-01-31T08:00:00Z") == [1, 2, 3]
    assert found("--topic", "' OR true --") == []


def test_requeue_puts_the_same_events_into_the_outbox_again(command, database):
    events = [bury(database, key=f"k{number}")[1] for number in range(250)]
    bury(database, topic="payments")
    done = command("dlq", "requeue", "--topic", "orders", "--yes", "--reason", "4 MiB are allowed now")
    assert done.returncode == 0, done.stderr
    assert "requeued 250 dead letters" in done.stdout
    assert [event for (event,) in database.execute("SELECT event_id::text FROM outbox.message ORDER BY id")] == events
    assert database.dead_letters() == 1
    assert set(audit(database)) == {("dlq_requeue", "orders", "4 MiB are allowed now")}


def test_discard_throws_away_what_was_named_and_keeps_its_event_id_in_the_audit(command, database):
    identity, event = bury(database)
    bury(database)
    done = command("dlq", "discard", "--id", identity, "--yes", "--output", "json", *_WHY)
    assert json.loads(done.stdout) == {"action": "discard", "dry_run": False, "rows": 1}
    assert database.dead_letters() == 1
    assert database.backlog() == 0
    assert database.execute("SELECT detail #>> '{events,0,event_id}' FROM outbox.audit") == [(event,)]


@pytest.mark.parametrize("action", ["requeue", "discard"])
def test_what_was_not_said_expressly_is_refused(command, database, action):
    identity, _ = bury(database)
    assert command("dlq", action, "--yes", *_WHY).returncode == 7           # no filter and no --all
    assert command("dlq", action, "--limit", "1", "--yes", *_WHY).returncode == 7
    assert command("dlq", action, "--id", identity, *_WHY).returncode == 7  # nobody to ask and no --yes
    done = command("dlq", action, "--id", identity, "--dry-run")
    assert (done.returncode, f"would {action} 1 dead letters" in done.stdout) == (0, True)
    assert (database.dead_letters(), database.backlog(), audit(database)) == (1, 0, [])
    assert command("dlq", action, "--all", "--yes", *_WHY).returncode == 0
    assert database.dead_letters() == 0


def test_on_a_terminal_it_asks(database):
    identity, _ = bury(database)

    def answer(text):
        terminal, ours = pty.openpty()
        process = subprocess.Popen([binary(), "dlq", "discard", "--id", str(identity), *_WHY, "--set",
                                    f"postgres.dsn={database.dsn()}"], stdin=ours, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE)
        os.close(ours)
        os.write(terminal, text)
        _, asked = process.communicate(timeout=60)
        os.close(terminal)
        assert b"discard 1 dead letters? [y/N]" in asked
        return process.returncode

    assert answer(b"\n") == 7
    assert answer(b"no\n") == 7
    assert database.dead_letters() == 1
    assert answer(b"y\n") == 0
    assert database.dead_letters() == 0


# --- unblock and status ---

def test_unblock_releases_one_key(command, database):
    block(database, "a")
    block(database, "b")
    done = command("unblock", "--topic", "orders", "--key", "a", *_WHY)
    assert done.returncode == 0, done.stderr
    assert "is tried again" in done.stdout
    assert database.execute("SELECT key FROM outbox.blocked_key") == [("b",)]
    assert database.backlog() == 2
    assert audit(database) == [("unblock", "orders", "an upgrade")]
    assert command("unblock", "--topic", "orders", "--key", "a", *_WHY).returncode == 5


def test_unblock_may_move_the_row_to_the_dead_letters(command, database):
    event = block(database)
    done = command("unblock", "--topic", "orders", "--key", "k1", "--dead-letter", *_WHY)
    assert done.returncode == 0, done.stderr
    assert (database.backlog(), database.dead_letters()) == (0, 1)
    assert database.execute("SELECT event_id::text, error_code FROM outbox.dead_letter") == [(event, "INVALID_RECORD")]


def test_status_lists_blocked_keys(command, database):
    assert "blocked " not in command("status").stdout
    for number in range(25):
        block(database, f"k{number}")
    text = command("status").stdout
    assert "25 keys wait for unblock" in text
    assert text.count("INVALID_RECORD: refused") == 20
    assert "and more" in text
    keys = json.loads(command("status", "--output", "json").stdout)["blocked_keys"]
    assert (keys["rows"], keys["capped"], len(keys["first"])) == (25, False, 20)
    assert keys["first"][0]["key"] == "k0"


def test_nothing_from_the_database_reaches_the_terminal_as_a_control_character(command, database, stranger):
    evil = "\x1b[2J\x07\r\n\x9b31m\x7f\u202e"
    stranger(host=evil, version=evil)
    bury(database, topic=evil, key=evil, code=evil, text=evil, payload=evil.encode() + b"\xff")
    block(database, evil)
    database.execute("UPDATE outbox.blocked_key SET error_code = %s, error_text = %s", (evil, evil))
    database.execute("INSERT INTO outbox.control (topic, paused, reason) VALUES (%s, true, %s)", (evil, evil))
    for arguments in (("status",), ("status", "--output", "json"), ("dlq", "list"), ("dlq", "show", "--payload"),
                      ("dlq", "list", "--output", "json"), ("dlq", "show", "--payload", "--output", "json"),
                      ("dlq", "discard", "--all", "--dry-run"), ("resume", "other"),
                      ("unblock", "--topic", "orders", "--key", evil, *_WHY)):
        done = command(*arguments)
        assert done.returncode in (0, 5), done.stderr
        shown = done.stdout + done.stderr
        assert shown and not set(evil.replace("\n", "").replace("[2J", "").replace("31m", "")) & set(shown), arguments
