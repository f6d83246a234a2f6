"""The relay beside Debezium's outbox event router: same machine, same Postgres, same broker, the same rows in turn.

Each has its own table (outbox.message; the shape Debezium expects by default), with the same keys and payloads. Rates
are read from the ends of the topic, first to last message, which knows neither of the two. A JVM is kept for all that
is asked of one set of settings, and its first drain is not counted. Postgres is a server of this step's own, as
Debezium needs wal_level = logical; the relay is measured on that one as well.
"""
import concurrent.futures
import contextlib
import os
import tempfile
import time

from harness.postgres import PostgresServer
from harness.relay import Relay, run_command
from harness.waiting import eventually

from . import connect
from .bench import cpu_of, probe, rss_mb, say

KEYS = 10_000
FILLER = " state: confirmed, currency: EUR, net: 2.50"
PARTITIONS = 8
EVENTS_PER_SECOND = 1000  # where latency is measured
ROWS_OF_PROBE = "generate_series($1::text::int8, $1::text::int8 + $2::text::int8 - 1) AS n"
ROWS_A_TRANSACTION = {"one_row_a_transaction": 1, "100_rows_a_transaction": 100}
NOT_THE_SAME_WORK = ("Debezium deletes nothing: its rows stay in the table until something else removes them. "
                     "The relay's figures include its deletes.")


