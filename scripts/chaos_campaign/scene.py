"""The real processes: two Postgres servers, three brokers, up to four relays, and a proxy between each pair of them."""
import json
import os
import pathlib
import pwd
import re
import shutil
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

import psycopg2

from chaos_campaign.load import SCHEMA, TOPIC
from chaos_campaign.schedule import LEASE
from chaos_campaign.watching import Reader
from harness.clock import Clock
from harness.consumer import Consumer
from harness.fault_proxy import FaultProxy
from harness.kafka import KafkaCluster
from harness.postgres import PostgresServer
from harness.relay import Relay, run_command
from harness.waiting import eventually

RELAYS = 4
LANES = 64
PARTITIONS = 6
WINDOW = 1000
DATABASE = "shop"


class Disk:
    """A small disk of its own below `directory`. Where mounting is not permitted it is a folder, and cannot be filled."""

    def __init__(self, directory, megabytes, owner=None):
        self.directory = pathlib.Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        options = f"size={megabytes}m,mode=700" + (f",uid={owner[0]},gid={owner[1]}" if owner else "")
        self.mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(self.directory)],
                                      stdin=subprocess.DEVNULL, capture_output=True, check=False).returncode == 0
        if owner:
            os.chown(self.directory, *owner)
            self.directory.chmod(0o700)

    def fill(self):
        """Keeps writing until nothing more fits."""
        with open(self.directory / "ballast", "ab", buffering=0) as ballast:
            for size in (1 << 20, 1 << 12):
                try:
                    while True:
                        ballast.write(bytes(size))
                except OSError:
                    pass

    def empty(self):
        (self.directory / "ballast").unlink(missing_ok=True)

    def remove(self):
        if self.mounted:
            subprocess.run(["umount", "-l", str(self.directory)], capture_output=True, check=False)
            self.mounted = False


class Databases:
    """A primary and its synchronous standby, which change places: no commit that was answered is lost by a failover."""

    def __init__(self, directory):
        settings = {"max_wal_size": "'64MB'", "min_wal_size": "'32MB'", "wal_keep_size": "'160MB'", "wal_recycle": "off", "shared_buffers": "'64MB'",
                    "wal_retrieve_retry_interval": "'300ms'", "wal_receiver_timeout": "'4s'", "wal_sender_timeout": "'4s'",
                    "autovacuum_naptime": "'5s'", "max_prepared_transactions": "20", "checkpoint_timeout": "'60s'"}
        self._settings = settings
        self.servers = []
        self.disks = []
        self.links = []  # to each server, for the other one
        self._directory = directory
        self.primary = self.standby = None

    def start(self):
        owner = _postgres_account()
        for name in ("a", "b"):
            folder = self._directory / f"postgres-{name}"
            self.disks.append(Disk(folder / "data", 800, owner))
            self.servers.append(PostgresServer(self._settings, directory=folder))
            self.links.append(FaultProxy(("127.0.0.1", self.servers[-1].port)))
        self.primary, self.standby = self.servers
        self.primary.start()
        self.primary.execute("CREATE ROLE outbox_app LOGIN")
        self.primary.execute("CREATE ROLE outbox_relay LOGIN")
        self.primary.create_database(DATABASE)
        self.standby.copy(self.primary, self.link.port)
        self.standby.start()
        self.follow()

    def follow(self):
        if self.primary.execute("SHOW synchronous_standby_names") != [("*",)]:
            self.primary.configure(synchronous_standby_names="'*'")
        self.in_sync()

    def in_sync(self, timeout=30):
        eventually(lambda: self.primary.execute(
            "SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync' AND state = 'streaming' "
            "AND flush_lsn >= pg_current_wal_flush_lsn() - 100000::numeric"),
                   timeout, "the standby is in sync")

    @property
    def link(self):
        """The standby's way to the primary."""
        return self.links[self.servers.index(self.primary)]

    @property
    def disk(self):
        return self.disks[self.servers.index(self.primary)]

    def promote(self):
        self.standby.promote()
        self.primary, self.standby = self.standby, self.primary

    def rebuild(self):
        """The old primary becomes the standby of the new one."""
        self.standby.stop("immediate")
        self.standby.copy(self.primary, self.link.port)
        self.standby.start()
        self.follow()

    def heal(self):
        for link in self.links:
            link.heal()
        for disk in self.disks:
            disk.empty()
        if not self.primary.running():
            self.primary.start()
        eventually(lambda: self.primary.execute("SELECT 1"), 30, "Postgres answers")
        if not self.standby.running():
            self.standby.start()
        try:
            self.in_sync(20)
        except AssertionError:  # it has missed what the primary no longer has
            self.rebuild()

    def connect(self, user="outbox_app", autocommit=False):
        ports = ",".join(str(server.port) for server in self.servers)
        connection = psycopg2.connect(host="127.0.0.1,127.0.0.1", port=ports, dbname=DATABASE, user=user, connect_timeout=3,
                                      target_session_attrs="read-write", tcp_user_timeout=10_000,
                                      options="-c lock_timeout=15s")
        connection.autocommit = autocommit
        return connection

    def execute(self, statement, parameters=None):
        return self.primary.execute(statement, parameters, DATABASE)

    def clock(self):
        """What time the primary thinks it is."""
        return self.primary.execute("SELECT extract(epoch FROM clock_timestamp())::float8")[0][0]

    def remove(self):
        for link in self.links:
            link.close()
        for server in self.servers:
            server.remove()
        for disk in self.disks:
            disk.remove()


