"""The application of the drill: small transactions at a steady rate, over many keys, remembered for the verdict."""
import threading
import time

from harness.outbox import Writer

LANES = 64
LANES_KEPT_IDLE = 8  # their keys come only after the outage


def keys_by_lane(server, database, count):
    """Keys of the lanes that are busy from the start, and keys of those that stay idle until the broker is back."""
    rows = server.execute("SELECT key, hashtextextended(key, 0) & 63 FROM unnest(%s) AS key",
                          ([f"order-{number}" for number in range(count)],), database=database)
    busy = [key for key, lane in rows if lane < LANES - LANES_KEPT_IDLE]
    idle = [key for key, lane in rows if lane >= LANES - LANES_KEPT_IDLE]
    return busy, idle


class Arrivals:
    """Every writer has keys of its own, so that the writers of one key serialise."""

    def __init__(self, connect, topic, keys, rows_per_second, writers=4, rows=5):
        self._topic = topic
        self._rows = rows
        self._pause = rows * writers / rows_per_second
        self._stop = threading.Event()
        self._failures = []
        self._writers = [Writer(connect()) for _ in range(writers)]
        self._threads = [threading.Thread(target=self._run, args=(writer, keys[number::writers], number), daemon=True)
                         for number, writer in enumerate(self._writers)]
        for thread in self._threads:
            thread.start()

    def _run(self, writer, keys, number):
        try:
            due = time.monotonic() + self._pause * number / len(self._writers)
            transaction = 0
            while not self._stop.wait(max(0.0, due - time.monotonic())):
                serials = range(transaction * self._rows, (transaction + 1) * self._rows)
                writer.insert_many([(self._topic, keys[serial % len(keys)], b'{"serial": %d}' % serial, None)
                                    for serial in serials])
                writer.commit()
                transaction += 1
                due += self._pause
        except Exception as failure:  # noqa: BLE001 - told by finish(), in the main thread
            self._failures.append(failure)

    def committed(self):
        return sum(len(writer.committed) for writer in self._writers)

    def finish(self):
        """The rows committed."""
        self._stop.set()
        for thread in self._threads:
            thread.join()
        for writer in self._writers:
            writer.close()
        if self._failures:
            raise self._failures[0]
        return [row for writer in self._writers for row in writer.committed]
