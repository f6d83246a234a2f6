"""Kafka Connect with Debezium's outbox event router, and the settings it is measured with."""
import json
import pathlib
import subprocess
import tempfile
import time
import urllib.request

from harness.waiting import eventually, free_port

ROOT = pathlib.Path(__file__).resolve().parents[2]

# Only how often offsets are stored is not the default: after 60 s of none, each restart sends much of it again.
DEFAULTS = {}
THROUGHPUT = {
    "max.batch.size": "20480",
    "max.queue.size": "81920",
    "poll.interval.ms": "5",
    "extended.headers.enabled": "false",
    "producer.override.linger.ms": "10",
    "producer.override.batch.size": "524288",
    "producer.override.compression.type": "lz4",
    "producer.override.buffer.memory": "134217728",
    "producer.override.enable.idempotence": "true",
    "producer.override.max.in.flight.requests.per.connection": "5",
}
LATENCY = {**THROUGHPUT, "poll.interval.ms": "1", "producer.override.linger.ms": "0"}
DEFAULT_JVM = ["-Xms256m", "-Xmx2g"]
TUNED_JVM = ["-Xms2g", "-Xmx2g", "-XX:+UseParallelGC"]


class Connect:
    """Kafka Connect, standalone, with one Debezium connector that is stopped and resumed over REST."""

    def __init__(self, postgres, kafka, jvm):
        self.postgres = postgres
        self.kafka = kafka
        self.jvm = jvm
        self.port = free_port()
        self.directory = None
        self.process = None

    def __enter__(self):
        self.directory = tempfile.TemporaryDirectory(prefix="outbox-relay-debezium.")
        folder = pathlib.Path(self.directory.name)
        (folder / "worker.properties").write_text("\n".join([
            f"bootstrap.servers={self.kafka.bootstrap}",
            f"listeners=http://127.0.0.1:{self.port}",
            "key.converter=org.apache.kafka.connect.storage.StringConverter",
            "value.converter=org.apache.kafka.connect.storage.StringConverter",
            f"offset.storage.file.filename={folder}/offsets",
            "offset.flush.interval.ms=1000"]) + "\n")
        (folder / "log4j2.properties").write_text("\n".join([
            "rootLogger.level = warn",
            "rootLogger.appenderRef.out.ref = out",
            "appender.out.type = Console",
            "appender.out.name = out",
            "appender.out.layout.type = PatternLayout",
            "appender.out.layout.pattern = %d %p %m (%c{1})%n"]) + "\n")
        libs = subprocess.run([ROOT / "scripts" / "debezium"], check=True, stdout=subprocess.PIPE,
                              text=True).stdout.strip()
        with open(folder / "log", "wb") as log:
            self.process = subprocess.Popen(
                ["java", f"-Dlog4j2.configurationFile={folder}/log4j2.properties", *self.jvm, "-cp", f"{libs}/*",
                 "org.apache.kafka.connect.cli.ConnectStandalone", str(folder / "worker.properties")],
                cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        try:
            self._eventually(lambda: self._ask("GET", "/connectors") is not None, "Connect answers")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        try:
            self.process.terminate()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            # What it leaves in Postgres would make whoever comes next read, or keep, this one's WAL.
            eventually(lambda: self._slot() != (True,), 30, "the slot is free")
            self.postgres.execute("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots",
                                  database="bench")
            self.postgres.execute("DROP PUBLICATION IF EXISTS dbz_publication", database="bench")
        finally:
            self.directory.cleanup()

    @property
    def pid(self):
        return self.process.pid

    def configure(self, settings):
        """A new connector runs at once, one that is stopped waits for resume()."""
        self._ask("PUT", "/connectors/outbox/config", {
            "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
            "tasks.max": "1",
            "database.hostname": "127.0.0.1",
            "database.port": str(self.postgres.port),
            "database.user": "postgres",
            "database.password": "",
            "database.dbname": "bench",
            "topic.prefix": "bench",
            "plugin.name": "pgoutput",
            "snapshot.mode": "no_data",
            "table.include.list": "public.outboxevent",
            "transforms": "outbox",
            "transforms.outbox.type": "io.debezium.transforms.outbox.EventRouter",
            **settings})

    def wait_until_it_reads(self):
        self._eventually(lambda: self._slot() == (True,), "the slot is read")

    def stop(self):
        # It stores what it has sent once a second; what is not stored is sent again.
        time.sleep(3)
        self._ask("PUT", "/connectors/outbox/stop")
        self._eventually(lambda: self._slot() == (False,), "the slot is free")

    def resume(self):
        self._ask("PUT", "/connectors/outbox/resume")

    def _slot(self):
        return next(iter(self.postgres.execute("SELECT active FROM pg_replication_slots")), None)

    def _eventually(self, condition, what):
        def still_running():
            if self.process.poll() is not None:
                raise RuntimeError(f"Connect ended with {self.process.returncode}")
            return condition()

        try:
            eventually(still_running, 60, what, interval=0.1)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log_text()[-3000:]}") from error

    def log_text(self):
        return (pathlib.Path(self.directory.name) / "log").read_text(errors="replace")

    def _ask(self, method, path, body=None):
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", method=method,
                                         data=None if body is None else json.dumps(body).encode(),
                                         headers={"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=90) as answer:
            return json.loads(answer.read() or b"null")
