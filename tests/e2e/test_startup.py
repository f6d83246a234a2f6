"""What an operator meets: dependencies that are not there yet, mistakes in the configuration, and what the relay says of itself."""
import json
import pathlib
import re
import urllib.request

import pytest

from harness.relay import run_command
from harness.verifier import assert_once_in_order
from harness.waiting import eventually, free_port

METRICS_PAGE = pathlib.Path(__file__).resolve().parents[2] / "docs" / "metrics.md"


def waiting_for(relay):
    """What /readyz waits for: {"postgres": why, "kafka": why}; nothing when it is ready."""
    return json.loads(relay.http("/readyz?verbose")[1])["checks"]["waiting_for"]


def not_ready(relay, side, *words):
    """Waits until /readyz says 503 and names that side with all these words; returns what it says of it."""
    def says():
        status, text = relay.http("/readyz")
        reason = json.loads(text).get("checks", {}).get("waiting_for", {}).get(side, "")
        return status == 503 and all(word in reason for word in words) and reason

    return eventually(says, what=f"/readyz names {side} {words}")


# --- dependencies that are not there ---

def test_without_postgres_it_stays_up_says_so_and_starts_when_postgres_appears(relay, postgres, database, topic, consumer):
    row = database.writer().publish(topic, "k")
    postgres.stop()
    one = relay().start()
    not_ready(one, "postgres", str(postgres.port))
    assert one.http("/livez")[0] == 200
    eventually(lambda: waiting_for(one).keys() == {"postgres"})
    assert one.log(event="postgres_waiting")
    checked = one.command("check")
    assert checked.returncode == 4, checked.stdout + checked.stderr
    assert str(postgres.port) in checked.stderr
    postgres.start()
    one.wait_ready()
    assert_once_in_order([row], consumer.wait_for(topic, 1))
    assert one.stop() == 0


def test_without_kafka_it_stays_up_says_so_and_starts_when_kafka_appears(relay, kafka, database, topic, consumer):
    row = database.writer().publish(topic, "k")
    kafka.proxy.refuse()
    one = relay(bootstrap=kafka.proxied).start()
    not_ready(one, "kafka")
    eventually(lambda: waiting_for(one).keys() == {"kafka"})
    assert one.http("/livez")[0] == 200
    checked = one.command("check")
    assert checked.returncode == 4, checked.stdout + checked.stderr
    assert database.backlog() == 1
    kafka.proxy.heal()
    one.wait_ready()
    assert_once_in_order([row], consumer.wait_for(topic, 1))
    assert one.stop() == 0


def test_check_is_content_when_everything_is_there(relay):
    checked = relay().command("check")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "postgres ok" in checked.stdout
    assert "kafka ok" in checked.stdout


# --- the schema ---

def test_without_the_schema_it_waits_and_names_the_command(empty_database, kafka, relay_of):
    one = relay_of(empty_database).start()
    not_ready(one, "postgres", "outbox.", "migrate up")
    checked = one.command("check")
    assert checked.returncode == 6, checked.stdout + checked.stderr
    assert "migrate up" in checked.stderr
    assert empty_database.migrate("--grant-relay", "outbox_relay").returncode == 0
    one.wait_ready()
    assert one.stop() == 0


@pytest.mark.parametrize("table, privilege", [("message", "SELECT"), ("lane", "UPDATE"), ("relay", "INSERT"),
                                              ("migration", "SELECT")])
def test_a_missing_grant_is_named_with_the_statement_that_gives_it(relay, database, table, privilege):
    database.execute(f"REVOKE {privilege} ON outbox.{table} FROM outbox_relay")
    one = relay().start()
    text = not_ready(one, "postgres", f"outbox.{table}", "GRANT")
    statement = re.search(rf"GRANT [^;]* ON TABLE outbox\.{table} TO \"outbox_relay\";", text)[0]
    checked = one.command("check")
    assert checked.returncode != 0
    assert statement in checked.stdout + checked.stderr
    for one_statement in re.findall(r"GRANT [^;]*;", text):
        database.execute(one_statement)
    one.wait_ready()
    assert one.stop() == 0


