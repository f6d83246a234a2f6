"""A private Postgres server in a temporary directory, to stop, kill and start again at will."""
import os
import pathlib
import pwd
import shutil
import signal
import subprocess
import tempfile

import psycopg2

from .waiting import eventually, free_port


def _newest_bin():
    found = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda p: int(p.parts[-3]))
    if not found:
        raise RuntimeError("no Postgres server is installed: run scripts/install-dependencies")
    return found[-1].parent


class PostgresServer:
    """Trust authentication on 127.0.0.1 and on a socket in its directory; superuser `postgres`."""

    def __init__(self, settings=None):
        self.port = free_port()
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="outbox-relay-postgres."))
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
        subprocess.run([self._bin / "initdb", "-D", self._data, "-U", "postgres", "-A", "trust", "-E", "UTF8",
                        "--locale=C.UTF-8", "-N"], cwd=self.directory, stdin=subprocess.DEVNULL,
                       stdout=subprocess.DEVNULL, check=True, **self._account)
        with open(self._data / "postgresql.conf", "a", encoding="utf-8") as conf:
            conf.writelines(f"{name} = {value}\n" for name, value in self._settings.items())

    @property
    def _data(self):
        return self.directory / "data"

    def log(self):
        path = self.directory / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    def running(self):
        return self._process is not None and self._process.poll() is None

    def start(self):
        # A child of ours and not pg_ctl's orphan: after SIGKILL somebody has to collect it, or its pid blocks the restart.
        with open(self.directory / "log", "ab") as log:
            self._process = subprocess.Popen([self._bin / "postgres", "-D", self._data], cwd=self.directory,
                                             stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                                             **self._account)

        def answers():
            if not self.running():
                raise RuntimeError(f"Postgres ended: {self.log()[-2000:]}")
            self.connect().close()
            return True

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

    def remove(self):
        try:
            self.stop("immediate")
        finally:
            shutil.rmtree(self.directory, ignore_errors=True)


def _alive(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
