"""Postgres is there and says no: the relay stays up, says why once, loses nothing, and goes on when it may again."""
import contextlib
import itertools
import os
import pathlib
import re
import shutil
import subprocess
import tempfile

import psycopg2
import pytest

from conftest import Database
from harness.outage import delivered, finish, migrated, not_ready, told_once
from harness.postgres import PostgresServer
from harness.waiting import eventually

_serial = itertools.count(1)


@pytest.fixture(scope="module")
def small_server():
    """A server of this file's own: few connections, and the relay needs a password."""
    server = PostgresServer({"max_connections": 16})
    try:
        server.start()
        server.execute("CREATE ROLE outbox_app LOGIN")
        server.execute("CREATE ROLE outbox_relay LOGIN PASSWORD 'first'")
        server.ask_password_of("outbox_relay")
        yield server
    finally:
        server.remove()


@pytest.fixture
def shop(small_server):
    name = f"small_{next(_serial)}"
    if not small_server.running():
        small_server.start()
    small_server.create_database(name)
    database = migrated(Database(small_server, name))
    yield database
    database.close()
    if not small_server.running():
        small_server.start()
    small_server.drop_database(name)


@pytest.fixture
def password_file(tmp_path):
    file = tmp_path / "password"
    file.write_text("first\n", encoding="utf-8")
    return file


@pytest.fixture
def shop_relay(shop, password_file, relay_of):
    return relay_of(shop, {"postgres": {"password_file": str(password_file)}})


def turned_down(server, words, more=4):
    """Waits until the server has turned somebody down that often more."""
    before = server.log().count(words)
    eventually(lambda: server.log().count(words) >= before + more, 30, f"{more} times more: {words}")


# --- read-only ---

@pytest.fixture
def read_only(postgres):
    """Turns the server read-only for everybody but the application, whose role has a setting of its own."""
    postgres.execute("ALTER ROLE postgres SET default_transaction_read_only = off")
    yield lambda on: postgres.configure(default_transaction_read_only="on" if on else "off")
    postgres.configure(default_transaction_read_only="off")
    postgres.execute("ALTER ROLE postgres RESET default_transaction_read_only")


@pytest.mark.parametrize("attributes", ["read-write", "any"])
def test_a_server_that_turns_read_only(read_only, database, relay, load, topic, consumer, attributes):
    one = relay(dsn=database.dsn() + f" target_session_attrs={attributes}").start().wait_ready()
    writers = load(writers=2, keys=100, rows=10, rows_per_second=1000)
    delivered(one, 500)
    read_only(True)
    not_ready(one, "read-only")
    eventually(lambda: database.backlog() > 1000)
    read_only(False)
    one.wait_ready()
    delivered(one, 500)
    finish(one, writers.finish(), database, consumer, topic)
    told_once(one, "read-only")


# --- connections ---

def test_the_role_has_used_up_its_connections(postgres, database, relay, load, topic, consumer):
    one = relay().start().wait_ready()
    writers = load(writers=2, keys=100, rows=10, rows_per_second=1000)
    delivered(one, 500)
    postgres.execute("ALTER ROLE outbox_relay CONNECTION LIMIT 0")
    try:
        postgres.terminate("outbox_relay")
        not_ready(one, "53300", "connection limit")
        turned_down(postgres, 'too many connections for role "outbox_relay"')
    finally:
        postgres.execute("ALTER ROLE outbox_relay CONNECTION LIMIT -1")
    one.wait_ready()
    delivered(one, 500)
    finish(one, writers.finish(), database, consumer, topic, writers.in_doubt())
    told_once(one, "53300")


def test_the_server_has_no_connection_left(small_server, shop, shop_relay, topic, consumer):
    one = shop_relay.start().wait_ready()
    writer = shop.writer()
    writer.publish(topic, "before")
    eventually(lambda: shop.backlog() == 0)
    with contextlib.ExitStack() as sessions:
        def take_all():
            small_server.terminate("outbox_relay")
            with contextlib.suppress(psycopg2.OperationalError):
                while True:
                    sessions.enter_context(contextlib.closing(shop.server.connect("postgres", "outbox_app")))
            return "53300" in one.http("/readyz")[1]

        eventually(take_all, what="the relay finds no connection left")
        writer.publish(topic, "meanwhile")
        turned_down(small_server, "connection slots are reserved")
    one.wait_ready()
    writer.publish(topic, "after")
    finish(one, writer.committed, shop, consumer, topic)
    told_once(one, "53300")


