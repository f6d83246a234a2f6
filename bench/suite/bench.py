"""What the steps share: a Postgres and a Kafka of the suite's own, backlogs, relays, and what a drain costs."""
import contextlib
import itertools
import json
import os
import pathlib
import re
import subprocess
import sys
import time

from harness.kafka import KafkaBroker
from harness.postgres import PostgresServer
from harness.relay import Relay, run_command
from harness.waiting import eventually

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "release"
TICK = os.sysconf("SC_CLK_TCK")
ROLE = "outbox_relay"
CALM = 0.02  # of the cores' time stolen: a run can be told apart from others then
ALLOCATOR = "jemalloc"  # the relay's, which its halves have to have as well
TEN_THOUSAND_KEYS = "'key-' || i % 10000"

# As JSON compresses, so does this: in every 75 bytes 32 hexadecimal digits are random. A thousand of them are more than a
# compressor's window holds. bench_probe has the same.
_PAYLOADS = """CREATE UNLOGGED TABLE payload AS SELECT kind, convert_to(substr(
        (SELECT string_agg('{"id":"' || md5(kind || '-' || part) || '","state":"confirmed","amount":"12.50"},', '')
         FROM generate_series(0, %(payload_bytes)s / 75) AS part), 1, %(payload_bytes)s), 'UTF8') AS body
    FROM generate_series(0, %(kinds)s - 1) AS kind"""


