"""The relay and the plain loop, by turns, where each answer of Postgres is some milliseconds away."""
import contextlib
import statistics
import time

import psycopg2

from harness.fault_proxy import FaultProxy

from . import peers, yardstick
from .bench import calmest, say

ONE_WAY_MS = (0, 1, 3)  # the proxy alone; another zone; another region nearby


def measure(bench):
    rows = max(bench.rows // 5, 1000)
    cases = []
    for one_way_ms in ONE_WAY_MS:
        say(f"  {one_way_ms} ms each way")
        with distant(bench, one_way_ms / 1000):
            turns = [tuple(calmest(drain, 1 if bench.quick else 3) for drain in (
                lambda: peers.drain(bench, "plain", rows), lambda: peers.relay_drain(bench, rows)))
                for _ in range(yardstick.TURNS)]
            cases.append({"one_way_ms": one_way_ms, "round_trip_ms": round_trip_ms(bench), **yardstick.middle(turns, 0, 1)})
    return {"rows": rows, "cases": cases}


@contextlib.contextmanager
def distant(bench, seconds):
    proxy = FaultProxy(("127.0.0.1", bench.postgres.port))
    proxy.delay(seconds)
    try:
        with bench.postgres_at("127.0.0.1", proxy.port):
            yield
    finally:
        proxy.close()


def round_trip_ms(bench):
    """Of the smallest statement there is, the middle of many: a link of this kind is seldom as fast as it is told to be."""
    seconds = []
    with contextlib.closing(psycopg2.connect(bench.dsn)) as connection, connection.cursor() as cursor:
        for _ in range(101):
            begin = time.monotonic()
            cursor.execute("SELECT 1")
            seconds.append(time.monotonic() - begin)
    return 1000 * statistics.median(seconds)
