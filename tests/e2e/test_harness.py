"""The harness itself: what the other tests rely on must be able to fail. Needs Postgres, Kafka and kcat, not the relay."""
import socket
import subprocess
import threading
import time
import tomllib

import psycopg2
import pytest

from harness import relay as relay_module
from harness.consumer import Consumer, ConsumerError
from harness.fault_proxy import FaultProxy
from harness.outbox import Load
from harness.verifier import CommittedRow, verify
from harness.waiting import eventually


# --- the verifier ---

class Seen:
    def __init__(self, event_id, key="k", topic="t", offset=None):
        self.event_id, self.key, self.topic = event_id, None if key is None else key.encode(), topic
        self.partition, self.offset, self.timestamp_ms = 0, ord(event_id) if offset is None else offset, 0


A, B, C = (CommittedRow(number, name, "t", "k") for number, name in enumerate("abc", start=1))


def test_all_rows_once_and_in_order_are_right():
    assert verify([A, B, C], [Seen("a"), Seen("b"), Seen("c")]).delivered_once_in_order()


def test_a_missing_row_is_lost():
    verdict = verify([A, B], [Seen("a")])
    assert verdict.lost == ["b"] and not verdict.delivered_in_order()


def test_an_uncommitted_row_is_a_phantom():
    verdict = verify([A], [Seen("a"), Seen("x")])
    assert verdict.phantom == ["x"] and not verdict.delivered_in_order()


def test_the_wrong_topic_or_key_is_a_phantom():
    verdict = verify([A, B], [Seen("a", topic="other"), Seen("b", key="other")])
    assert verdict.phantom == ["a", "b"] and verdict.lost == ["a", "b"]


def test_a_repeated_row_is_a_duplicate_and_keeps_the_order():
    verdict = verify([A, B], [Seen("a"), Seen("b"), Seen("a", offset=99), Seen("a", offset=100)])
    assert verdict.duplicates == ["a", "a"]
    assert verdict.delivered_in_order() and not verdict.delivered_once_in_order()
    assert "1 of k, 0@99, was at @97 0 ms earlier" in str(verdict)


def test_a_record_that_is_read_twice_was_written_once():
    assert verify([A, B], [Seen("a"), Seen("b"), Seen("a"), Seen("b")]).delivered_once_in_order()


def test_a_first_occurrence_after_a_later_row_of_its_key_is_reordered():
    verdict = verify([A, B, C], [Seen("b"), Seen("a"), Seen("c")])
    assert verdict.reordered == ["a"]
    assert "1 of k, 0@97, came 0 ms after 2, @98" in str(verdict)


def test_other_keys_other_topics_and_no_key_have_no_order():
    rows = [A, CommittedRow(2, "b", "t", "other"), CommittedRow(3, "n", "t", None), CommittedRow(4, "m", "t", None)]
    seen = [Seen("b", key="other"), Seen("m", key=None), Seen("a"), Seen("n", key=None)]
    assert verify(rows, seen).delivered_once_in_order()


def test_a_row_in_doubt_may_be_there_or_not():
    assert verify([A], [Seen("a"), Seen("b")], in_doubt=[B, C]).delivered_once_in_order()


# --- waiting ---

def test_eventually_returns_the_value_and_takes_exceptions_for_not_yet():
    answers = iter([0, None, ValueError(), 7])

    def condition():
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert eventually(condition, timeout=5, interval=0) == 7


def test_eventually_names_what_it_waited_for():
    with pytest.raises(AssertionError, match="the moon.*last: False"):
        eventually(lambda: False, timeout=0.05, what="the moon")


# --- Kafka and the consumer ---

def produce(kafka, topic, payload, *options):
    subprocess.run(["kcat", "-P", "-b", kafka.bootstrap, "-t", topic, "-D", "\\x01\\x02end", *options], input=payload,
                   check=True, capture_output=True)


def test_the_consumer_returns_key_payload_and_headers_as_they_are(kafka, topic, consumer):
    payload = bytes(range(256)) * 3
    produce(kafka, topic, payload, "-k", "schlüssel\nzwei", "-H", "id=1", "-H", "größe=ü,b", "-H", "empty=")
    (record,) = consumer.read(topic)
    assert record.topic == topic
    assert record.key == "schlüssel\nzwei".encode()
    assert record.payload == payload
    assert record.headers == [("id", "1"), ("größe", "ü,b"), ("empty", "")]
    assert record.event_id == "1"