def build():
    subprocess.run(["cmake", "--preset", "release"], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["cmake", "--build", "--preset", "release"], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    os.environ["RELAY_BINARY"] = str(BUILD / "src" / "outbox-relay")


def probe(what, allocator=None, **options):
    arguments = [str(BUILD / "bench" / f"bench_probe{'_' + allocator if allocator else ''}"), what]
    for name, value in options.items():
        arguments += ["--" + name.replace("_", "-"), str(value)]
    done = subprocess.run(arguments, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"bench_probe {what}: {done.stderr}")
    return json.loads(done.stdout)


def cpu_of(pid):
    """CPU seconds of a process, of the children it has collected, and of those it still has."""
    try:
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        children = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except (FileNotFoundError, ProcessLookupError):  # it ended before its file was opened, or before it was read
        return 0.0
    return sum(map(int, fields[11:15])) / TICK + sum(cpu_of(child) for child in children)


def rss_mb(pid):
    """The most it ever had, in millions of bytes."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) * 1024 / 1e6


class StolenTime:
    """What the hypervisor gives to other machines from now on, while this one would run."""

    def __init__(self):
        self._stolen, self._all = self._now()

    @staticmethod
    def _now():
        ticks = list(map(int, pathlib.Path("/proc/stat").read_text().splitlines()[0].split()[1:9]))
        return ticks[7], sum(ticks)

    def share(self):
        """Of what all cores could have done."""
        stolen, everything = self._now()
        return (stolen - self._stolen) / max(everything - self._all, 1)


def calmest(measure, tries=3):
    """Figures taken while other machines had more than CALM of the cores say more of them than of what is measured: it
    goes again, `tries` times at most, and the run they took least from counts. All are told in "runs"."""
    runs = []
    while len(runs) < tries and not any(run["stolen"] <= CALM for run in runs):
        runs.append(measure())
    chosen = min(runs, key=lambda run: run["stolen"])
    told = [{name: run[name] for name in ("stolen", "events_per_second", "rows_per_second") if name in run} for run in runs]
    return {**chosen, "runs": told}


class Bench:
    def __init__(self, rows, quick=False):
        self.rows = rows
        self.quick = quick  # only to see that everything works: the figures mean nothing
        self._serial = itertools.count(1)
        self._relays = []
        self.postgres = PostgresServer({"shared_buffers": "'1GB'", "max_wal_size": "'8GB'", "fsync": "on",
                                        "checkpoint_timeout": "'30min'",
                                        "shared_preload_libraries": "'pg_stat_statements'"})
        self.kafka = KafkaBroker(jvm="-Xmx1g -Xms512m -XX:+UseSerialGC")
        self._reach(self.postgres.directory, self.postgres.port)

    def _reach(self, host, port):
        self.dsn = f"host={host} port={port} dbname=bench user=postgres"
        self.relay_dsn = f"host={host} port={port} dbname=bench user={ROLE}"

    @contextlib.contextmanager
    def postgres_at(self, host, port):
        """Meanwhile relays and peers go there to reach the suite's Postgres; the suite itself does not."""
        self._reach(host, port)
        try:
            yield
        finally:
            self._reach(self.postgres.directory, self.postgres.port)

    def start(self):
        self.postgres.start()
        self.kafka.start()
        self.postgres.create_database("bench")
        self.execute("CREATE EXTENSION pg_stat_statements")
        self.execute(f"CREATE ROLE {ROLE} LOGIN")  # one of its own, so that its statements can be told apart
        done = run_command("migrate", "up", "--grant-relay", ROLE, "--set", f"postgres.dsn={self.dsn}")
        if done.returncode != 0:
            raise RuntimeError(done.stdout + done.stderr)
        # The broker's virtual machine takes three times the CPU for its first ten to twenty million rows, and for the
        # first of a drain once more: there the requests are others.
        for compression in ("none", "lz4"):
            with self.topic() as topic:
                probe("kafka", bootstrap=self.kafka.bootstrap, topic=topic, rows=self.rows, compression=compression)
            with self.topic() as topic:
                self.load(topic)
                self.drain(self.relay(compression))
        return self

    def close(self):
        self.end_relays()
        try:
            self.kafka.remove()
        finally:
            self.postgres.remove()

    def execute(self, statement, parameters=None):
        return self.postgres.execute(statement, parameters, database="bench")

    # --- what is measured with ---

    def cpu(self):
        return {"postgres": cpu_of(self.postgres._process.pid), "broker": cpu_of(self.kafka.pid)}

    def cpu_per_million(self, before, rows):
        return {name: 1e6 * (seconds - before[name]) / rows for name, seconds in self.cpu().items()}

    def wal_position(self):
        return int(self.execute("SELECT pg_current_wal_lsn() - '0/0'::pg_lsn")[0][0])

    def forget_statements(self):
        self.execute("SELECT pg_stat_statements_reset()")

    def statements(self):
        """What relays have executed since, by kind."""
        kinds = {"read": 0, "delete": 0, "update_of_message": 0, "other": 0}
        for text, calls in self.execute(
                "SELECT query, calls FROM pg_stat_statements WHERE userid = %s::regrole", (ROLE,)):
            if re.search(r"UPDATE\s+(ONLY\s+)?outbox\.message\b", text):
                kinds["update_of_message"] += calls
            elif re.search(r"DELETE FROM outbox\.message\b", text):
                kinds["delete"] += calls
            elif re.search(r"FROM outbox\.message\b", text):
                kinds["read"] += calls
            else:
                kinds["other"] += calls
        return kinds

    # --- topics, backlogs, relays ---

    @contextlib.contextmanager
    def topic(self, partitions=8):
        """A fresh topic; its log goes away with it."""
        name = f"bench-{next(self._serial)}"
        self.kafka.create_topic(name, partitions)
        try:
            yield name
        finally:
            self.kafka.delete_topic(name)

    def load(self, topic, rows=None, payload_bytes=200, key=TEN_THOUSAND_KEYS, per_transaction=100, keep=False):
        """A backlog. `topic` is a name or, with %, a format of i % 1000; `key` is SQL over i, the row's number. Then a
        checkpoint, so that every run starts alike. `keep` adds to what is there."""
        rows = rows or self.rows
        if not keep:
            self.execute("TRUNCATE outbox.message")
        kinds = max(1, min(1000, 20_000_000 // payload_bytes))
        values = {"rows": rows, "topic": topic, "payload_bytes": payload_bytes, "kinds": kinds, "per": per_transaction}
        connection = self.postgres.connect("bench")
        with contextlib.closing(connection), connection.cursor() as cursor:
            cursor.execute("SET synchronous_commit = off")  # the checkpoint is what counts
            cursor.execute("DROP TABLE IF EXISTS payload")
            cursor.execute(_PAYLOADS, values)
            cursor.execute("ALTER TABLE payload ADD PRIMARY KEY (kind)")
            cursor.execute("ANALYZE payload")
            cursor.execute(f"""DO $$ BEGIN FOR batch IN 0..%(rows)s - 1 BY %(per)s LOOP
                INSERT INTO outbox.message (topic, key, payload)
                SELECT format(%(topic)s, i %% 1000), {key.replace('%', '%%')}, body
                FROM generate_series(batch, least(batch + %(per)s, %(rows)s) - 1) AS i
                JOIN payload ON kind = i %% %(kinds)s ORDER BY i; COMMIT; END LOOP; END $$""", values)
            cursor.execute("VACUUM ANALYZE outbox.message")
            cursor.execute("CHECKPOINT")

    def relay(self, compression="none", **tables):
        self._relays.append(Relay(self.relay_dsn, self.kafka.bootstrap,
                                  {"kafka": {"compression.type": compression}, "log": {"level": "info"}, **tables},
                                  self.kafka.directory))
        return self._relays[-1]

    def end_relays(self):
        """Those that a step which failed has left behind."""
        for relay in self._relays:
            if relay.running():
                relay.kill()
        self._relays = []

    def drain(self, relays, rows=None, started=None, also=False):
        """Starts the relays, or calls `started` where they run, and waits until all rows are delivered and deleted:
        what it took. With `also` other rows come meanwhile, and not all need be gone in the end."""
        rows = rows or self.rows
        relays = relays if isinstance(relays, list) else [relays]
        cpu, wal = self.cpu(), self.wal_position()
        running = [relay for relay in relays if relay.running()]
        before, deleted = sum(map(delivered, running)), total(running, "outbox_rows_deleted_total")
        updated = self._rows_updated()
        self.forget_statements()
        relays_cpu = -sum(cpu_of(relay.process.pid) for relay in running)
        stolen = StolenTime()
        begin = time.monotonic()
        if started:
            started()
        else:
            for relay in relays:
                relay.start()
        samples = self._samples(relays, rows, before)
        eventually(lambda: total(relays, "outbox_rows_deleted_total") - deleted >= rows, 120, "all is deleted")
        relays_cpu += sum(cpu_of(relay.process.pid) for relay in relays)
        first_at = samples[0][0]
        figures = {
            "events_per_second": rate(samples) or rate([(begin, 0), samples[0]]),  # all of them in one sample
            "first_event_after_seconds": first_at - begin,
            "stolen": stolen.share(),
            "cpu_seconds_per_million": {"relay": 1e6 * relays_cpu / rows, **self.cpu_per_million(cpu, rows)},
            "relay_rss_mb": max(rss_mb(relay.process.pid) for relay in relays),
            "wal_bytes_per_event": (self.wal_position() - wal) / rows,
            "statements": self.statements(),
        }
        if not also:
            figures["delivered_more_than_once"] = sum(map(delivered, relays)) - before - rows
        for relay in relays:
            if relay.stop() != 0:
                raise RuntimeError(f"the relay ended with {relay.process.returncode}: {relay.log_text()[-2000:]}")
        if not also and self.execute("SELECT count(*) FROM outbox.message") != [(0,)]:
            raise RuntimeError("rows are left")
        figures["message_rows_updated"] = self._rows_updated() - updated
        figures["events_per_delete"] = rows / max(figures["statements"]["delete"], 1)
        self.last_samples = samples
        return figures

    @staticmethod
    def _samples(relays, rows, before):
        """(time, delivered by then) from the first row to the last."""
        samples = []
        deadline = time.monotonic() + 900
        while not samples or samples[-1][1] < rows:
            if time.monotonic() > deadline:
                raise RuntimeError(f"not drained after a quarter of an hour: {samples[-1:]}")
            for relay in relays:
                if not relay.running():
                    raise RuntimeError(f"a relay ended: {relay.log_text()[-2000:]}")
            count = sum(map(delivered, relays)) - before
            if count > 0:
                samples.append((time.monotonic(), count))
            time.sleep(0.1)
        return samples

    def _rows_updated(self):
        return self.execute("SELECT n_tup_upd FROM pg_stat_user_tables WHERE relid = 'outbox.message'::regclass")[0][0]


def delivered(relay):
    """So far, over all topics; 0 while it does not answer yet."""
    try:
        return int(relay.metric("outbox_messages_delivered_total"))
    except OSError:
        return 0


def rate(samples):
    (first_at, first), (last_at, last) = samples[0], samples[-1]
    return (last - first) / (last_at - first_at) if last_at > first_at else 0.0


def total(relays, metric):
    return sum(relay.metric(metric) for relay in relays)


def say(text):
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)