def _postgres_account():
    if os.geteuid() != 0:
        return None
    account = pwd.getpwnam("postgres")
    return account.pw_uid, account.pw_gid


class Seat:
    """One relay with its ways to everything else. It is started and ended; who sits here keeps the configuration."""

    def __init__(self, number, scene):
        self.number = number
        self.name = f"relay{number + 1}"
        self.clock = Clock(scene.directory / f"{self.name}.clock")
        self.to_postgres = [FaultProxy(("127.0.0.1", server.port)) for server in scene.databases.servers]
        self.to_brokers = scene.kafka.proxies[f"LINK{number + 1}"]
        ports = ",".join(str(proxy.port) for proxy in self.to_postgres)
        dsn = (f"host=127.0.0.1,127.0.0.1 port={ports} dbname={DATABASE} user=outbox_relay connect_timeout=2 "
               "target_session_attrs=read-write")
        settings = {"relay": {"claim": scene.claim, "lease_ttl": f"{LEASE:g}s", "in_flight_rows": WINDOW, "batch_rows": 200},
                    "log": {"level": "info"}}
        self.relay = Relay(dsn, scene.kafka.proxied(f"LINK{number + 1}"), settings, scene.directory)
        self._read = 0

    def start(self, faked_clock=False):
        self.relay.start(environment=self.clock.environment if faked_clock else None)

    def running(self):
        return self.relay.running()

    def wait_ready(self, timeout=40):
        self.relay.wait_ready(timeout)

    def end(self):
        """SIGTERM, which it has to obey; how long that took."""
        began = time.monotonic()
        code = self.relay.stop(60)
        if code != 0:
            raise RuntimeError(f"{self.name} ended with {code} on SIGTERM")
        return time.monotonic() - began

    def news(self):
        """The events that its log has got since the last time."""
        path = self.relay.directory / "relay.log"
        if not path.exists():
            return []
        with open(path, "rb") as log:
            log.seek(self._read)
            text = log.read()
        text = text[:text.rfind(b"\n") + 1]
        self._read += len(text)
        return [json.loads(line) for line in text.decode(errors="replace").splitlines() if line.startswith("{")]

    def heal(self):
        self.clock.step(0)
        for proxy in [*self.to_postgres, *self.to_brokers.values()]:
            proxy.heal()

    def close(self):
        if self.relay.running():
            self.relay.resume()
            self.relay.kill()
        for proxy in self.to_postgres:
            proxy.close()