def test_the_consumer_tells_null_from_empty(kafka, topic, consumer):
    produce(kafka, topic, b"k:", "-K", ":", "-Z", "-p", "0")
    produce(kafka, topic, b":x", "-K", ":", "-p", "0")
    produce(kafka, topic, b"y", "-p", "0")
    first, second, third = consumer.read(topic)
    assert (first.key, first.payload) == (b"k", None)
    assert (second.key, second.payload) == (b"", b"x")
    assert (third.key, third.payload) == (None, b"y")


def test_a_partition_is_read_from_an_offset_to_its_end(kafka, topic, consumer):
    for payload in (b"a", b"b", b"c"):
        produce(kafka, topic, payload, "-p", "2")
    assert [record.payload for record in consumer.read_partition(topic, 2, 1)] == [b"b", b"c"]
    assert consumer.read_partition(topic, 2, 3) == []
    assert consumer.read_partition(topic, 1, 0) == []


def test_the_consumer_waits_for_records_and_says_how_many_came(kafka, topic, consumer):
    assert consumer.read(topic) == []
    produce(kafka, topic, b"one")
    assert len(consumer.wait_for(topic, 1)) == 1
    with pytest.raises(AssertionError, match="1 of 2 records"):
        consumer.wait_for(topic, 2, timeout=1)


def test_a_broker_killed_and_started_again_keeps_its_address_and_its_records(kafka, topic, consumer):
    produce(kafka, topic, b"before")
    address = kafka.bootstrap
    kafka.kill()
    kafka.start()
    assert kafka.bootstrap == address
    produce(kafka, topic, b"after")
    assert sorted(record.payload for record in consumer.read(topic)) == [b"after", b"before"]


def test_a_broker_behind_a_proxy_is_reached_only_through_it(kafka, topic):
    through_proxy = Consumer(kafka.proxied)
    produce(kafka, topic, b"x")
    assert len(through_proxy.wait_for(topic, 1)) == 1
    kafka.proxy.refuse()
    with pytest.raises((subprocess.TimeoutExpired, ConsumerError)):
        through_proxy.read(topic, timeout=2)
    kafka.proxy.heal()
    assert len(through_proxy.read(topic)) == 1


def test_topics_are_deleted(kafka, topic):
    kafka.delete_topic(topic)
    kafka.create_topic(topic, partitions=2, max_message_bytes=5000)
    kafka.delete_topic(topic)


# --- Postgres ---

@pytest.mark.parametrize("crash", ["fast", "immediate", "kill"])
def test_postgres_comes_back_with_what_was_committed(postgres, empty_database, crash):
    empty_database.execute("CREATE TABLE kept (n int)")
    empty_database.execute("INSERT INTO kept VALUES (1)")
    if crash == "kill":
        postgres.kill()
    else:
        postgres.stop(crash)
    with pytest.raises(psycopg2.OperationalError):
        postgres.connect()
    postgres.start()
    assert empty_database.execute("SELECT n FROM kept") == [(1,)]


@pytest.fixture
def outbox_table(empty_database):
    """The columns the writers use; the real schema comes with the binary."""
    empty_database.execute("CREATE SCHEMA outbox")
    empty_database.execute("""CREATE TABLE outbox.message (id bigint GENERATED ALWAYS AS IDENTITY,
        event_id uuid DEFAULT gen_random_uuid(), topic text, key text, payload bytea, headers jsonb)""")
    return empty_database


def test_a_writer_remembers_what_was_committed_and_nothing_else(outbox_table):
    writer = outbox_table.writer()
    kept = writer.publish("t", "k", b"\x00\xff", {"größe": "ü"})
    writer.insert("t", "k")
    writer.rollback()
    prepared = writer.insert("t", None, None)
    writer.prepare("half")
    assert writer.committed == [kept]
    writer.commit_prepared("half")
    assert writer.committed == [kept, prepared]
    assert outbox_table.execute("SELECT event_id::text FROM outbox.message ORDER BY id") == [
        (kept.event_id,), (prepared.event_id,)]


def test_a_load_survives_a_restart_of_postgres_and_knows_what_is_in_doubt(outbox_table, postgres):
    load = Load(lambda: postgres.connect(outbox_table.name), "t", writers=2, keys=10, rows=5)
    eventually(lambda: load.count() > 50)
    postgres.restart("immediate")
    before = load.count()
    eventually(lambda: load.count() > before + 50)
    committed = {row.event_id for row in load.finish()}
    doubtful = {row.event_id for row in load.in_doubt()}
    there = {event_id for (event_id,) in outbox_table.execute("SELECT event_id::text FROM outbox.message")}
    assert committed <= there <= committed | doubtful