def test_without_the_right_to_delete_nothing_is_sent_twice(relay, database, topic, consumer):
    writer = database.writer()
    database.execute("REVOKE DELETE ON outbox.message FROM outbox_relay")
    one = relay().start()
    rows = [writer.publish(topic, "k", b"%d" % serial) for serial in range(20)]
    advice = not_ready(one, "postgres", "outbox.message", "DELETE")
    eventually(lambda: len(one.log(event="postgres_connected")) > 3)  # as often as it tries, it sends nothing again
    for statement in re.findall(r"GRANT [^;]*;", advice):
        database.execute(statement)
    one.wait_ready()
    eventually(lambda: database.backlog() == 0)
    assert_once_in_order(rows, consumer.read(topic))
    assert one.stop() == 0


def test_a_schema_newer_than_the_binary_ends_it(relay, database):
    database.execute("""INSERT INTO outbox.migration (module, version, checksum)
                        SELECT module, max(version) + 1, 'unknown' FROM outbox.migration GROUP BY module""")
    one = relay().start()
    assert one.wait(timeout=20) == 6
    assert one.log(event="schema_newer")
    assert one.command("check").returncode == 6
    assert database.migrate().returncode == 6


def test_a_schema_that_becomes_newer_ends_it_at_the_next_connect(relay, database):
    one = relay({"relay": {"workers": 2}}).start().wait_ready()
    database.execute("""INSERT INTO outbox.migration (module, version, checksum)
                        SELECT module, max(version) + 1, 'unknown' FROM outbox.migration GROUP BY module""")
    database.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'outbox_relay' AND "
                     "datname = %s", (database.name,))
    assert one.wait(timeout=20) == 6


# --- configuration ---

def test_every_mistake_in_the_configuration_is_told_at_once_with_its_line(tmp_path):
    file = tmp_path / "relay.toml"
    file.write_text('[postgres]\ndsn = ""\n[relay]\nworkers = 0\nlease_tll = "3s"\ndrain_timeout = "soon"\n[kafka]\n'
                    'bootstrap.servers = "127.0.0.1:1"\nenable.idempotence = "false"\n[log]\nlevel = "loud"\n',
                    encoding="utf-8")
    for command in (["run"], ["check"], ["check", "--offline"]):
        done = run_command(*command, "-c", file)
        assert done.returncode == 3, done.stdout + done.stderr
        problems = done.stderr.splitlines()
        for line, word in [(2, "dsn"), (4, "workers"), (5, "lease_ttl"), (6, "drain_timeout"), (9, "idempotence"),
                           (11, "level")]:
            assert any(f"{file}:{line}" in problem and word in problem for problem in problems), done.stderr
        assert len(problems) == 6


def test_a_port_that_is_taken_is_told(relay):
    one = relay().start().wait_ready()
    other = relay({"http": {"listen": f"127.0.0.1:{one.http_port}"}}).start()
    assert other.wait() == 1
    assert str(one.http_port) in other.log_text()
    assert one.stop() == 0


def test_an_unknown_command_is_a_usage_error():
    assert run_command("runn").returncode == 2
    assert run_command("run", "--confg", "x").returncode == 2
    assert run_command("run", "extra").returncode == 2


@pytest.mark.parametrize("option", ["--help", "-h"])
@pytest.mark.parametrize("command", ["run", "check", "print-config", "migrate", "status", "enqueue", "version",
                                     "healthcheck", "pause", "resume", "rate", "drain", "dlq", "unblock", "verify"])
def test_every_command_explains_itself(command, option):
    done = run_command(command, option)
    assert done.returncode == 0
    assert "Usage:" in done.stdout


def test_version_names_the_libraries():
    done = run_command("version")
    assert done.returncode == 0
    assert re.match(r"outbox-relay \d+\.\d+", done.stdout)
    assert re.search(r"librdkafka +\d", done.stdout)


_SECRET = "Zx9-secret-Qy7"


