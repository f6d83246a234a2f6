"""An application's side of the outbox: writes rows, remembers what was committed."""
import json
import threading
import time

import psycopg2
from psycopg2.extras import execute_values

from .verifier import CommittedRow
from .waiting import eventually

_INSERT = """INSERT INTO outbox.message (topic, key, payload, headers) VALUES %s
             RETURNING id, event_id::text, topic, key"""


class Writer:
    """One session of the application. Rows count as committed only when their COMMIT came back; when its answer was
    lost they are `in_doubt`. Reading ids back takes a privilege that an application need not have: not for its role."""

    def __init__(self, connection):
        self.connection = connection
        self.connection.autocommit = False
        self.committed = []
        self.in_doubt = []
        self._pending = []

    def insert(self, topic, key=None, payload=b"{}", headers=None):
        return self.insert_many([(topic, key, payload, headers)])[0]

    def insert_many(self, messages):
        """`messages` are (topic, key, payload, headers)."""
        values = [(topic, key, payload, json.dumps(headers or {}, ensure_ascii=False))
                  for topic, key, payload, headers in messages]
        with self.connection.cursor() as cursor:
            rows = execute_values(cursor, _INSERT, values, page_size=len(values), fetch=True)
        rows = [CommittedRow(*row) for row in rows]
        self._pending += rows
        return rows

    def commit(self):
        try:
            self.connection.commit()
        except psycopg2.Error:
            self.in_doubt += self._pending
            self._pending = []
            raise
        self.committed += self._pending
        self._pending = []

    def rollback(self):
        self.connection.rollback()
        self._pending = []

    def publish(self, topic, key=None, payload=b"{}", headers=None):
        """One row in a transaction of its own."""
        row = self.insert(topic, key, payload, headers)
        self.commit()
        return row

    def prepare(self, gid):
        """First half of a two-phase commit; `commit_prepared` (from any session) is the other."""
        with self.connection.cursor() as cursor:
            cursor.execute("PREPARE TRANSACTION %s", (gid,))
        self.connection.rollback()

    def commit_prepared(self, gid):
        self.connection.autocommit = True
        with self.connection.cursor() as cursor:
            cursor.execute("COMMIT PREPARED %s", (gid,))
        self.connection.autocommit = False
        self.committed += self._pending
        self._pending = []

    def close(self):
        self.connection.close()


class Load:
    """Writers in threads, each with keys of its own (so that writers of one key serialise), until stopped or done.

    Every eleventh transaction rolls back: a number that shares no factor with common counts of keys and rows, so no
    key is rolled back every time. `rows_per_second` is the rate of all writers together; None is as fast as it
    goes. A lost connection is opened again: the load survives a restart of Postgres.
    """

    def __init__(self, connect, topic, writers=2, keys=100, transactions=None, rows=5, rows_per_second=None):
        self._connect = connect
        self._stop = threading.Event()
        self._failures = []
        self._writers = [Writer(connect()) for _ in range(writers)]
        self._limit = transactions
        self._shape = (topic, max(1, keys // writers), rows)
        self._pause = rows * writers / rows_per_second if rows_per_second else 0
        self._threads = [threading.Thread(target=self._run, args=(number, writer), daemon=True)
                         for number, writer in enumerate(self._writers)]
        for thread in self._threads:
            thread.start()

    def _run(self, number, writer):
        try:
            due = time.monotonic()
            transaction = 0
            while not self._stop.is_set() and (self._limit is None or transaction < self._limit):
                try:
                    self._write(writer, number, transaction)
                except psycopg2.OperationalError:
                    self._reconnect(writer)
                transaction += 1
                due += self._pause
                self._stop.wait(max(0.0, due - time.monotonic()))
        except Exception as failure:  # noqa: BLE001 - told by finish(), in the test's own thread
            self._failures.append(failure)

    def _reconnect(self, writer):
        # finish() without a limit and abandon() must not wait for a server that does not come back.
        connection = eventually(lambda: self._stop.is_set() or self._connect(), 60, "Postgres is back")
        if connection is not True:
            writer.connection = connection
            writer.connection.autocommit = False
            writer.rollback()

    def _write(self, writer, number, transaction):
        topic, keys, rows = self._shape
        serials = range(transaction * rows, (transaction + 1) * rows)
        writer.insert_many([(topic, f"writer-{number}-key-{serial % keys}", b'{"serial": %d}' % serial, None)
                            for serial in serials])
        if transaction % 11 == 10:
            writer.rollback()
        else:
            writer.commit()

    def count(self):
        return sum(len(writer.committed) for writer in self._writers)

    def in_doubt(self):
        return [row for writer in self._writers for row in writer.in_doubt]

    def finish(self):
        """The rows committed, once every writer has written its share; without a limit the writers stop here."""
        if self._limit is None:
            self._stop.set()
        for thread in self._threads:
            thread.join()
        for writer in self._writers:
            writer.close()
        if self._failures:
            raise self._failures[0]
        return [row for writer in self._writers for row in writer.committed]

    def abandon(self):
        """For a test that failed half way: the writers stop, whatever their limit."""
        self._stop.set()
        for thread in self._threads:
            thread.join()
