"""An application under load: small transactions over keys it shares, some rolled back, some held open, some prepared."""
import json
import random
import threading
import time
import uuid

import psycopg2

TOPIC = "orders"
# The business tables: a row for each key, which its writers lock, and what they did, in the transaction that sends the event.
SCHEMA = """
CREATE SCHEMA shop;
CREATE TABLE shop.account (key text PRIMARY KEY, n bigint NOT NULL DEFAULT 0) WITH (fillfactor = 20);
CREATE TABLE shop.entry (event_id uuid PRIMARY KEY, key text NOT NULL, n bigint NOT NULL, round int NOT NULL);
CREATE INDEX ON shop.entry (round);
GRANT USAGE ON SCHEMA shop TO outbox_app;
GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA shop TO outbox_app;
"""
_LOCK = "SELECT 1 FROM shop.account WHERE key = ANY(%s) ORDER BY key FOR UPDATE"
_WRITE = """
WITH moved AS (UPDATE shop.account SET n = n + 1 WHERE key = ANY(%(keys)s) RETURNING key, n, gen_random_uuid() AS event_id),
     sent AS (INSERT INTO outbox.message (event_id, topic, key, payload)
              SELECT event_id, %(topic)s, key, convert_to(json_build_object(
                     'round', %(round)s, 'key', key, 'n', n, 'filling', repeat('x', %(filling)s))::text, 'UTF8') FROM moved)
INSERT INTO shop.entry SELECT event_id, key, n, %(round)s FROM moved RETURNING event_id::text
"""


class Load:
    """Runs between `go(round)` and `rest()`. Only what a COMMIT has returned for is in `commits`; what became of the others
    is for the database to say afterwards."""

    def __init__(self, connect, seed, rate=600, writers=4, keys=48):
        self._connect = connect
        self._pause = 2.5 * writers / rate
        self._keys = [f"account-{number}" for number in range(keys)]
        self._stop = threading.Event()
        self._changed = threading.Condition()
        self._working = False
        self._resting = set()
        self._round = 0
        self._prepared = None
        self.commits = {}
        self.in_doubt = 0
        self.failures = []
        shapes = [self._write] * writers + [self._hold, self._prepare]
        self._threads = [threading.Thread(target=self._run, args=(shape, number, random.Random(f"{seed}/{number}")),
                                          name=f"writer-{number}", daemon=True) for number, shape in enumerate(shapes)]
        for thread in self._threads:
            thread.start()

    def go(self, number):
        with self._changed:
            self.commits = {}
            self.in_doubt = 0
            self._round = number
            self._working = True
            self._changed.notify_all()

    def rest(self, timeout):
        """Every transaction is over when it returns."""
        with self._changed:
            self._working = False
            if not self._changed.wait_for(lambda: len(self._resting) == len(self._threads), timeout):
                busy = [thread.name for thread in self._threads if thread.name not in self._resting]
                raise RuntimeError(f"still busy after {timeout} s: {', '.join(busy)}")
        if self.failures:
            raise self.failures[0]

    def end(self):
        self._stop.set()
        with self._changed:
            self._changed.notify_all()

    def _may_go_on(self):
        """Waits while the load rests."""
        with self._changed:
            if not self._working:
                self._resting.add(threading.current_thread().name)
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._working or self._stop.is_set())
                self._resting.discard(threading.current_thread().name)
        return not self._stop.is_set()

    def _nap(self, seconds):
        deadline = time.monotonic() + seconds
        while self._working and not self._stop.is_set() and time.monotonic() < deadline:
            time.sleep(min(0.1, max(0.0, deadline - time.monotonic())))

    def _run(self, shape, number, dice):
        connection = None
        try:
            while self._may_go_on():
                try:
                    if connection is None or connection.closed:
                        connection = self._connect()
                    shape(connection, dice, number)
                except psycopg2.Error:
                    # Whatever it was, the application starts the transaction anew, on a new connection.
                    _close(connection)
                    connection = None
                    time.sleep(0.1)
        except Exception as failure:  # noqa: BLE001 - told by rest(), in the main thread
            self.failures.append(failure)

    def _insert(self, cursor, keys, dice):
        cursor.execute(_LOCK, (sorted(keys),))
        event_ids = []
        for _ in range(dice.choice((1, 1, 2))):
            cursor.execute(_WRITE, {"keys": list(keys), "topic": TOPIC, "round": self._round,
                                    "filling": dice.choice((20, 100, 200, 1000))})
            event_ids += [event_id for (event_id,) in cursor.fetchall()]
        return event_ids

    def _commit(self, connection, event_ids):
        try:
            connection.commit()
        except psycopg2.Error:
            self.in_doubt += len(event_ids)
            raise
        at = time.time()
        self.commits.update((event_id, at) for event_id in event_ids)

    def _write(self, connection, dice, number):
        began = time.monotonic()
        with connection.cursor() as cursor:
            event_ids = self._insert(cursor, set(dice.choices(self._keys, k=dice.choice((1, 2, 3)))), dice)
        if dice.random() < 0.08:
            connection.rollback()
        else:
            self._commit(connection, event_ids)
        self._nap(began + self._pause * dice.uniform(0.5, 1.5) - time.monotonic())

    def _hold(self, connection, dice, number):
        """Keys of its own, so that nobody waits for it: only its ids are drawn long before they are committed."""
        with connection.cursor() as cursor:
            event_ids = self._insert(cursor, [f"held-{dice.randrange(4)}"], dice)
        self._nap(dice.uniform(0.2, 4.0))
        if dice.random() < 0.2:
            connection.rollback()
        else:
            self._commit(connection, event_ids)

    def _prepare(self, connection, dice, number):
        if self._prepared:  # a transaction is prepared, or may be: that comes first, for it holds locks
            self._finish(connection)
            return
        with connection.cursor() as cursor:
            event_ids = self._insert(cursor, [f"prepared-{dice.randrange(4)}"], dice)
            verb = "ROLLBACK" if dice.random() < 0.2 else "COMMIT"
            self._prepared = (verb, f"chaos-{uuid.uuid4()}", event_ids)
            cursor.execute("PREPARE TRANSACTION %s", (self._prepared[1],))
        connection.rollback()
        self._nap(dice.uniform(0.1, 2.0))
        self._finish(connection)
        self._nap(dice.uniform(0.1, 1.0))

    def _finish(self, connection):
        verb, gid, event_ids = self._prepared
        if finish_prepared(connection, verb, gid) and verb == "COMMIT":
            at = time.time()
            self.commits.update((event_id, at) for event_id in event_ids)
        self._prepared = None


def finish_prepared(connection, verb, gid):
    """Whether it was there; where it is not, it was never prepared or an answer was lost."""
    connection.rollback()
    connection.autocommit = True
    try:
        with connection.cursor() as cursor:
            cursor.execute(f"{verb} PREPARED %s", (gid,))
        return True
    except psycopg2.errors.UndefinedObject:
        return False
    finally:
        if not connection.closed:
            connection.autocommit = False


def _close(connection):
    try:
        if connection is not None:
            connection.close()
    except psycopg2.Error:
        pass


def payload_of(record):
    """(round, key, n) as the writer put it."""
    said = json.loads(record.payload)
    return said["round"], said["key"], said["n"]
