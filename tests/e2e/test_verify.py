"""`outbox-relay verify`: it finds nothing wrong where nothing is, and each kind of wrong that is planted."""
import json
import subprocess

import pytest

from harness.relay import binary
from harness.waiting import eventually


def as_application(database):
    """The relay's own role may not write events."""
    return "--set", f"postgres.dsn={database.dsn('outbox_app')}"


class Verify:
    """A run of the command beside the test, with an application's role."""

    def __init__(self, relay, database, topic, *more, rate=200, duration="1s", timeout="8s"):
        self._database = database
        self._process = subprocess.Popen(
            [binary(), "verify", "-c", str(relay.config), *as_application(database), "--topic", topic, "--rate", str(rate), "--duration", duration, "--timeout", timeout, "--output", "json", *more],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def written(self):
        """Waits until its writers are done."""
        eventually(lambda: self._database.backlog() > 0, what="events are written")
        eventually(lambda: self._database.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            " AND application_name = 'outbox-relay verify'") == [(0,)], what="the writers are done")
        return self

    def result(self, timeout=60):
        """Exit code and report."""
        out, err = self._process.communicate(timeout=timeout)
        assert not err, err
        return self._process.returncode, json.loads(out)

    def kill(self):
        if self._process.poll() is None:
            self._process.kill()
            self._process.communicate()


@pytest.fixture
def verify(database, topic):
    """verify(relay, …) starts one on this test's database and topic."""
    made = []

    def make(relay, *more, **shape):
        made.append(Verify(relay, database, topic, *more, **shape))
        return made[-1]

    yield make
    for one in made:
        one.kill()


def wrong(report):
    return {kind: report[kind]["events"] for kind in ("lost", "phantom", "reordered", "duplicated")
            if report[kind]["events"]}


def first_row(database):
    """Key and payload of the earliest event of some key that has several."""
    return database.execute("SELECT key, convert_from(payload, 'UTF8') FROM outbox.message WHERE key IN"
                            " (SELECT key FROM outbox.message GROUP BY key HAVING count(*) > 1) ORDER BY id LIMIT 1")[0]


def named(tally):
    return [(event["key"], event["sequence"]) for event in tally["first"]]


def produce(kafka, topic, key, payload):
    run = json.loads(payload)["verify"]
    subprocess.run(["kcat", "-P", "-b", kafka.bootstrap, "-t", topic, "-k", key, "-H", f"outbox-verify={run}"],
                   input=payload.encode(), check=True, timeout=30)


def test_nothing_is_wrong_with_a_running_relay(relay, verify):
    one = relay().start().wait_ready()
    code, report = verify(one, "--no-duplicates", "--rollback", "30", duration="3s").result()
    assert (code, report["ok"], wrong(report)) == (0, True, {})
    assert report["committed"] == report["delivered"] == report["latency_ms"]["events"] > 200
    assert report["rolled_back"] > 0
    latency = report["latency_ms"]
    assert 0 < latency["p50"] <= latency["p90"] <= latency["p99"] <= latency["p99.9"] <= latency["max"]


def test_text_and_the_other_name_of_the_topic(relay, database, topic):
    one = relay().start().wait_ready()
    done = one.command("verify", *as_application(database), "--against", topic, "--rate", "0", "--duration", "1s",
                       "--size", "2KiB", "--keys", "3")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 lost, 0 phantom, 0 reordered, 0 duplicated" in done.stdout
    assert "p99.9" in done.stdout and done.stdout.endswith("kept\n")


def test_a_kill_in_the_middle_loses_and_reorders_nothing(relay, verify):
    one = relay().start().wait_ready()
    run = verify(one, rate=2000, duration="4s", timeout="20s")
    eventually(lambda: one.metric("outbox_rows_deleted_total") > 1000)
    one.kill()
    one.start()
    code, report = run.result()
    assert code == 0, report
    assert set(wrong(report)) <= {"duplicated"}


def test_a_restart_of_postgres_loses_and_invents_nothing(relay, verify, database, postgres):
    one = relay().start().wait_ready()
    run = verify(one, rate=2000, duration="5s", timeout="20s")
    eventually(lambda: one.metric("outbox_rows_deleted_total") > 1000)
    postgres.restart("immediate")
    deleted = one.metric("outbox_rows_deleted_total")
    eventually(lambda: one.metric("outbox_rows_deleted_total") > deleted + 500, what="the writers go on")
    code, report = run.result()
    assert code == 0, report
    assert set(wrong(report)) <= {"duplicated"}


def test_a_broker_that_is_killed_and_comes_back_is_waited_for(relay, verify, kafka):
    one = relay().start().wait_ready()
    run = verify(one, rate=500, duration="4s", timeout="60s")
    eventually(lambda: one.metric("outbox_rows_deleted_total") > 300)
    kafka.kill()
    kafka.start()
    code, report = run.result(timeout=120)
    assert code == 0, report
    assert set(wrong(report)) <= {"duplicated"}