# --- who the relay is, and what it may ---

def test_the_password_is_rotated(small_server, shop, shop_relay, password_file, topic, consumer):
    one = shop_relay.start().wait_ready()
    writer = shop.writer()
    writer.publish(topic, "k", b"before")
    eventually(lambda: shop.backlog() == 0)
    try:
        small_server.execute("ALTER ROLE outbox_relay PASSWORD 'second'")
        writer.publish(topic, "k", b"on the session that is still open")
        eventually(lambda: shop.backlog() == 0)
        small_server.terminate("outbox_relay")
        not_ready(one, "28P01", "postgres.password_file")
        writer.publish(topic, "k", b"meanwhile")
        turned_down(small_server, "password authentication failed")
        replacement = password_file.with_suffix(".new")  # put in place at once, as secret stores do
        replacement.write_text("second\n", encoding="utf-8")
        os.replace(replacement, password_file)
        one.wait_ready()
        finish(one, writer.committed, shop, consumer, topic)
    finally:
        small_server.execute("ALTER ROLE outbox_relay PASSWORD 'first'")
    told_once(one, "28P01")


@pytest.mark.parametrize("privilege", ["DELETE ON outbox.message", "SELECT ON outbox.message", "UPDATE ON outbox.lane",
                                       "INSERT ON outbox.relay", "USAGE ON SCHEMA outbox"])
def test_a_privilege_is_revoked_and_granted_again(database, relay, load, topic, consumer, privilege):
    one = relay().start().wait_ready()
    writers = load(writers=2, keys=100, rows=10, rows_per_second=1000)
    delivered(one, 500)
    database.execute(f"REVOKE {privilege} FROM outbox_relay")
    advice = not_ready(one, "42501", "GRANT")
    eventually(lambda: database.backlog() > 1000)
    for statement in re.findall(r"GRANT [^;]*;", advice):
        database.execute(statement)
    one.wait_ready()
    delivered(one, 500)
    finish(one, writers.finish(), database, consumer, topic)
    told_once(one, "42501")


def test_the_role_is_locked_out_and_let_in_again(postgres, database, relay, load, topic, consumer):
    one = relay().start().wait_ready()
    writers = load(writers=2, keys=100, rows=10, rows_per_second=1000)
    delivered(one, 500)
    postgres.execute("ALTER ROLE outbox_relay NOLOGIN")
    try:
        postgres.terminate("outbox_relay")
        not_ready(one, "28000")
        turned_down(postgres, 'role "outbox_relay" is not permitted to log in')
    finally:
        postgres.execute("ALTER ROLE outbox_relay LOGIN")
    one.wait_ready()
    delivered(one, 500)
    finish(one, writers.finish(), database, consumer, topic)
    told_once(one, "28000")


# --- the tables ---

@pytest.mark.parametrize("table", ["message", "lane", "relay"])
def test_a_table_is_renamed_and_renamed_back(database, relay, load, topic, consumer, table):
    committed = load(writers=2, keys=100, transactions=100, rows=10).finish()
    one = relay({"pacing": {"max_rows_per_second": 1000}}).start().wait_ready()
    delivered(one, 200)
    database.execute(f"ALTER TABLE outbox.{table} RENAME TO elsewhere")
    not_ready(one, f"outbox.{table}")
    eventually(lambda: one.metric("outbox_in_flight_rows") == 0)
    database.execute(f"ALTER TABLE outbox.elsewhere RENAME TO {table}")
    one.wait_ready()
    writer = database.writer()
    writer.publish(topic, "after")
    finish(one, committed + writer.committed, database, consumer, topic)
    told_once(one, f"outbox.{table}")


