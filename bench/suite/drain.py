"""How fast a backlog goes, by size and compression, and what the two halves alone would allow."""
import os

from . import peers
from .bench import ALLOCATOR, StolenTime, calmest, probe, say

PAYLOADS = (200, 1024, 8192)
COMPRESSIONS = ("none", "lz4")


TURNS = 3  # for the rows the bars speak of: the machine changes from minute to minute


def measure(bench):
    cases = []
    for payload_bytes in PAYLOADS:
        rows = max(bench.rows * PAYLOADS[0] // payload_bytes, 1000)  # the same bytes
        turns = [turn(bench, rows, payload_bytes)
                 for _ in range(TURNS if payload_bytes == PAYLOADS[0] and not bench.quick else 1)]
        cases += [middle(same) for same in zip(*turns)]
    return {"cases": cases}


def turn(bench, rows, payload_bytes):
    """A case for each compression, with its halves just before it."""
    tries = 3 if payload_bytes == PAYLOADS[0] and not bench.quick else 1
    database = calmest(lambda: database_half(bench, rows, payload_bytes), tries)
    cases = []
    for compression in COMPRESSIONS:
        say(f"  {payload_bytes} B, compression {compression}")
        kafka = calmest(lambda: kafka_half(bench, rows, payload_bytes, compression), tries)
        per_million = sum(database["cpu_seconds_per_million"].values()) + sum(kafka["cpu_seconds_per_million"].values())
        ceiling = os.cpu_count() * 1e6 / per_million

        def drained(workers):
            figures = calmest(lambda: peers.relay_drain(bench, rows, compression, workers, payload_bytes), tries)
            return {**figures, "ceiling_events_per_second": ceiling,
                    "share_of_ceiling": figures["events_per_second"] / ceiling}

        cases.append({"payload_bytes": payload_bytes, "compression": compression, "rows": rows,
                      "database_half": database, "kafka_half": kafka, **drained(1)})
        if payload_bytes == PAYLOADS[0]:
            cases[-1]["two_workers"] = drained(2)
    return cases


def middle(cases):
    """By its share of the ceiling, one worker's and two workers' each; the shares of the other turns come along."""
    by_share = sorted(cases, key=lambda case: case["share_of_ceiling"])
    chosen = {**by_share[len(cases) // 2], "shares": [case["share_of_ceiling"] for case in by_share]}
    if "two_workers" in chosen:
        chosen["two_workers"] = middle([case["two_workers"] for case in cases])
    return chosen


def database_half(bench, rows, payload_bytes):
    """The relay's own session and core, with a sink that acknowledges at once."""
    bench.load("database-half", rows, payload_bytes)
    before, stolen = bench.cpu(), StolenTime()
    figures = probe("database", ALLOCATOR, dsn=bench.relay_dsn, rows=rows)
    return {"rows_per_second": figures["rows_per_second"], "stolen": stolen.share(),
            "cpu_seconds_per_million": {"relay": 1e6 * figures["cpu_seconds"] / rows,
                                        "postgres": bench.cpu_per_million(before, rows)["postgres"]}}


def kafka_half(bench, rows, payload_bytes, compression):
    """The relay's own producer, fed from memory."""
    with bench.topic() as topic:
        before, stolen = bench.cpu(), StolenTime()
        figures = probe("kafka", ALLOCATOR, bootstrap=bench.kafka.bootstrap, topic=topic, rows=rows, payload_bytes=payload_bytes,
                        compression=compression)
        return {"rows_per_second": figures["rows_per_second"], "stolen": stolen.share(),
                "cpu_seconds_per_million": {"relay": 1e6 * figures["cpu_seconds"] / rows,
                                            "broker": bench.cpu_per_million(before, rows)["broker"]}}
