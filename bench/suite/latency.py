"""How long a committed event takes to a consumer, at steady rates; and what the relay costs the application's INSERT."""
import os

from .bench import probe, say

# Two cores that also consume and relay do not commit 5,000 times a second: from there on a transaction has several rows.
# Whether the rate was held is in the figures: inserted_per_second.
# At two a second each row follows half a second of silence, and waits for a relay that looks only now and then.
SHAPES = {2: {"writers": 1, "rows_per_transaction": 1}, 100: {"writers": 1, "rows_per_transaction": 1},
          1000: {"writers": 4, "rows_per_transaction": 1}, 5000: {"writers": 8, "rows_per_transaction": 5},
          20000: {"writers": 8, "rows_per_transaction": 20}}
INSERT_RATE = 1000
TURNS = 3  # all rates in turn: what holds the disk up for a moment decides a turn's p99. The middle one counts


def measure(bench):
    seconds = 2 if bench.quick else 15
    at_rate(bench, 5000, 1 if bench.quick else 5)  # not counted: nobody has consumed from this broker yet
    turns = [[at_rate(bench, rate, seconds) for rate in SHAPES] for _ in range(1 if bench.quick else TURNS)]
    return {"by_rate": [middle(cases) for cases in zip(*turns)], "insert": insert(bench, seconds)}


def middle(cases):
    """By its p99; those of the others come along."""
    in_order = sorted(cases, key=lambda case: case["p99_ms"])
    return {**in_order[len(cases) // 2], "p99_ms_of_all_turns": [case["p99_ms"] for case in cases]}


def at_rate(bench, rate, seconds):
    say(f"  {rate} events/s")
    with bench.topic() as topic, running(bench, bench.relay()):
        found = probe("latency", dsn=bench.dsn, bootstrap=bench.kafka.bootstrap, topic=topic, rows=rate * seconds,
                      rate=rate, **SHAPES[rate])
    return {"events_per_second": rate, **SHAPES[rate], **found}


def insert(bench, seconds):
    """INSERT and COMMIT of one row, with a relay at work on them and without."""
    options = {"rows": INSERT_RATE * seconds, "rate": INSERT_RATE, **SHAPES[INSERT_RATE]}
    with bench.topic() as topic:
        settle(bench)
        without = probe("insert-latency", dsn=bench.dsn, topic=topic, **options)
        with running(bench, bench.relay()):
            relayed = probe("insert-latency", dsn=bench.dsn, topic=topic, **options)
    return {"events_per_second": INSERT_RATE, "without_relay": without["insert"], "with_relay": relayed["insert"]}


def settle(bench):
    """A steady state is measured, not a drain's aftermath: gigabytes of the broker's logs wait to be written, and hold up
    whoever commits meanwhile."""
    bench.execute("TRUNCATE outbox.message")
    bench.execute("VACUUM ANALYZE outbox.message")
    bench.execute("CHECKPOINT")
    os.sync()


class running:
    """A relay, ready, on an empty table."""

    def __init__(self, bench, relay):
        self._bench, self._relay = bench, relay

    def __enter__(self):
        settle(self._bench)
        return self._relay.start().wait_ready()

    def __exit__(self, *_):
        if self._relay.stop() != 0:
            raise RuntimeError(f"the relay ended with {self._relay.process.returncode}")