def test_the_whole_schema_is_renamed_and_renamed_back(database, relay, load, topic, consumer):
    committed = load(writers=2, keys=100, transactions=100, rows=10).finish()
    one = relay({"pacing": {"max_rows_per_second": 1000}}).start().wait_ready()
    delivered(one, 200)
    database.execute("ALTER SCHEMA outbox RENAME TO elsewhere")
    not_ready(one, "migrate up")
    database.execute("ALTER SCHEMA elsewhere RENAME TO outbox")
    one.wait_ready()
    finish(one, committed, database, consumer, topic)


# --- the disk ---

class TinyDisk:
    """A few megabytes of their own, to fill up."""

    def __init__(self, directory, megabytes):
        if os.geteuid() != 0:
            pytest.skip("only root can mount a small disk to fill up")
        self.directory = directory
        self._ballast = directory / "ballast"
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(directory)],
                              capture_output=True, text=True, check=False)
        if done.returncode != 0:
            pytest.skip(f"cannot mount a small disk here: {done.stderr.strip()}")

    def fill(self):
        with contextlib.suppress(OSError), open(self._ballast, "ab", buffering=0) as ballast:
            while True:
                ballast.write(bytes(4096))

    def free(self):
        self._ballast.unlink(missing_ok=True)

    def unmount(self):
        subprocess.run(["umount", "-l", str(self.directory)], check=True)
        self.directory.rmdir()


@pytest.fixture
def tiny_disk():
    disks = []

    def make(megabytes):
        disks.append(TinyDisk(pathlib.Path(tempfile.mkdtemp(prefix="outbox-relay-disk.")), megabytes))
        return disks[-1]

    yield make
    for disk in disks:
        disk.unmount()


@pytest.fixture
def tiny_space(tiny_disk, postgres):
    """A tablespace "tiny" of the shared server on a disk of its own."""
    disk = tiny_disk(16)
    shutil.chown(disk.directory, "postgres", "postgres")
    (disk.directory / "space").mkdir()
    shutil.chown(disk.directory / "space", "postgres", "postgres")
    postgres.execute(f"CREATE TABLESPACE tiny LOCATION '{disk.directory / 'space'}'")
    yield disk
    disk.free()
    postgres.execute("DROP TABLESPACE tiny")


def test_the_disk_of_the_tables_is_full(tiny_space, database, relay, load, topic, consumer):
    for table in ("message", "lane", "relay"):
        database.execute(f"ALTER TABLE outbox.{table} SET TABLESPACE tiny")
    one = relay({"relay": {"lease_ttl": "1s"}}).start().wait_ready()
    writers = load(writers=2, keys=100, rows=10, rows_per_second=1000)
    delivered(one, 500)
    # What somebody may still look at cannot be cleaned up: every renewal of a lease takes new room.
    reader = database.connect(autocommit=False)
    with reader.cursor() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        cursor.execute("SELECT count(*) FROM outbox.lane")
    tiny_space.fill()
    not_ready(one, "53100", "disk is full")
    tiny_space.free()
    reader.rollback()
    one.wait_ready()
    delivered(one, 500)
    finish(one, writers.finish(), database, consumer, topic, writers.in_doubt())
    told_once(one, "53100")


def test_the_disk_of_the_write_ahead_log_is_full(tiny_disk, relay_of, topic, consumer):
    """Postgres itself goes down then, and stays down until there is room again."""
    disk = tiny_disk(200)
    server = PostgresServer({"min_wal_size": "32MB", "max_wal_size": "64MB"}, directory=disk.directory)
    try:
        server.start()
        server.execute("CREATE ROLE outbox_app LOGIN")
        server.execute("CREATE ROLE outbox_relay LOGIN")
        shop = migrated(Database(server, "postgres"))
        one = relay_of(shop).start().wait_ready()
        writer = shop.writer()
        writer.publish(topic, "before")
        eventually(lambda: shop.backlog() == 0)
        disk.fill()
        with pytest.raises(psycopg2.OperationalError):
            while True:  # each one takes a new file
                server.execute("SELECT pg_logical_emit_message(false, 'fill', 'x'), pg_switch_wal()")
        not_ready(one)
        assert "No space left on device" in server.log()
        server.stop("immediate")
        disk.free()
        server.start()
        one.wait_ready()
        committed = writer.committed
        writer = shop.writer()
        writer.publish(topic, "after")
        finish(one, committed + writer.committed, shop, consumer, topic)
    finally:
        server.remove()
