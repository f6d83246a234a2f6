"""What lies between the relay and Postgres fails, or lies to both: half-open connections, poolers, long silences."""
import contextlib
import os
import pathlib
import pwd
import shutil
import subprocess
import tempfile

import psycopg2
import pytest

from harness.fault_proxy import FaultProxy
from harness.outage import delivered, finish, not_ready, told_once
from harness.waiting import eventually, free_port


@pytest.fixture
def proxy(postgres):
    proxy = FaultProxy(("127.0.0.1", postgres.port))
    yield proxy
    proxy.close()


# --- half-open: one side is gone and the other has not heard of it ---

def test_a_connection_that_swallows_everything_is_given_up(relay, database, load, topic, consumer, proxy):
    one = relay(dsn=database.dsn(port=proxy.port)).start().wait_ready()
    writers = load(writers=2, keys=100, rows=10, rows_per_second=1000)
    delivered(one, 500)
    proxy.swallow()
    not_ready(one, "no answer")
    one.wait_ready(timeout=60)
    delivered(one, 500)
    finish(one, writers.finish(), database, consumer, topic)
    told_once(one, "no longer answers")


@pytest.fixture
def black_hole():
    """black_hole(True): what is sent to this address of the machine itself is dropped without a word."""
    address = "127.0.77.1"
    route = [f"{address}/32", "table", "local"]
    if os.geteuid() != 0 or not shutil.which("ip"):
        pytest.skip("only root, and with iproute2, can drop packets")

    def change(on):
        subprocess.run(["ip", "route", "replace" if on else "del", *(["blackhole"] if on else []), *route], check=True)

    yield address, change
    with contextlib.suppress(subprocess.CalledProcessError):
        change(False)


def test_a_network_that_drops_every_packet_is_noticed_by_tcp_user_timeout(black_hole, relay, postgres, database, load,
                                                                          topic, consumer):
    address, drop = black_hole
    proxy = FaultProxy(("127.0.0.1", postgres.port), address)
    try:
        dsn = database.dsn(port=proxy.port).replace("127.0.0.1", address)
        one = relay(dsn=f"{dsn} tcp_user_timeout=1500 connect_timeout=2").start().wait_ready()
        writers = load(writers=2, keys=100, rows=10, rows_per_second=1000)
        delivered(one, 500)
        drop(True)
        not_ready(one)
        eventually(lambda: one.log(event="postgres_lost"), timeout=10)
        drop(False)
        one.wait_ready()
        delivered(one, 500)
        finish(one, writers.finish(), database, consumer, topic)
        told_once(one)
    finally:
        proxy.close()


def test_a_server_that_accepts_and_never_answers_is_waited_for(relay, database, topic, consumer, proxy):
    proxy.stall()
    one = relay(dsn=database.dsn(port=proxy.port) + " connect_timeout=2").start()
    not_ready(one)
    tried = proxy.accepted()
    eventually(lambda: proxy.accepted() >= tried + 4)
    proxy.heal()
    one.wait_ready()
    row = database.writer().publish(topic, "k")
    finish(one, [row], database, consumer, topic)


def test_an_idle_session_that_was_ended_costs_nothing(relay, database, postgres, topic, consumer):
    one = relay({"relay": {"workers": 2}}).start().wait_ready()
    writer = database.writer()
    for serial in range(3):
        writer.publish(topic, "k", b"%d" % serial)
        eventually(lambda: database.backlog() == 0)
        before = one.metric("outbox_postgres_reconnects_total")
        postgres.terminate("outbox_relay")
        eventually(lambda: one.metric("outbox_postgres_reconnects_total") == before + 2)
    assert len(one.log(event="postgres_lost")) == 6  # one for each session
    assert all("57P01" in line["msg"] for line in one.log(event="postgres_lost")), one.log(event="postgres_lost")
    finish(one, writer.committed, database, consumer, topic)


# --- how long, and how much ---

def test_a_table_locked_for_long_does_not_pile_up_sessions(relay, database, topic, consumer, postgres, proxy):
    one = relay({"relay": {"lease_ttl": "1s"}}, dsn=database.dsn(port=proxy.port)).start().wait_ready()
    writer = database.writer()
    writer.publish(topic, "before")
    eventually(lambda: database.backlog() == 0)
    locker = database.connect(autocommit=False)
    with locker.cursor() as cursor:
        cursor.execute("LOCK TABLE outbox.message IN ACCESS EXCLUSIVE MODE")
    not_ready(one)
    tried = proxy.accepted()
    eventually(lambda: proxy.accepted() >= tried + 5, 120, "it has tried again five times")
    ((sessions,),) = postgres.execute("SELECT count(*) FROM pg_stat_activity WHERE usename = 'outbox_relay'")
    assert sessions <= 3  # the worker's, the sampler's, and one that is about to end
    locker.rollback()
    one.wait_ready()
    writer.publish(topic, "after")
    finish(one, writer.committed, database, consumer, topic)