def test_print_config_shows_where_values_come_from_and_no_secret(tmp_path):
    password = tmp_path / "password"
    password.write_text(_SECRET)
    file = tmp_path / "relay.toml"
    file.write_text(f'[postgres]\ndsn = "host=db user=relay password={_SECRET} dbname=shop"\n'
                    f'password_file = "{password}"\n'
                    f'[kafka]\nbootstrap.servers = "k:1"\nsecurity.protocol = "SASL_SSL"\n'
                    f'sasl.mechanisms = "PLAIN"\nsasl.username = "u"\nsasl.password = "{_SECRET}"\n'
                    f'[kafka_files]\nssl.key.password = "{password}"\n')
    done = run_command("print-config", "--origin", "-c", file)
    assert done.returncode == 0, done.stderr
    assert _SECRET not in done.stdout + done.stderr
    assert "host=db" in done.stdout
    assert f"{file}:2" in done.stdout


def test_secrets_stay_out_of_log_status_and_process_title(relay, database, kafka, tmp_path):
    password = tmp_path / "password"
    password.write_text(_SECRET)
    one = relay({"postgres": {"password_file": str(password)},
                 "kafka": {"ssl.key.password": _SECRET}}).start().wait_ready()
    for path in ("/status", "/metrics", "/readyz?verbose", "/livez?verbose"):
        assert _SECRET not in one.http(path)[1]
    title = pathlib.Path(f"/proc/{one.process.pid}/cmdline").read_bytes()
    assert _SECRET.encode() not in title
    assert one.stop() == 0
    assert _SECRET not in one.log_text()


# --- what it says of itself ---

def test_healthcheck_tells_live_ready_and_absent(relay, kafka):
    one = relay(bootstrap=kafka.proxied)
    assert one.command("healthcheck").returncode == 4
    one.start().wait_ready()
    assert one.command("healthcheck").returncode == 0
    assert one.command("healthcheck", "--ready").returncode == 0
    kafka.proxy.refuse()
    not_ready(one, "kafka")
    assert one.command("healthcheck").returncode == 0
    assert one.command("healthcheck", "--ready").returncode == 5


def test_logs_hold_no_key_no_payload_and_no_header_value(relay, kafka, database, topic, consumer):
    small = f"{topic}-small"
    kafka.create_topic(small, partitions=1, max_message_bytes=2000)
    one = relay({"topics": {"allow": ["orders*"]}}, bootstrap=kafka.proxied).start().wait_ready()
    writer = database.writer()
    headers = {"trace": "marked-header"}

    def publish(where, size=0):
        return writer.publish(where, "marked-key", b"marked-payload" + b"x" * size, headers)

    publish(topic)
    publish("forbidden")
    publish(small, 5000)
    publish(f"{topic}-absent")
    eventually(lambda: database.dead_letters() == 2)
    kafka.proxy.refuse()
    for _ in range(20):
        publish(topic)
    eventually(lambda: one.log(event="circuit_open", circuit="cluster"))
    database.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'outbox_relay' AND "
                     "datname = %s", (database.name,))
    eventually(lambda: one.log(event="postgres_lost"))
    kafka.proxy.heal()
    consumer.wait_for(topic, 21)
    assert one.stop() == 0
    one.log()  # every line is JSON
    assert "marked" not in one.log_text()
    assert one.log(event="dead_letter")


def test_bad_requests_are_refused_and_harm_nothing(relay):
    one = relay().start().wait_ready()
    assert one.http("/")[0] == 404
    assert one.http("/../../etc/passwd")[0] == 404
    assert one.http("/metrics/x")[0] == 404
    request = urllib.request.Request(f"http://127.0.0.1:{one.http_port}/metrics", data=b"x", method="POST")
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=5)
    assert refused.value.code == 405
    assert one.http("/livez")[0] == 200


# --- metrics and status ---

def documented():
    """{name: (type, {labels})} from the page's tables."""
    found = {}
    for line in METRICS_PAGE.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("|") and re.fullmatch(r"`\w+`", cells[0]):
            found[cells[0].strip("`")] = (cells[1], set(re.findall(r"`(\w+)`", cells[2])))
    return found