class Comparison:
    def __init__(self, kafka, rows, payload_bytes, latency_seconds):
        self.kafka = kafka
        self.rows = rows
        self.payload_bytes = payload_bytes
        self.latency_rows = latency_seconds * EVENTS_PER_SECOND
        self.postgres = PostgresServer({"wal_level": "logical", "shared_buffers": "'1GB'", "max_wal_size": "'8GB'",
                                        "fsync": "on", "checkpoint_timeout": "'30min'"})
        self.dsn = f"host={self.postgres.directory} port={self.postgres.port} dbname=bench user=postgres"
        self.drains = {}
        self.latencies = {}

    def start(self):
        self.postgres.start()
        self.postgres.create_database("bench")
        done = run_command("migrate", "up", "--set", f"postgres.dsn={self.dsn}")
        if done.returncode != 0:
            raise RuntimeError(done.stdout + done.stderr)
        self.postgres.execute("""CREATE TABLE outboxevent (id uuid PRIMARY KEY, aggregatetype varchar(255) NOT NULL,
            aggregateid varchar(255) NOT NULL, type varchar(255) NOT NULL, payload jsonb)""", database="bench")

    # --- rows ---

    def insert(self, table, topic, rows):
        """A statement that writes a row for each n of `rows`, for either table with the same key and payload."""
        # As the suite's other payloads: 32 hexadecimal digits in every 75 bytes are a row's own.
        filled = self.payload_bytes - len('{"n": , "pad": ""}')
        pad = f"""(SELECT substr(string_agg(md5(n || '-' || part) || '{FILLER}', ''), 1, {filled} - length(n::text))
            FROM generate_series(0, {self.payload_bytes // 75}) AS part)"""
        payload = f"""('{{"n": ' || n || ', "pad": "' || {pad} || '"}}')"""
        key = f"'key-' || n % {KEYS}"
        if table == "outbox.message":
            return f"""INSERT INTO outbox.message (topic, key, payload)
                SELECT '{topic}', {key}, convert_to({payload}, 'UTF8') FROM {rows}"""
        return f"""INSERT INTO outboxevent (id, aggregatetype, aggregateid, type, payload)
            SELECT gen_random_uuid(), '{topic}', {key}, 'created', {payload}::jsonb FROM {rows}"""

    def empty(self, table):
        """A steady state and not the last step's aftermath: a vacuumed table, nothing that waits to be written."""
        self.postgres.execute(f"TRUNCATE {table}", database="bench")
        self.settle(table)

    def settle(self, table):
        self.postgres.execute(f"VACUUM ANALYZE {table}", database="bench")
        self.postgres.execute("CHECKPOINT", database="bench")
        os.sync()

    def load(self, table, topic, rows_a_transaction):
        """A backlog, written by two sessions: a million transactions take their time."""
        self.postgres.execute(f"TRUNCATE {table}", database="bench")
        insert = self.insert(table, topic, f"generate_series(i, i + {rows_a_transaction - 1}) AS n")

        def write(first):
            with contextlib.closing(self.postgres.connect("bench")) as connection, connection.cursor() as cursor:
                cursor.execute("SET synchronous_commit = off")
                cursor.execute(f"""DO $$ BEGIN FOR i IN {first}..{self.rows - 1} BY {2 * rows_a_transaction} LOOP
                    {insert}; COMMIT; END LOOP; END $$""")

        with concurrent.futures.ThreadPoolExecutor() as sessions:
            list(sessions.map(write, (0, rows_a_transaction)))
        self.settle(table)

    # --- measuring ---

    def end_of(self, topic):
        return self.kafka.end_of(topic, PARTITIONS)

    def drained(self, start, pid, topic, emptied=lambda: True):
        """`start` lets somebody read the backlog; `pid` says who that is, once it runs."""
        servers = {"postgres": self.postgres._process.pid, "broker": self.kafka.pid}
        before = {name: cpu_of(server) for name, server in servers.items()}
        cpu_before = cpu_of(pid()) if pid() else 0.0
        started = time.monotonic()
        start()
        first_rows = eventually(lambda: self.end_of(topic), 60, f"the first message is in {topic}")
        first_at = time.monotonic()
        eventually(lambda: self.end_of(topic) >= self.rows, 900, f"all messages are in {topic}")
        done = time.monotonic()
        eventually(emptied, 60, "all rows are deleted")
        per_million = 1e6 / self.rows
        return {
            "events_per_second": (self.rows - first_rows) / (done - first_at),
            "first_event_after_seconds": first_at - started,
            "cpu_seconds_per_million": (cpu_of(pid()) - cpu_before) * per_million,
            **{f"{name}_cpu_seconds_per_million": (cpu_of(server) - before[name]) * per_million
               for name, server in servers.items()},
            "rss_mb": rss_mb(pid()),
        }

    def probe_latency(self, topic, insert):
        # The first run is not counted: it is what warms a JVM up at this rate.
        for rows in (5 * EVENTS_PER_SECOND, self.latency_rows):
            figures = probe("latency", dsn=self.dsn, bootstrap=self.kafka.bootstrap, topic=topic, rows=rows,
                            rate=EVENTS_PER_SECOND, insert=insert)
        return figures

    # --- the relay ---

    def relay(self):
        say("  relay, warm-up")  # of the broker, which is a JVM as well
        self.relay_drain("relay-warm-up", 100)
        for shape, rows_a_transaction in ROWS_A_TRANSACTION.items():
            say(f"  relay, {shape}")
            figures = self.relay_drain(f"relay-{rows_a_transaction}", rows_a_transaction)
            self.drains.setdefault(shape, {})["relay"] = figures

    def relay_drain(self, topic, rows_a_transaction):
        self.kafka.create_topic(topic, PARTITIONS)
        self.load("outbox.message", topic, rows_a_transaction)
        with self.new_relay() as relay:
            figures = self.drained(relay.start, lambda: relay.process and relay.process.pid, topic, self.nothing_left)
        figures["sent_more_than_once"] = self.end_of(topic) - self.rows
        self.kafka.delete_topic(topic)
        return figures

    def relay_latency(self):
        say("  relay, latency")
        self.kafka.create_topic("relay-latency", PARTITIONS)
        self.empty("outbox.message")
        with self.new_relay() as relay:
            relay.start().wait_ready()
            self.latencies["relay"] = self.probe_latency(
                "relay-latency", self.insert("outbox.message", "relay-latency", ROWS_OF_PROBE))
        self.kafka.delete_topic("relay-latency")

    @contextlib.contextmanager
    def new_relay(self):
        relay = Relay(self.dsn, self.kafka.bootstrap, {"log": {"level": "info"}}, directory=self.scratch)
        try:
            yield relay
            if relay.stop() != 0:
                raise RuntimeError(f"the relay failed:\n{relay.log_text()[-3000:]}")
        finally:
            if relay.running():
                relay.kill()

    def nothing_left(self):
        return self.postgres.execute("SELECT count(*) FROM outbox.message", database="bench") == [(0,)]

    # --- Debezium ---

    def debezium(self, name, jvm, settings, latency=None):
        """All drains with `settings`, then the latency with those of `latency`, by one JVM."""
        say(f"  {name}, start and warm-up")
        with connect.Connect(self.postgres, self.kafka, jvm) as running:
            running.configure(settings)
            running.wait_until_it_reads()
            # Until it has sent something it has no place to resume from, and would begin after the backlog.
            first = f"outbox.event.{name}-first"
            self.kafka.create_topic(first, PARTITIONS)
            self.postgres.execute(self.insert("outboxevent", f"{name}-first", "generate_series(0, 0) AS n"),
                                  database="bench")
            eventually(lambda: self.end_of(first) == 1, 60, "Debezium sends")
            running.stop()
            self.debezium_drain(running, f"{name}-warm-up", 100)
            for shape, rows_a_transaction in ROWS_A_TRANSACTION.items():
                say(f"  {name}, {shape}")
                figures = self.debezium_drain(running, f"{name}-{rows_a_transaction}", rows_a_transaction)
                self.drains.setdefault(shape, {})[name] = figures
            if latency is not None:
                self.debezium_latency(running, latency)

    def debezium_drain(self, running, aggregate, rows_a_transaction):
        topic = f"outbox.event.{aggregate}"
        self.kafka.create_topic(topic, PARTITIONS)
        self.load("outboxevent", aggregate, rows_a_transaction)
        figures = self.drained(running.resume, lambda: running.pid, topic)
        running.stop()
        figures["sent_more_than_once"] = self.end_of(topic) - self.rows
        self.kafka.delete_topic(topic)
        return figures

    def debezium_latency(self, running, settings):
        say("  debezium, latency")
        topic = "outbox.event.latency"
        self.kafka.create_topic(topic, PARTITIONS)
        self.empty("outboxevent")
        running.configure(settings)
        running.resume()
        running.wait_until_it_reads()
        self.latencies["debezium_tuned_for_latency"] = self.probe_latency(
            topic, self.insert("outboxevent", "latency", ROWS_OF_PROBE))

    # --- results ---

    def figures(self):
        return {
            "rows": self.rows,
            "payload_bytes": self.payload_bytes,
            "drains": self.drains,
            "relay_to_debezium": {shape: {name: ratios(drains["relay"], drains[name])
                                          for name in drains if name != "relay"}
                                  for shape, drains in self.drains.items()},
            "latency_at_1000_per_second": self.latencies,
            "relay_to_debezium_latency": {at: self.latencies["relay"][at]
                                          / self.latencies["debezium_tuned_for_latency"][at]
                                          for at in ("p50_ms", "p99_ms", "p999_ms")},
            "not_the_same_work": NOT_THE_SAME_WORK,
        }

    def run(self):
        with tempfile.TemporaryDirectory(prefix="outbox-relay-debezium.") as self.scratch:
            try:
                self.start()
                self.relay()
                self.relay_latency()
                self.debezium("debezium_defaults", connect.DEFAULT_JVM, connect.DEFAULTS)
                self.debezium("debezium_tuned_for_throughput", connect.TUNED_JVM, connect.THROUGHPUT,
                              connect.LATENCY)
            finally:
                self.postgres.remove()
        return self.figures()


def ratios(relay, debezium):
    return {figure: relay[figure] / debezium[figure]
            for figure in ("events_per_second", "cpu_seconds_per_million", "rss_mb")}


def measure(bench):
    return Comparison(bench.kafka, min(1_000_000, bench.rows // 100 * 100), 200, 2 if bench.quick else 15).run()
