"""A primary and its standby change places: the relay follows the one that can be written to, and never the other."""
import itertools

import psycopg2
import pytest

from conftest import Database
from harness.fault_proxy import FaultProxy
from harness.outage import delivered, finish, migrated, not_ready, told_once
from harness.outbox import Load
from harness.postgres import PostgresServer
from harness.verifier import assert_once_in_order
from harness.waiting import eventually

_serial = itertools.count(1)


class Pair:
    """A primary with a synchronous standby, so that a failover loses no commit that was answered."""

    def __init__(self):
        self.primary = PostgresServer()
        self.standby = None

    def start(self):
        self.primary.start()
        self.primary.execute("CREATE ROLE outbox_app LOGIN")
        self.primary.execute("CREATE ROLE outbox_relay LOGIN")
        self.standby = PostgresServer(primary=self.primary).start()
        self._follow()
        return self

    def _follow(self):
        self.primary.configure(synchronous_standby_names="'*'")
        eventually(lambda: self.primary.execute("SELECT sync_state FROM pg_stat_replication") == [("sync",)])

    def dsn(self, database, user="outbox_relay", attributes="read-write"):
        return (f"host=127.0.0.1,127.0.0.1 port={self.primary.port},{self.standby.port} dbname={database} user={user} "
                f"target_session_attrs={attributes}")

    def promote(self):
        """The standby becomes the primary; the old one is whatever the test has made of it."""
        self.standby.promote()
        self.primary, self.standby = self.standby, self.primary

    def rejoin(self):
        """The old primary comes back, as the standby of the new one."""
        self.standby.stop("immediate")
        self.standby.copy(self.primary)
        self.standby.start()
        self._follow()

    def remove(self):
        self.primary.remove()
        if self.standby:
            self.standby.remove()


@pytest.fixture(scope="module")
def whole_pair():
    pair = Pair()
    try:
        yield pair.start()
    finally:
        pair.remove()


@pytest.fixture
def pair(whole_pair):
    yield whole_pair
    if not whole_pair.primary.running():
        whole_pair.primary.start()
    if not whole_pair.standby.running() or not whole_pair.primary.execute("SELECT 1 FROM pg_stat_replication"):
        whole_pair.rejoin()


@pytest.fixture
def shop(pair):
    """A migrated database of the pair: it is wherever the primary is."""
    name = f"pair_{next(_serial)}"
    pair.primary.create_database(name)
    database = migrated(Database(pair.primary, name))
    yield database
    database.close()


@pytest.fixture
def pair_load(pair, shop, topic):
    made = []

    def make(**shape):
        # As the pair is now: who is the primary later is for libpq to find out.
        dsn = pair.dsn(shop.name, "postgres")
        made.append(Load(lambda: psycopg2.connect(dsn), topic, **shape))
        return made[-1]

    yield make
    for one in made:
        one.abandon()


def test_the_primary_dies_and_the_standby_is_promoted(pair, shop, relay_of, pair_load, topic, consumer):
    one = relay_of(shop, dsn=pair.dsn(shop.name)).start().wait_ready()
    writers = pair_load(writers=2, keys=100, rows=10, rows_per_second=2000)
    delivered(one, 1000)
    pair.primary.kill()
    # The standby is there all the time, and is left alone as long as it cannot be written to.
    not_ready(one, str(pair.standby.port), "read-only")
    pair.promote()
    shop.server = pair.primary
    one.wait_ready()
    delivered(one, 1000)
    finish(one, writers.finish(), shop, consumer, topic, writers.in_doubt())
    told_once(one, "read-only")


def test_the_old_primary_comes_back_as_a_standby_and_is_left_alone(pair, shop, relay_of, pair_load, topic, consumer):
    dsn = pair.dsn(shop.name)  # names the old primary first
    one = relay_of(shop, {"relay": {"workers": 2}}, dsn=dsn).start().wait_ready()
    writers = pair_load(writers=2, keys=100, rows=10, rows_per_second=2000)
    delivered(one, 500)
    pair.primary.stop("fast")
    pair.promote()
    shop.server = pair.primary
    one.wait_ready()
    delivered(one, 500)
    pair.rejoin()
    for _ in range(3):  # every new connection meets the standby first
        delivered(one, 300)
        pair.primary.terminate("outbox_relay")
    delivered(one, 500)
    assert pair.standby.execute("SELECT count(*) FROM pg_stat_activity WHERE usename = 'outbox_relay'") == [(0,)]
    finish(one, writers.finish(), shop, consumer, topic, writers.in_doubt())


def test_a_planned_switchover_back_and_forth(pair, shop, relay_of, pair_load, topic, consumer):
    one = relay_of(shop, dsn=pair.dsn(shop.name)).start().wait_ready()
    writers = pair_load(writers=2, keys=100, rows=10, rows_per_second=2000)
    for _ in range(2):
        delivered(one, 500)
        pair.primary.stop("fast")
        pair.promote()
        shop.server = pair.primary
        delivered(one, 500)
        pair.rejoin()
    finish(one, writers.finish(), shop, consumer, topic, writers.in_doubt())


def test_the_standby_that_commits_wait_for_is_gone(pair, shop, relay_of, pair_load, topic, consumer):
    one = relay_of(shop, dsn=pair.dsn(shop.name)).start().wait_ready()
    writers = pair_load(writers=2, keys=100, rows=10, rows_per_second=2000)
    delivered(one, 500)
    pair.standby.stop("immediate")
    not_ready(one, "no answer")
    pair.primary.configure(synchronous_standby_names="''")
    one.wait_ready()
    delivered(one, 500)
    finish(one, writers.finish(), shop, consumer, topic, writers.in_doubt())


@pytest.mark.parametrize("where", ["first", "last"])
def test_a_host_of_the_dsn_that_is_silent_does_not_keep_it_from_the_other(postgres, database, relay, topic, consumer,
                                                                          where):
    """A machine that is gone refuses nothing: it just never answers."""
    row = database.writer().publish(topic, "k")
    silent = FaultProxy(("127.0.0.1", postgres.port))
    silent.stall()
    try:
        ports = [silent.port, postgres.port] if where == "first" else [postgres.port, silent.port]
        dsn = (f"host=127.0.0.1,127.0.0.1 port={ports[0]},{ports[1]} dbname={database.name} user=outbox_relay "
               "connect_timeout=2")
        one = relay(dsn=dsn).start().wait_ready()
        assert one.command("check").returncode == 0
        finish(one, [row], database, consumer, topic)
    finally:
        silent.close()


@pytest.mark.parametrize("attributes", ["read-write", "any"])
def test_only_a_standby_is_there_until_it_is_promoted(pair, shop, relay_of, topic, consumer, attributes):
    row = shop.writer().publish(topic, "k")
    eventually(lambda: pair.standby.execute("SELECT count(*) FROM outbox.message", database=shop.name) == [(1,)])
    dsn = pair.standby.dsn(shop.name, "outbox_relay") + f" target_session_attrs={attributes}"
    one = relay_of(shop, dsn=dsn).start()
    not_ready(one, "read-only")
    shop.close()
    pair.primary.stop("fast")
    pair.promote()
    shop.server = pair.primary
    one.wait_ready()
    assert_once_in_order([row], consumer.wait_for(topic, 1))
    eventually(lambda: shop.backlog() == 0)
    assert one.stop() == 0
    told_once(one, "read-only")
