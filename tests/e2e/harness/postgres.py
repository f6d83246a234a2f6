"""A private Postgres server in a temporary directory, to stop, kill and start again at will."""
import contextlib
import os
import pathlib
import pwd
import shutil
import signal
import subprocess
import tempfile
import threading

import psycopg2

from .waiting import eventually, free_port


def _newest_bin():
    found = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda p: int(p.parts[-3]))
    if not found:
        raise RuntimeError("no Postgres server is installed: run scripts/install-dependencies")
    return found[-1].parent


class PostgresServer:
    """Trust authentication on 127.0.0.1 and on a socket in its directory; superuser `postgres`.
    With `primary` it is a hot standby of that server, copied from it."""

    def __init__(self, settings=None, primary=None, directory=None):
        self.port = free_port()
        self.directory = pathlib.Path(directory or tempfile.mkdtemp(prefix="outbox-relay-postgres."))
        self._bin = _newest_bin()
        self._process = None
        self._account = {}
        if os.geteuid() == 0:  # the server refuses to run as root
            account = pwd.getpwnam("postgres")
            os.chown(self.directory, account.pw_uid, account.pw_gid)
            self._account = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
        self._settings = {
            "port": self.port,
            "listen_addresses": "'127.0.0.1'",
            "unix_socket_directories": f"'{self.directory}'",
            "max_prepared_transactions": 20,
            "max_connections": 200,
            "fsync": "off",  # the machine itself never crashes here, only the server
            "log_min_messages": "warning",
            **(settings or {}),
        }
        if primary:
            self.copy(primary)
            return
        self._run("initdb", "-D", self._data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "-N")
        self._write_settings(self._settings)

    @property
    def _data(self):
        return self.directory / "data"

    def _run(self, program, *arguments):
        subprocess.run([self._bin / program, *map(str, arguments)], cwd=self.directory, stdin=subprocess.DEVNULL,
                       stdout=subprocess.DEVNULL, check=True, **self._account)

    def _write_settings(self, settings):
        with open(self._data / "postgresql.conf", "a", encoding="utf-8") as conf:  # what comes last wins
            conf.writelines(f"{name} = {value}\n" for name, value in settings.items())

    def log(self):
        path = self.directory / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    def running(self):
        return self._process is not None and self._process.poll() is None

    def start(self, wait=True, environment=None):
        # A child of ours and not pg_ctl's orphan: after SIGKILL somebody has to collect it, or its pid blocks the restart.
        with open(self.directory / "log", "ab") as log:
            self._process = subprocess.Popen([self._bin / "postgres", "-D", self._data], cwd=self.directory,
                                             stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                                             env={**os.environ, **(environment or {})}, **self._account)

        def answers():
            if not self.running():
                raise RuntimeError(f"Postgres ended: {self.log()[-2000:]}")
            self.connect().close()
            return True

        if wait:
            eventually(answers, 60, "Postgres answers")
        return self

    def stop(self, mode="fast"):
        """`fast` ends sessions in order, `immediate` is a crash with the processes cleaned up."""
        if self.running():
            self._process.send_signal({"fast": signal.SIGINT, "immediate": signal.SIGQUIT}[mode])
            self._process.wait(60)

    def kill(self):
        """SIGKILL to the postmaster and to every process of the server."""
        pid = self._process.pid
        children = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        for victim in [pid, *map(int, children)]:
            try:
                os.kill(victim, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self._process.wait()
        eventually(lambda: not any(_alive(child) for child in children), what="Postgres's processes are gone")

    def restart(self, mode="fast"):
        self.stop(mode)
        self.start()

    # --- replication ---

    def copy(self, primary, port=None):
        """Becomes a copy of `primary` that follows it, whatever was here before; not started yet. `port` is where it
        finds the primary, when that is behind a proxy."""
        shutil.rmtree(self._data, ignore_errors=True)
        self._run("pg_basebackup", "-D", self._data, "-X", "stream", "-c", "fast", "-N", "-R", "-d",
                  f"host=127.0.0.1 port={port or primary.port} user=postgres application_name=standby")
        self._write_settings({"synchronous_standby_names": "''", **self._settings})

    def promote(self):
        self.execute("SELECT pg_promote(true, 60)")

    # --- settings ---

    def configure(self, **settings):
        """Settings that take effect without a restart, for sessions there are as well."""
        self._write_settings(settings)
        self._reload()

    def ask_password_of(self, role):
        hba = self._data / "pg_hba.conf"
        hba.write_text(f"host all {role} 127.0.0.1/32 scram-sha-256\n" + hba.read_text(encoding="utf-8"),
                       encoding="utf-8")
        self._reload()

    def _reload(self):
        mark = "SELECT pg_conf_load_time()"
        before = self.execute(mark)
        self._process.send_signal(signal.SIGHUP)
        # A session takes over what its postmaster has read, so a new one may only be asked once that is through.
        eventually(lambda: self.execute(mark) != before, what="Postgres has read its settings again")

    # --- sessions and statements ---

    def connect(self, database="postgres", user="postgres", autocommit=True, **more):
        connection = psycopg2.connect(host="127.0.0.1", port=self.port, dbname=database, user=user, **more)
        connection.autocommit = autocommit
        return connection

    def dsn(self, database, user="postgres", port=None):
        return f"host=127.0.0.1 port={port or self.port} dbname={database} user={user}"

    def execute(self, statement, parameters=None, database="postgres"):
        """Runs one statement in autocommit; returns its rows when there are any."""
        connection = self.connect(database)
        try:
            with connection.cursor() as cursor:
                cursor.execute(statement, parameters)
                return cursor.fetchall() if cursor.description else None
        finally:
            connection.close()

    def create_database(self, name):
        self.execute(f'CREATE DATABASE "{name}"')

    def drop_database(self, name):
        for (gid,) in self.execute("SELECT gid FROM pg_prepared_xacts WHERE database = %s", (name,)):
            self.execute("ROLLBACK PREPARED %s", (gid,), database=name)
        self.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def terminate(self, role):
        self.execute("SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE usename = %s", (role,))

    @contextlib.contextmanager
    def oldest_transaction(self, role):
        """Watches the role's transactions meanwhile, every 20 ms: `with … as oldest: …` and then oldest.seconds. What a
        session does right now counts as well, so a statement that takes long shows too."""
        watch = _TransactionWatch(self.connect(), role)
        try:
            yield watch
        finally:
            watch.end()

    def remove(self):
        try:
            self.stop("immediate")
        finally:
            shutil.rmtree(self.directory, ignore_errors=True)


class _TransactionWatch:
    def __init__(self, connection, role):
        self.seconds = 0.0
        self.looks = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(connection, role), daemon=True)
        self._thread.start()

    def _run(self, connection, role):
        with contextlib.closing(connection), connection.cursor() as cursor:
            while not self._stop.wait(0.02):
                cursor.execute("SELECT coalesce(max(extract(epoch FROM clock_timestamp() - xact_start)), 0)::float8 "
                               "FROM pg_stat_activity WHERE usename = %s", (role,))
                self.seconds = max(self.seconds, cursor.fetchone()[0])
                self.looks += 1

    def end(self):
        self._stop.set()
        self._thread.join()
        assert self.looks > 0


def _alive(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
