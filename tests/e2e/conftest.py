"""Fixtures: one Postgres and one Kafka broker for the whole run; a database, a topic and relays of its own for each test."""
import functools
import itertools
import os
import pathlib
import signal
import sys

import pytest

sys.path.insert(0, os.path.dirname(__file__))

from harness.consumer import Consumer  # noqa: E402
from harness.kafka import KafkaBroker  # noqa: E402
from harness.outbox import Load, Writer  # noqa: E402
from harness.postgres import PostgresServer  # noqa: E402
from harness.relay import Relay, run_command  # noqa: E402

_serial = itertools.count(1)


def pytest_configure():
    # The default action of SIGTERM would leave the servers behind; this way fixtures are torn down.
    signal.signal(signal.SIGTERM, signal.default_int_handler)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item):
    """Lets fixtures see whether their test has failed."""
    report = (yield).get_result()
    item.failed = getattr(item, "failed", False) or report.failed


@pytest.fixture(scope="session")
def postgres_session():
    server = PostgresServer()
    try:
        server.start()
        server.execute("CREATE ROLE outbox_app LOGIN")
        server.execute("CREATE ROLE outbox_relay LOGIN")
        yield server
    finally:
        server.remove()


@pytest.fixture
def postgres(postgres_session):
    """The server, running: a test may stop it."""
    yield postgres_session
    if not postgres_session.running():
        postgres_session.start()


@pytest.fixture(scope="session")
def kafka_session():
    broker = KafkaBroker()
    try:
        yield broker.start()
    finally:
        broker.remove()


@pytest.fixture
def kafka(kafka_session):
    """The broker, running and behind a well-behaved proxy: a test may stop, kill or pause it."""
    yield kafka_session
    kafka_session.proxy.heal()
    try:
        kafka_session.resume()
    except (FileNotFoundError, ProcessLookupError):
        kafka_session.start()


@pytest.fixture(autouse=True)
def no_sanitizer_report():
    """A relay built with a sanitizer reports into the folder SANITIZER_REPORTS, and a report fails the test."""
    yield
    folder = os.environ.get("SANITIZER_REPORTS")
    reports = []
    for path in sorted(pathlib.Path(folder).iterdir()) if folder else ():
        reports.append(path.read_text(errors="replace"))
        path.unlink()
    assert not reports, "\n".join(reports)


class Database:
    """A migrated database. The application and the relay use roles that may do no more than they must."""

    def __init__(self, server, name):
        self.server = server
        self.name = name
        self._sessions = []

    def dsn(self, user="outbox_relay", port=None):
        return self.server.dsn(self.name, user, port)

    def connect(self, user="postgres", **more):
        session = self.server.connect(self.name, user, **more)
        self._sessions.append(session)
        return session

    def writer(self):
        return Writer(self.connect(autocommit=False))

    def execute(self, statement, parameters=None):
        return self.server.execute(statement, parameters, database=self.name)

    def backlog(self):
        return self.execute("SELECT count(*) FROM outbox.message")[0][0]

    def dead_letters(self):
        return self.execute("SELECT count(*) FROM outbox.dead_letter")[0][0]

    def migrate(self, *arguments):
        return run_command("migrate", "up", "--set", f"postgres.dsn={self.dsn('postgres')}", *arguments)

    def close(self):
        for session in self._sessions:
            session.close()


@pytest.fixture
def empty_database(postgres):
    """A database without the schema."""
    name = f"shop_{next(_serial)}"
    postgres.create_database(name)
    database = Database(postgres, name)
    yield database
    database.close()
    if not postgres.running():
        postgres.start()
    postgres.drop_database(name)


@pytest.fixture
def database(empty_database):
    done = empty_database.migrate("--grant-app", "outbox_app", "--grant-relay", "outbox_relay")
    assert done.returncode == 0, done.stdout + done.stderr
    return empty_database


@pytest.fixture
def topic(kafka):
    name = f"orders-{next(_serial)}"
    kafka.create_topic(name)
    return name


@pytest.fixture
def consumer(kafka):
    return Consumer(kafka.bootstrap)


@pytest.fixture
def load(database, topic):
    """load(writers=…, …) starts writers on this test's database and topic."""
    made = []

    def make(**shape):
        made.append(Load(lambda: database.server.connect(database.name), topic, **shape))
        return made[-1]

    yield make
    for one in made:
        one.abandon()


@pytest.fixture
def relay_of(kafka, tmp_path, request):
    """relay_of(database, settings={…}) makes a relay, not started yet; what still runs at the end is killed, and what
    it said is shown when the test has failed."""
    made = []

    def make(database, settings=None, bootstrap=None, dsn=None):
        made.append(Relay(dsn or database.dsn(), bootstrap or kafka.bootstrap, settings, tmp_path))
        return made[-1]

    yield make
    for one in made:
        if one.running():
            one.kill()
        if request.node.failed:
            print(f"--- {one.directory}\n{one.log_text()[-20_000:]}")


@pytest.fixture
def relay(database, relay_of):
    """relay(settings={…}): the same for this test's own database."""
    return functools.partial(relay_of, database)
