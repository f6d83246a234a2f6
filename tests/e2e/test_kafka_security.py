"""TLS and logins against a real broker: what is right gets through, what is wrong is refused with a reason, and what is
mended in a file takes effect without a restart."""
import json
import os

import pytest

from harness.consumer import Consumer
from harness.kafka import KafkaBroker, newer_librdkafka
from harness.outage import deleted, delivered, finish
from harness.verifier import assert_once_in_order
from harness.waiting import eventually


@pytest.fixture(scope="module")
def secure():
    broker = KafkaBroker(secure=True)
    try:
        yield broker.start()
    finally:
        broker.remove()


@pytest.fixture
def kafka(secure):
    """In place of the shared broker: `topic` and `consumer` are of this one."""
    yield secure
    if not secure.running():
        secure.start()


@pytest.fixture
def password_file(kafka, tmp_path):
    file = tmp_path / "kafka-password"
    file.write_text(kafka.password + "\n")
    return file


def by_password(kafka, password_file, mechanism="PLAIN", **more):
    return {"kafka": {"bootstrap.servers": kafka.address("sasl_ssl"), "security.protocol": "sasl_ssl",
                      "ssl.ca.location": str(kafka.tls / "ca.crt"), "sasl.mechanisms": mechanism,
                      "sasl.username": "relay", "reconnect.backoff.max.ms": 500, **more},
            "kafka_files": {"sasl.password": str(password_file)}}


def refused(relay, *words):
    """Waits until /readyz says 503 and gives these words as Kafka's reason."""
    def says():
        status, text = relay.http("/readyz")
        reason = json.loads(text)["checks"]["waiting_for"].get("kafka", "")
        return status == 503 and all(word in reason for word in words)

    eventually(says, what=f"/readyz says {words} of Kafka")


def told_nothing_of(relay, *secrets):
    told = relay.log_text() + relay.http("/status")[1] + relay.http("/readyz")[1] + relay.http("/metrics")[1]
    told += relay.command("print-config").stdout
    for secret in secrets:
        assert secret not in told


def verified(relay, database, topic, environment=None):
    """A short run of `verify`, as the application, with the relay's settings for Kafka."""
    return relay.command("verify", "--set", f"postgres.dsn={database.dsn('outbox_app')}", "--topic", topic,
                         "--rate", "200", "--duration", "1s", "--timeout", "10s",
                         env={**os.environ, **(environment or {})})


def ends_well(relay, writers, database, kafka, topic):
    finish(relay, writers.finish(), database, Consumer(kafka.bootstrap), topic, writers.in_doubt())


# --- what is right ---

def test_a_topic_that_may_not_be_written_stops_its_own_rows_alone(relay, kafka, database, topic, password_file):
    forbidden = f"{topic}-forbidden"
    kafka.create_topic(forbidden)
    kafka.forbid_writing(forbidden, "relay")
    writer = database.writer()
    waiting = writer.insert_many([(forbidden, f"key-{number % 10}", b"x", None) for number in range(500)])
    flowing = writer.insert_many([(topic, f"key-{number % 10}", b"x", None) for number in range(500)])
    writer.commit()
    one = relay(by_password(kafka, password_file)).start()
    eventually(lambda: database.backlog() == 500)
    consumer = Consumer(kafka.bootstrap)
    assert_once_in_order(flowing, consumer.read(topic))
    eventually(lambda: one.log(event="circuit_open", circuit=forbidden, reason="TOPIC_AUTHORIZATION_FAILED"))
    assert one.http("/readyz")[0] == 200
    kafka.forbid_nothing(forbidden)
    eventually(lambda: database.backlog() == 0)
    assert one.log(event="circuit_closed", circuit=forbidden)
    assert_once_in_order(waiting, consumer.read(forbidden))
    assert database.dead_letters() == 0
    assert one.stop() == 0


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-512"])
def test_a_login_by_password_over_tls(relay, kafka, database, load, topic, password_file, mechanism):
    # The system's librdkafka may be older than 2.6.1, whose SCRAM Kafka 4 turns down.
    environment = newer_librdkafka() if mechanism.startswith("SCRAM") else None
    one = relay(by_password(kafka, password_file, mechanism)).start(environment=environment).wait_ready()
    writers = load(writers=2, keys=100, transactions=50, rows=20)
    told_nothing_of(one, kafka.password)
    ends_well(one, writers, database, kafka, topic)