class Scene:
    def __init__(self, claim="lanes"):
        self.claim = claim
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="outbox-relay-chaos."))
        self.directory.chmod(0o755)  # Postgres runs as somebody else
        self.databases = Databases(self.directory)
        self.kafka = KafkaCluster([*(f"LINK{number + 1}" for number in range(RELAYS)), "PEERS", "CONTROLLER"])
        self.seats = []
        self.postgres_clock = Clock(self.directory / "postgres.clock")
        self.broker_disk = None
        self.consumer = self.reader = None
        self._offsets = [0] * PARTITIONS

    def start(self):
        # A kernel ends a child with the thread that started it: relays are started by threads that last.
        with ThreadPoolExecutor(2) as pool:
            self.broker_disk = Disk(self.kafka.directory / "3" / "data", 500)
            kafka = pool.submit(self.kafka.start)
            postgres = pool.submit(self.databases.start)
            postgres.result()
            kafka.result()
        # The leader's own clock on every record: when it was taken, not when it was sent.
        self.kafka.create_topic(TOPIC, PARTITIONS, 3, min_insync_replicas=2, message_timestamp_type="LogAppendTime",
                                segment_bytes=8 << 20, retention_bytes=32 << 20)
        self.consumer = Consumer(self.kafka.bootstrap)
        self.reader = Reader(self.kafka.bootstrap, TOPIC)
        done = run_command("migrate", "up", "--grant-relay", "outbox_relay", "--grant-app", "outbox_app", "--set",
                           f"postgres.dsn={self.databases.primary.dsn(DATABASE)}")
        if done.returncode != 0:
            raise RuntimeError(done.stdout + done.stderr)
        self.databases.execute(SCHEMA)
        self.databases.execute("INSERT INTO shop.account (key) SELECT 'account-' || g FROM generate_series(0, 47) g "
                               "UNION ALL SELECT kind || g FROM generate_series(0, 3) g, unnest('{held-,prepared-}'::text[]) kind")
        self.seats = [Seat(number, self) for number in range(RELAYS)]

    @property
    def running(self):
        return [seat for seat in self.seats if seat.running()]

    def staff(self, count, faked_clocks=False):
        """That many relays run; with clocks that can be stepped, they are all started anew."""
        for number, seat in enumerate(self.seats):
            if seat.running() and (number >= count or faked_clocks):
                seat.end()
            if number < count and not seat.running():
                seat.start(faked_clocks)
        self.shared()
        try:  # newcomers are given nothing for a while where others have died young, and nobody waits for that
            eventually(lambda: len(self.owners()) == count, 4, "every relay owns lanes")
        except AssertionError:
            pass

    def shared(self):
        """All relays are ready and heard of lately, and every lane has an owner, where lanes are claimed."""
        for seat in self.running:
            seat.wait_ready(60)
        pids = {seat.relay.process.pid for seat in self.running}
        owned = LANES if self.claim == "lanes" else 0
        eventually(lambda: pids <= self._heard_of() and sum(self._lanes().values()) == owned, 40,
                   "the relays share the lanes")

    def owners(self):
        """The seats whose relays have work: all of them, where rows are claimed."""
        if self.claim == "rows":
            return self.running
        lanes = self._lanes()
        return [seat for seat in self.running if lanes.get(seat.relay.process.pid)]

    def _heard_of(self):
        return {pid for (pid,) in self.databases.execute(
            "SELECT pid FROM outbox.relay WHERE seen_at > clock_timestamp() - interval '1.5 s'")}

    def _lanes(self):
        """{process: how many lanes it owns}"""
        return dict(self.databases.execute(
            "SELECT pid, count(*) FROM outbox.lane JOIN outbox.relay ON relay.id = lane.owner "
            "WHERE expires_at > clock_timestamp() GROUP BY pid"))

    def heal(self):
        """Nothing stands in anybody's way any more, and all run who should."""
        for seat in self.seats:
            seat.heal()
        for proxies in self.kafka.proxies.values():
            for proxy in proxies.values():
                proxy.heal()
        if self.broker_disk:
            self.broker_disk.empty()
        self.kafka.heal()
        self.databases.heal()
        self.postgres_clock.step(0)

    def whole(self, timeout=60):
        """Every partition has all its replicas, every broker leads its share, and the standby follows."""
        def replicated():
            done = subprocess.run(["kcat", "-b", self.kafka.bootstrap, "-L", "-m", "5", "-t", TOPIC], capture_output=True,
                                  text=True, check=True)
            return len(re.findall(r"isrs: \d+,\d+,\d+$", done.stdout, re.MULTILINE)) == PARTITIONS

        eventually(replicated, timeout, "every partition has its three replicas in sync", interval=0.2)
        self.kafka.spread_leaders()
        eventually(lambda: len(set(self.kafka.leaders(TOPIC).values())) == 3, timeout, "every broker leads", interval=0.2)
        self.databases.in_sync(timeout)

    def backlog(self):
        return self.databases.execute("SELECT count(*) FROM outbox.message")[0][0]

    def dead_letters(self):
        return self.databases.execute("SELECT count(*) FROM outbox.dead_letter")[0][0]

    def records(self, timeout=30):
        """All that came since the last time, by offset within a partition."""
        with ThreadPoolExecutor(3) as pool:
            batches = list(pool.map(lambda partition: self.consumer.read_partition(
                TOPIC, partition, self._offsets[partition], timeout), range(PARTITIONS)))
        for partition, batch in enumerate(batches):
            if batch:
                self._offsets[partition] = batch[-1].offset + 1
        return [record for batch in batches for record in batch]

    def keep(self, folder):
        """Copies every log for whoever looks into it later."""
        folder.mkdir(parents=True, exist_ok=True)
        logs = [(seat.name, seat.relay.directory / "relay.log") for seat in self.seats]
        logs += [(f"postgres-{name}", server.directory / "log") for name, server in zip("ab", self.databases.servers)]
        logs += [(f"kafka-{node}", broker.directory / "kafka.log") for node, broker in self.kafka.brokers.items()]
        for name, path in logs:
            if path.exists():
                with open(path, "rb") as log:
                    log.seek(max(0, path.stat().st_size - (20 << 20)))
                    (folder / f"{name}.log").write_bytes(log.read())

    def close(self):
        if self.reader:
            self.reader.close()
        for what in [*(seat.close for seat in self.seats), self.kafka_close, self.databases.remove]:
            try:
                what()
            except Exception as error:  # noqa: BLE001 - the others have to be stopped all the same
                print(f"chaos: {error}", flush=True)
        shutil.rmtree(self.directory, ignore_errors=True)

    def kafka_close(self):
        for broker in self.kafka.brokers.values():
            if broker.running():
                broker.kill()
        if self.broker_disk:
            self.broker_disk.remove()
        self.kafka.remove()