def test_a_limited_load_writes_its_share_without_every_eleventh_transaction(outbox_table, postgres):
    rows = Load(lambda: postgres.connect(outbox_table.name), "t", writers=2, keys=10, transactions=20, rows=5).finish()
    assert len(rows) == 2 * 19 * 5


# --- the fault proxy ---

@pytest.fixture
def echo():
    """A proxy in front of Postgres would do as well; an echo server says what goes through."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve():
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=(connection,), daemon=True).start()

    def answer(connection):
        with connection:
            try:
                while data := connection.recv(4096):
                    connection.sendall(data)
            except OSError:
                pass

    threading.Thread(target=serve, daemon=True).start()
    proxy = FaultProxy(server.getsockname())
    yield proxy
    proxy.close()
    server.close()


def dial(proxy):
    connection = socket.create_connection(("127.0.0.1", proxy.port), timeout=5)
    connection.sendall(b"hello")
    assert connection.recv(100) == b"hello"
    return connection


def test_the_proxy_cuts_connections_and_takes_new_ones(echo):
    first = dial(echo)
    echo.cut()
    with pytest.raises(ConnectionResetError):
        first.recv(100)
    dial(echo).close()


def test_where_the_proxy_leads_to_may_be_said_later(echo):
    target, known = echo.target, []

    def look_up():
        if not known:
            raise FileNotFoundError("nobody has said so yet")
        return known[0]

    echo.target = look_up
    with socket.create_connection(("127.0.0.1", echo.port), timeout=5) as early:
        assert early.recv(100) == b""
    known.append(target)
    dial(echo).close()


def test_the_proxy_stalls_and_resumes_without_losing_a_byte(echo):
    connection = dial(echo)
    echo.stall()
    connection.sendall(b"later")
    connection.settimeout(0.2)
    with pytest.raises(TimeoutError):
        connection.recv(100)
    echo.resume()
    connection.settimeout(5)
    assert connection.recv(100) == b"later"


def test_the_proxy_refuses_and_accepts_again(echo):
    dial(echo)
    echo.refuse()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", echo.port), timeout=5)
    echo.accept()
    dial(echo).close()


def test_the_proxy_delays(echo):
    connection = dial(echo)
    echo.delay(0.2)
    connection.sendall(b"slow")
    connection.settimeout(0.15)
    with pytest.raises(TimeoutError):
        connection.recv(100)
    connection.settimeout(5)
    assert connection.recv(100) == b"slow"


def test_what_the_proxy_delays_does_not_delay_what_follows_it(echo):
    connection = dial(echo)
    echo.delay(0.5)
    begin = time.monotonic()
    sent = b"x" * (20 << 18)
    threading.Thread(target=connection.sendall, args=(sent,)).start()
    connection.settimeout(30)
    left = len(sent)
    while left > 0:
        left -= len(connection.recv(1 << 20))
    assert time.monotonic() - begin < 5  # one chunk after the other: ten seconds each way


# --- the relay's configuration and metrics ---

def test_the_generated_configuration_is_toml():
    text = relay_module.toml({"kafka": {"bootstrap.servers": "h:1"}, "relay": {"poll_interval": {"min": "2ms"}, "workers": 2},
                              "topics": {"allow": ["a", "b*"]}, "postgres": {"dsn": 'host=/x "quoted" \\ back'}})
    assert tomllib.loads(text) == {
        "kafka": {"bootstrap": {"servers": "h:1"}}, "relay": {"poll_interval": {"min": "2ms"}, "workers": 2},
        "topics": {"allow": ["a", "b*"]}, "postgres": {"dsn": 'host=/x "quoted" \\ back'}}


def test_metrics_are_parsed_with_their_labels():
    samples = relay_module.parse_metrics('# HELP a b\na 1\nb_total{x="1",y="a,\\"}"} 2.5e3\nb_total{x="2"} +Inf 1700000000\n')
    assert samples["a"] == {(): 1.0}
    assert samples["b_total"][(("x", "1"), ("y", 'a,\\"}'))] == 2500.0
    assert samples["b_total"][(("x", "2"),)] == float("inf")