def scraped(relay):
    """The same from a live scrape."""
    text = relay.http("/metrics")[1]
    kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))
    found = {name: (kind, set()) for name, kind in kinds.items()}
    for name, samples in relay.metrics().items():
        family = name if name in kinds else re.sub(r"_(bucket|sum|count)$", "", name)
        for labels in samples:
            found[family][1].update(label for label, _ in labels if (label, kinds[family]) != ("le", "histogram"))
    return found


def test_the_metrics_page_and_a_live_scrape_agree(relay, kafka, database, topic, consumer):
    one = relay({"topics": {"allow": [f"{topic}*"]}}).start().wait_ready()
    writer = database.writer()
    writer.publish(topic, "k")
    writer.publish("forbidden", "k")
    writer.publish(f"{topic}-absent", "k")
    consumer.wait_for(topic, 1)
    eventually(lambda: one.metric("outbox_delivery_errors_total", reason="topic") >= 1)
    eventually(lambda: one.metric("outbox_dead_letters_total") == 1)
    assert scraped(one) == documented()
    assert len(documented()) > 30
    buckets = one.metrics()["outbox_delivery_latency_seconds_bucket"]
    assert (("le", "10"),) in buckets
    assert one.metric("outbox_delivery_latency_seconds_count") == 1
    assert one.metric("outbox_parked_topics") == 1
    assert one.metric("outbox_messages_delivered_total", topic=topic) == 1
    assert one.stop() == 0


def test_backlog_gauges_and_status_tell_what_waits(relay, database, topic):
    writer = database.writer()
    for serial in range(123):
        writer.insert(f"{topic}-absent", f"k{serial}")
    writer.commit()
    one = relay().start().wait_ready()
    eventually(lambda: one.metric("outbox_backlog_rows") == 123)
    assert one.metric("outbox_backlog_estimated") == 0
    assert 0 < one.metric("outbox_oldest_pending_age_seconds") < 60
    assert one.metric("outbox_schema_version") == one.metric("outbox_schema_version_expected") > 0
    eventually(lambda: one.metric("outbox_lanes_owned") == 64)
    eventually(lambda: one.metric("outbox_lanes_uncovered") == 0)
    status = one.status()
    assert (status["state"], status["ready"]) == ("running", True)
    assert status["outbox"]["backlog_rows"] == 123
    assert status["workers"][0]["lanes_owned"] == 64
    told = json.loads(one.command("status", "--output", "json").stdout)
    assert told["backlog"]["rows"] == 123
    assert [entry["lanes"] for entry in told["relays"]] == [64]
    assert "123 rows wait" in one.command("status").stdout
    database.execute("DELETE FROM outbox.message")
    eventually(lambda: one.metric("outbox_backlog_rows") == 0)
    assert one.metric("outbox_oldest_pending_age_seconds") == 0
    assert one.stop() == 0


def test_the_http_server_can_be_turned_off(relay, database, topic, consumer):
    one = relay({"http": {"listen": ""}}).start()
    row = database.writer().publish(topic, "k")
    assert_once_in_order([row], consumer.wait_for(topic, 1))
    assert one.stop() == 0


# --- one event from the command line ---

def test_enqueue_puts_one_event_into_the_outbox(relay, database, topic, consumer):
    one = relay().start().wait_ready()
    as_owner = ("--set", f"postgres.dsn={database.dsn('postgres')}")
    done = one.command("enqueue", *as_owner, "--topic", topic, "--key", "k", "--payload", "hello", "--header", "a=b")
    assert done.returncode == 0, done.stdout + done.stderr
    (record,) = consumer.wait_for(topic, 1)
    assert (record.key, record.payload, record.header("a")) == (b"k", b"hello", "b")
    assert one.command("enqueue").returncode == 2
    refused = one.command("enqueue", *as_owner, "--topic", "no/such name", "--payload", "x")
    assert refused.returncode == 1
    assert "topic" in refused.stderr
    assert one.stop() == 0
