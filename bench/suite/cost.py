"""What a relay takes when nothing happens, and how much memory at the worst."""
import time

from harness.waiting import eventually

from .bench import cpu_of, delivered, rss_mb
from .latency import running

IN_FLIGHT_MIB = 32
LARGE_BYTES = 1_000_000


def measure(bench):
    return {"idle": idle(bench), "memory": memory(bench)}


def idle(bench):
    with running(bench, bench.relay()) as relay:
        time.sleep(3)
        bench.forget_statements()
        cpu, begin = cpu_of(relay.process.pid), time.monotonic()
        time.sleep(3 if bench.quick else 20)
        seconds = time.monotonic() - begin
        return {"seconds": seconds, "cpu_percent_of_a_core": 100 * (cpu_of(relay.process.pid) - cpu) / seconds,
                "statements_per_second": sum(bench.statements().values()) / seconds,
                "rss_mb": rss_mb(relay.process.pid)}


def memory(bench):
    """The highest there was: behind a backlog of small rows, and once large ones have followed."""
    large = 40 if bench.quick else 300
    relay = bench.relay(relay={"in_flight_bytes": f"{IN_FLIGHT_MIB}MiB"})
    with bench.topic() as topic:
        bench.load(topic)
        bench.load(topic, large, LARGE_BYTES, keep=True)
        relay.start()
        eventually(lambda: delivered(relay) >= bench.rows * 0.95, 600, "most of the small rows are delivered")
        small_mb = rss_mb(relay.process.pid)
        eventually(lambda: delivered(relay) == bench.rows + large, 600, "all rows are delivered")
        figures = {"small_rows": bench.rows, "small_bytes": 200, "rss_mb": small_mb, "large_rows": large,
                   "large_bytes": LARGE_BYTES, "in_flight_mb": IN_FLIGHT_MIB * 1024 * 1024 / 1e6,
                   "rss_with_large_mb": rss_mb(relay.process.pid)}
        if relay.stop() != 0:
            raise RuntimeError(f"the relay ended with {relay.process.returncode}")
    return figures
