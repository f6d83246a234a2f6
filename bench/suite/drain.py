"""How fast a backlog goes, by size and compression, and what the two halves alone would allow."""
import os

from . import peers
from .bench import ALLOCATOR, probe, say

PAYLOADS = (200, 1024, 8192)
COMPRESSIONS = ("none", "lz4")


def measure(bench):
    cases = []
    for payload_bytes in PAYLOADS:
        rows = max(bench.rows * PAYLOADS[0] // payload_bytes, 1000)  # the same bytes
        database = database_half(bench, rows, payload_bytes)
        for compression in COMPRESSIONS:
            say(f"  {payload_bytes} B, compression {compression}")
            kafka = kafka_half(bench, rows, payload_bytes, compression)
            per_million = sum(database["cpu_seconds_per_million"].values()) + sum(
                kafka["cpu_seconds_per_million"].values())
            ceiling = os.cpu_count() * 1e6 / per_million
            with bench.topic() as topic:
                bench.load(topic, rows, payload_bytes)
                drained = bench.drain(bench.relay(compression), rows)
            cases.append({"payload_bytes": payload_bytes, "compression": compression, "rows": rows,
                          "database_half": database, "kafka_half": kafka, "ceiling_events_per_second": ceiling,
                          **drained, "share_of_ceiling": drained["events_per_second"] / ceiling})
            if payload_bytes == PAYLOADS[0]:
                both = peers.relay_drain(bench, rows, compression, workers=2)
                cases[-1]["two_workers"] = {**both, "share_of_ceiling": both["events_per_second"] / ceiling}
    return {"cases": cases}


def database_half(bench, rows, payload_bytes):
    """The relay's own session and core, with a sink that acknowledges at once."""
    bench.load("database-half", rows, payload_bytes)
    before = bench.cpu()
    figures = probe("database", ALLOCATOR, dsn=bench.relay_dsn, rows=rows)
    return {"rows_per_second": figures["rows_per_second"],
            "cpu_seconds_per_million": {"relay": 1e6 * figures["cpu_seconds"] / rows,
                                        "postgres": bench.cpu_per_million(before, rows)["postgres"]}}


def kafka_half(bench, rows, payload_bytes, compression):
    """The relay's own producer, fed from memory."""
    with bench.topic() as topic:
        before = bench.cpu()
        figures = probe("kafka", ALLOCATOR, bootstrap=bench.kafka.bootstrap, topic=topic, rows=rows, payload_bytes=payload_bytes,
                        compression=compression)
        return {"rows_per_second": figures["rows_per_second"],
                "cpu_seconds_per_million": {"relay": 1e6 * figures["cpu_seconds"] / rows,
                                            "broker": bench.cpu_per_million(before, rows)["broker"]}}