def test_no_transaction_is_older_than_a_second_while_kafka_is_stopped(relay, kafka, postgres, database, load, topic,
                                                                     consumer):
    one = relay({"relay": {"workers": 2}}).start().wait_ready()
    writers = load(writers=2, keys=100, rows=20, rows_per_second=4000)
    delivered(one, 1000)
    with postgres.oldest_transaction("outbox_relay") as oldest:
        kafka.stop()
        backlog = database.backlog()
        eventually(lambda: database.backlog() > backlog + 20_000)
        kafka.start()
        one.wait_ready(timeout=60)
        delivered(one, 1000)
    assert oldest.seconds < 1
    finish(one, writers.finish(), database, consumer, topic, writers.in_doubt())


@pytest.mark.parametrize("fault", ["closed", "silent"])
def test_memory_stays_where_it_was_during_an_outage_of_postgres(relay, database, load, topic, consumer, postgres, proxy,
                                                                fault):
    dsn = database.dsn(port=proxy.port) + " connect_timeout=2"
    one = relay({"relay": {"workers": 4}}, dsn=dsn).start().wait_ready()
    committed = load(writers=2, keys=100, rows=20, transactions=200).finish()
    eventually(lambda: database.backlog() == 0)
    before = one.metric("process_resident_memory_bytes")
    if fault == "closed":
        proxy.target = ("127.0.0.1", free_port())
    else:
        proxy.stall()
    proxy.cut()
    not_ready(one)
    tried = proxy.accepted()
    eventually(lambda: proxy.accepted() >= tried + 30, timeout=60, what="30 tries to connect")
    assert one.metric("process_resident_memory_bytes") - before < 8 * 2**20
    proxy.target = ("127.0.0.1", postgres.port)
    proxy.heal()
    one.wait_ready()
    finish(one, committed, database, consumer, topic)


# --- a pooler in between ---

class Pooler:
    def __init__(self, server, mode, pool_size):
        self.port = free_port()
        self._directory = pathlib.Path(tempfile.mkdtemp(prefix="outbox-relay-pooler."))
        users = self._directory / "users"
        users.write_text('"outbox_relay" ""\n', encoding="utf-8")
        settings = self._directory / "pgbouncer.ini"
        settings.write_text(
            f"[databases]\n* = host=127.0.0.1 port={server.port}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n"
            f"listen_port = {self.port}\nunix_socket_dir =\nauth_type = trust\nauth_file = {users}\n"
            f"pool_mode = {mode}\ndefault_pool_size = {pool_size}\n", encoding="utf-8")
        account = {}
        if os.geteuid() == 0:  # it refuses to run as root
            entry = pwd.getpwnam("postgres")
            account = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
            self._directory.chmod(0o755)
        with open(self._directory / "log", "wb") as log:
            self._process = subprocess.Popen([_pgbouncer(), str(settings)], stdin=subprocess.DEVNULL, stdout=log,
                                             stderr=log, **account)

    def remove(self):
        died = self._process.poll()
        if died is not None:
            print(f"the pooler had ended with {died}:\n{(self._directory / 'log').read_text(errors='replace')[-4000:]}")
        self._process.kill()
        self._process.wait()
        shutil.rmtree(self._directory)


def _pgbouncer():
    return shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")


@pytest.fixture
def pooler(postgres):
    if not _pgbouncer():
        pytest.skip("pgbouncer is not installed")
    made = []

    def make(mode, pool_size=10):
        made.append(Pooler(postgres, mode, pool_size))
        return made[-1]

    yield make
    for one in made:
        one.remove()


def test_a_pooler_in_session_mode_is_no_obstacle(relay, database, load, topic, consumer, pooler):
    dsn = database.dsn(port=pooler("session").port)
    one = relay({"relay": {"workers": 2}}, dsn=dsn).start().wait_ready()
    writers = load(writers=2, keys=100, rows=10, rows_per_second=2000)
    delivered(one, 2000)
    finish(one, writers.finish(), database, consumer, topic)


def test_a_pooler_in_transaction_mode_is_named_as_the_obstacle(relay, database, topic, consumer, pooler):
    through = pooler("transaction")
    one = relay(dsn=database.dsn(port=through.port)).start()
    row = database.writer().publish(topic, "k")
    with contextlib.ExitStack() as holders:
        def swapped():
            # Each that holds a server's session in a transaction takes one the relay had, where that is not in use just
            # then: soon the pooler has to give the relay another one.
            holder = holders.enter_context(contextlib.closing(psycopg2.connect(database.dsn(port=through.port))))
            holder.cursor().execute("SELECT 1")
            eventually(lambda: "pooler in transaction mode" in one.http("/readyz")[1], 1)
            return True

        eventually(swapped, what="/readyz names the pooler")
    one.stop()
    finish(relay().start().wait_ready(), [row], database, consumer, topic)