def test_a_login_by_certificate(relay, kafka, database, load, topic):
    one = relay({"kafka": {"bootstrap.servers": kafka.address("ssl"), "security.protocol": "ssl",
                           "ssl.ca.location": str(kafka.tls / "ca.crt")},
                 "kafka_files": {"ssl.certificate.pem": str(kafka.tls / "client.crt"),
                                 "ssl.key.pem": str(kafka.tls / "client.key")}}).start().wait_ready()
    ends_well(one, load(writers=2, keys=100, transactions=50, rows=20), database, kafka, topic)


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-512"])
def test_verify_reads_back_over_tls_with_a_login(relay, kafka, database, topic, password_file, mechanism):
    environment = newer_librdkafka() if mechanism.startswith("SCRAM") else None
    one = relay(by_password(kafka, password_file, mechanism)).start(environment=environment).wait_ready()
    done = verified(one, database, topic, environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "seen        0:" not in done.stdout
    assert "0 lost, 0 phantom, 0 reordered, 0 duplicated" in done.stdout
    assert done.stdout.endswith("kept\n")
    assert kafka.password not in done.stdout + done.stderr
    assert one.stop() == 0


# --- what is wrong ---

def test_a_broker_that_has_another_hosts_certificate_gets_nothing(relay, kafka, database, topic):
    one = relay({"kafka": {"bootstrap.servers": kafka.address("misnamed"), "security.protocol": "ssl",
                           "ssl.ca.location": str(kafka.tls / "ca.crt")}}).start()
    database.writer().publish(topic, "key")
    refused(one, "certificate", "name")
    assert Consumer(kafka.bootstrap).read(topic) == []
    assert database.backlog() == 1
    assert database.dead_letters() == 0
    asked = one.command("check")
    assert asked.returncode == 4, asked.stdout + asked.stderr
    assert "certificate" in asked.stdout + asked.stderr


def test_a_broker_whose_authority_is_unknown_gets_nothing_until_the_file_is_mended(relay, kafka, database, load, topic,
                                                                                   password_file, tmp_path):
    authority = tmp_path / "ca.crt"
    authority.write_bytes((kafka.tls / "other-ca.crt").read_bytes())
    one = relay(by_password(kafka, password_file, **{"ssl.ca.location": str(authority)})).start()
    writers = load(writers=1, keys=10, transactions=20, rows=10)
    refused(one, "certificate")
    assert database.dead_letters() == 0
    authority.write_bytes((kafka.tls / "ca.crt").read_bytes())
    one.wait_ready()
    ends_well(one, writers, database, kafka, topic)


def test_a_wrong_password_is_refused_until_the_file_is_mended(relay, kafka, database, load, topic, password_file):
    password_file.write_text("not-the-password")
    one = relay(by_password(kafka, password_file)).start()
    writers = load(writers=1, keys=10, transactions=20, rows=10)
    refused(one, "uthentication")
    told_nothing_of(one, "not-the-password")
    assert database.dead_letters() == 0
    password_file.write_text(kafka.password)
    one.wait_ready()
    assert len(one.log(event="credentials_changed")) == 1
    ends_well(one, writers, database, kafka, topic)


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-512"])
def test_verify_with_a_wrong_password_says_so(relay, kafka, database, topic, password_file, mechanism):
    environment = newer_librdkafka() if mechanism.startswith("SCRAM") else None
    password_file.write_text("not-the-password")
    done = verified(relay(by_password(kafka, password_file, mechanism)), database, topic, environment)
    assert done.returncode == 4, done.stdout + done.stderr
    assert f"cannot read the topic {topic}" in done.stderr
    assert "uthentication" in done.stderr
    assert "not-the-password" not in done.stdout + done.stderr
    assert database.backlog() == 0


# --- what changes ---

@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-512"])
def test_a_password_changed_at_the_broker_and_in_the_file(relay, kafka, database, load, topic, password_file, mechanism):
    environment = newer_librdkafka() if mechanism.startswith("SCRAM") else None
    old, new = kafka.password, f"another-{mechanism}"
    one = relay(by_password(kafka, password_file, mechanism)).start(environment=environment).wait_ready()
    writers = load(writers=2, keys=100, rows=10, rows_per_second=500)
    delivered(one, 200)
    kafka.change_password(new)
    kafka.stop()  # the connections there are would stay good
    kafka.start()
    refused(one, "uthentication")
    password_file.write_text(new)
    before = deleted(one)
    one.wait_ready()
    eventually(lambda: deleted(one) > before + 200, timeout=60)
    told_nothing_of(one, old, new)
    ends_well(one, writers, database, kafka, topic)


def test_a_new_certificate_for_the_relay_is_taken_up_without_losing_a_row(relay, kafka, database, load, topic, tmp_path):
    certificate = tmp_path / "client.pem"
    certificate.write_bytes((kafka.tls / "client.crt").read_bytes())
    one = relay({"kafka": {"bootstrap.servers": kafka.address("ssl"), "security.protocol": "ssl",
                           "ssl.ca.location": str(kafka.tls / "ca.crt")},
                 "kafka_files": {"ssl.certificate.pem": str(certificate),
                                 "ssl.key.pem": str(kafka.tls / "client.key")}}).start().wait_ready()
    writers = load(writers=2, keys=100, rows=10, rows_per_second=1000)
    delivered(one, 500)
    # The same certificate, with the authority's behind it.
    certificate.write_bytes((kafka.tls / "client.crt").read_bytes() + (kafka.tls / "ca.crt").read_bytes())
    eventually(lambda: one.log(event="credentials_changed"))
    delivered(one, 1000)
    ends_well(one, writers, database, kafka, topic)