def test_a_row_that_vanishes_is_lost(relay, verify, database):
    one = relay()
    run = verify(one).written()
    key, payload = first_row(database)
    database.execute("DELETE FROM outbox.message WHERE payload = convert_to(%s, 'UTF8')", (payload,))
    one.start()
    code, report = run.result()
    assert (code, report["ok"], wrong(report)) == (5, False, {"lost": 1})
    assert named(report["lost"]) == [(key, json.loads(payload)["sequence"])]


def test_without_a_relay_everything_is_lost(relay, database, topic):
    done = relay().command("verify", *as_application(database), "--topic", topic, "--duration", "1s", "--timeout", "1s")
    assert done.returncode == 5, done.stdout + done.stderr
    assert "nothing came" in done.stdout and "and more" in done.stdout and done.stdout.endswith("violated\n")


@pytest.mark.parametrize("settings, expected", [({}, 5), ({"relay": {"claim": "rows"}}, 0)])
def test_a_row_published_after_later_ones_of_its_key_is_reordered(relay, verify, database, settings, expected):
    one = relay(settings)
    run = verify(one).written()
    key, payload = first_row(database)
    database.execute("WITH moved AS (DELETE FROM outbox.message WHERE payload = convert_to(%s, 'UTF8') RETURNING *)"
                     " INSERT INTO outbox.message (topic, key, payload, headers)"
                     " SELECT topic, key, payload, headers FROM moved", (payload,))
    one.start()
    code, report = run.result()
    assert (code, report["ok"]) == (expected, expected == 0)
    assert (key, json.loads(payload)["sequence"]) in named(report["reordered"])
    assert set(wrong(report)) == {"reordered"}
    assert settings or wrong(report) == {"reordered": 1}


@pytest.mark.parametrize("option, expected", [((), 0), (("--no-duplicates",), 5)])
def test_a_copy_is_a_duplicate_and_a_violation_when_asked(relay, verify, database, kafka, topic, option, expected):
    one = relay()
    run = verify(one, *option).written()
    key, payload = first_row(database)
    produce(kafka, topic, key, payload)  # seen first; the relay's is the copy then, at its own place
    one.start()
    code, report = run.result()
    assert (code, wrong(report)) == (expected, {"duplicated": 1})
    assert named(report["duplicated"]) == [(key, json.loads(payload)["sequence"])]


def test_what_was_never_committed_is_a_phantom(relay, verify, database, kafka, topic):
    one = relay()
    run = verify(one).written()
    key, payload = first_row(database)
    produce(kafka, topic, key, payload.replace("commit", "rollback").replace("xx", "", 1))
    produce(kafka, topic, key, payload.replace("xx", "xy", 1))
    one.start()
    code, report = run.result()
    assert (code, wrong(report), report["phantom_altered"]) == (5, {"phantom": 2}, 1)
    assert named(report["phantom"]) == [(key, json.loads(payload)["sequence"])]


@pytest.mark.parametrize("arguments, code, text", [
    ((), 2, "--topic"),
    (("--topic", "a", "--against", "b"), 2, "--topic"),
    (("--topic", "no topic"), 2, "topic"),
    (("--topic", "t", "--rate", "-1"), 2, "--rate"),
    (("--topic", "t", "--size", "2MiB"), 2, "--size"),
    (("--topic", "t", "--keys", "0"), 2, "--keys"),
    (("--topic", "t", "--rollback", "100"), 2, "--rollback"),
    (("--topic", "t", "--duration", "0s"), 2, "--duration"),
    (("--topic", "nobody-made-this"), 4, "there is no topic nobody-made-this"),
    (("--topic", "t", "--set", "kafka.bootstrap.servers=127.0.0.1:1"), 4, "cannot read the topic"),
    (("--topic", "t", "--set", "postgres.dsn=host=127.0.0.1 port=1"), 4, "127.0.0.1"),
])
def test_what_cannot_be_verified_is_said_before_anything_is_written(relay, database, arguments, code, text):
    done = relay().command("verify", *arguments)
    assert done.returncode == code, done.stdout + done.stderr
    assert text in done.stderr
    assert database.backlog() == 0


def test_a_role_that_may_not_write_is_told_the_grant(relay, topic):
    done = relay().command("verify", "--topic", topic)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "GRANT" in done.stderr and "outbox.publish" in done.stderr


def test_a_database_without_the_schema_is_a_mismatch(relay_of, empty_database, topic):
    done = relay_of(empty_database).command("verify", "--topic", topic)
    assert done.returncode == 6, done.stdout + done.stderr
