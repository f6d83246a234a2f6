"""The broker has the rows and Postgres refuses to delete them: that is tried again until it succeeds, and nothing is
published twice, whatever the refusal is called."""
import pytest

from harness.outage import delivered, finish, not_ready
from harness.waiting import eventually

DELETING = """SELECT pid FROM pg_stat_activity WHERE usename = 'outbox_relay' AND datname = %s AND
              wait_event_type = 'Lock' AND query LIKE 'DELETE FROM outbox.message%%'"""


@pytest.fixture
def published(relay, kafka, database, topic):
    """published(lock) → (relay, writer): 20 rows of one key are on their way to a broker that does not answer; lock(rows)
    gets in the way of their deletion, then the broker answers."""
    def make(lock):
        one = relay(bootstrap=kafka.proxied).start().wait_ready()
        writer = database.writer()
        writer.publish(topic, "first")  # the producer knows the topic now
        eventually(lambda: database.backlog() == 0)
        kafka.proxy.stall()
        rows = writer.insert_many([(topic, "k", b"%d" % serial, None) for serial in range(20)])
        writer.commit()
        eventually(lambda: one.metric("outbox_in_flight_rows") == 20)
        lock(rows)
        kafka.proxy.resume()
        return one, writer

    return make


class Locker:
    """Somebody else's session that stands in the way."""

    def __init__(self, database):
        self.connection = database.connect(autocommit=False)
        with self.connection.cursor() as cursor:
            cursor.execute("SET deadlock_timeout = '60s'")  # whoever finds the deadlock, it is not this one
        self.connection.commit()

    def lock(self, row):
        with self.connection.cursor() as cursor:
            cursor.execute("SELECT id FROM outbox.message WHERE id = %s FOR UPDATE", (row.id,))

    def change(self, row):
        with self.connection.cursor() as cursor:
            cursor.execute("""UPDATE outbox.message SET headers = '{"seen": "yes"}' WHERE id = %s""", (row.id,))

    def go(self):
        self.connection.commit()


@pytest.fixture
def locker(database):
    return Locker(database)


def deleting(database):
    """Waits until the relay's DELETE waits for a lock; returns the session's process id."""
    return eventually(lambda: database.execute(DELETING, (database.name,)), what="a DELETE waits for a lock")[0][0]


def test_a_delete_is_cancelled_while_it_waits_for_a_lock(published, locker, database, topic, consumer):
    one, writer = published(lambda rows: locker.lock(rows[10]))
    for _ in range(3):
        database.execute("SELECT pg_cancel_backend(%s)", (deleting(database),))
    locker.go()
    one.wait_ready()
    finish(one, writer.committed, database, consumer, topic)


def test_a_delete_is_the_victim_of_a_deadlock(published, locker, postgres, database, topic, consumer):
    postgres.execute("ALTER ROLE outbox_relay SET deadlock_timeout = '1s'")
    try:
        one, writer = published(lambda rows: locker.lock(rows[-1]))
        deleting(database)
        locker.lock(writer.committed[1])  # returns once the relay has given way
        assert "deadlock detected" in postgres.log()
        locker.go()
        one.wait_ready()
        finish(one, writer.committed, database, consumer, topic)
    finally:
        postgres.execute("ALTER ROLE outbox_relay RESET deadlock_timeout")


@pytest.mark.parametrize("isolation", ["repeatable read", "serializable"])
def test_a_role_with_a_strict_isolation_level_by_default(published, locker, postgres, database, topic, consumer,
                                                         isolation):
    postgres.execute(f"ALTER ROLE outbox_relay SET default_transaction_isolation = '{isolation}'")
    try:
        one, writer = published(lambda rows: locker.change(rows[10]))
        deleting(database)
        locker.go()  # under such a level the DELETE fails now: could not serialize access due to concurrent update
        finish(one, writer.committed, database, consumer, topic)
    finally:
        postgres.execute("ALTER ROLE outbox_relay RESET default_transaction_isolation")


def test_two_relays_of_a_role_with_a_strict_isolation_level_share_the_lanes(relay, postgres, database, load, topic,
                                                                           consumer):
    postgres.execute("ALTER ROLE outbox_relay SET default_transaction_isolation = 'serializable'")
    try:
        settings = {"relay": {"workers": 2, "lease_ttl": "1s"}}
        one, other = relay(settings).start().wait_ready(), relay(settings).start()
        writers = load(writers=2, keys=100, rows=10, rows_per_second=2000)
        other.wait_ready()
        delivered(one, 1000)
        delivered(other, 1000)
        assert other.stop() == 0
        delivered(one, 1000)
        assert not one.log(event="postgres_lost"), one.log(event="postgres_lost")
        finish(one, writers.finish(), database, consumer, topic)
    finally:
        postgres.execute("ALTER ROLE outbox_relay RESET default_transaction_isolation")


# --- every way to refuse, from the server's own table of error codes ---

REFUSALS = {
    "40001": "serialization failure",
    "40P01": "deadlock detected",
    "55P03": "lock not available",
    "57014": "query cancelled",
    "53100": "disk full",
    "53200": "out of memory",
    "54000": "program limit exceeded",
    "58030": "I/O error",
    "XX000": "internal error",
    "P0001": "raised by a trigger",
}


@pytest.fixture
def refuse(database):
    """refuse(code, times): the next DELETEs of rows fail with that error, that many times."""
    database.execute("""
        CREATE SEQUENCE refusals;
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
        BEGIN
            IF nextval('public.refusals') <= TG_ARGV[1]::int8 THEN
                RAISE EXCEPTION 'refused by the test' USING ERRCODE = TG_ARGV[0];
            END IF;
            RETURN NULL;
        END $$""")

    def arm(code, times):
        database.execute("CREATE TRIGGER refuse BEFORE DELETE ON outbox.message FOR EACH STATEMENT "
                         f"EXECUTE FUNCTION refuse('{code}', {times})")

    return arm


@pytest.mark.parametrize("code", REFUSALS, ids=lambda code: REFUSALS[code].replace(" ", "-"))
def test_a_refused_delete_is_tried_again(refuse, relay, database, load, topic, consumer, code):
    refuse(code, 3)
    committed = load(writers=2, keys=20, transactions=20, rows=10).finish()
    one = relay().start()
    finish(one, committed, database, consumer, topic)
    assert database.execute("SELECT last_value > 3 FROM refusals") == [(True,)]


@pytest.mark.parametrize("code", ["40001", "40P01", "55P03", "57014"])
def test_a_delete_that_may_succeed_later_costs_no_session(refuse, relay, database, load, topic, consumer, code):
    refuse(code, 3)
    committed = load(writers=2, keys=20, transactions=20, rows=10).finish()
    one = relay().start()
    eventually(lambda: database.backlog() == 0)
    assert one.metric("outbox_delete_retries_total") >= 3
    assert not one.log(event="postgres_lost"), one.log(event="postgres_lost")
    told = one.log(event="delete_retried")
    assert len(told) == 1 and code in told[0]["msg"] + str(told[0].get("reason")), told
    finish(one, committed, database, consumer, topic)


def test_a_delete_refused_for_good_publishes_nothing_twice_and_says_why(refuse, relay, database, topic, consumer):
    refuse("40001", 10**9)
    writer = database.writer()
    writer.publish(topic, "k")
    one = relay().start()
    not_ready(one, "40001")
    eventually(lambda: database.execute("SELECT last_value >= 5 FROM refusals") == [(True,)])
    told = [line for line in one.log() if line["level"] in ("warn", "error")]
    assert len(told) <= 3, told
    database.execute("DROP TRIGGER refuse ON outbox.message")
    one.wait_ready()
    finish(one, writer.committed, database, consumer, topic)
