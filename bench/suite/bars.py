"""What the relay is to reach, each against what was measured. A figure that is not there is not measured, never met."""
from dataclasses import dataclass
from typing import Callable

RSS_MB = 64
_TUNED = "debezium_tuned_for_throughput"
_SHAPES = (("one_row_a_transaction", "1 row a transaction", 3.0), ("100_rows_a_transaction", "100 rows a transaction", 2.5))
# A rate that the writers could not keep up is another rate.
_HELD = 0.95


@dataclass(frozen=True)
class Bar:
    figure: str
    limit: Callable  # of the steps: a number, or None
    at_least: bool
    measured: Callable
    unit: str = ""

    def judge(self, steps):
        """(measured, limit, "met", "missed" or "not measured")"""
        value, limit = _or_none(self.measured, steps), _or_none(self.limit, steps)
        if value is None or limit is None:
            return value, limit, "not measured"
        return value, limit, "met" if (value >= limit if self.at_least else value <= limit) else "missed"


def _or_none(figure, steps):
    try:
        return figure(steps)
    except (KeyError, IndexError, StopIteration, ValueError, ZeroDivisionError, TypeError):
        return None


def at_least(figure, limit, measured, unit=""):
    return Bar(figure, lambda _: limit, True, measured, unit)


def at_most(figure, limit, measured, unit=""):
    return Bar(figure, limit if callable(limit) else lambda _: limit, False, measured, unit)


def drain_case(steps, payload_bytes=200, compression="none"):
    return next(case for case in steps["drain"]["cases"]
                if (case["payload_bytes"], case["compression"]) == (payload_bytes, compression))


def latency_at(steps, rate):
    found = next(case for case in steps["latency"]["by_rate"] if case["events_per_second"] == rate)
    return found if found["inserted_per_second"] >= _HELD * rate else None


def _best_drain(steps):
    cases = [case for case in steps["drain"]["cases"] if case["payload_bytes"] == 200]
    return max(one["events_per_second"] for case in cases for one in (case, case.get("two_workers", case)))


def _to_debezium(steps, shape, figure):
    drains = steps["debezium"]["drains"][shape]
    return drains["relay"][figure] / drains[_TUNED][figure]


def _worst_to_debezium(figure):
    return lambda steps: max(_to_debezium(steps, shape, figure) for shape, _, _ in _SHAPES)


def _debezium_p99(steps):
    return steps["debezium"]["latency_at_1000_per_second"]["debezium_tuned_for_latency"]["p99_ms"]


def _highest_rss(steps):
    """Of all that was measured with rows of 200 B: no backlog may be left out."""
    drains = [drain_case(steps, compression=compression) for compression in ("none", "lz4")]
    found = [steps["cost"]["memory"]["rss_mb"], *(case["relay_rss_mb"] for case in drains)]
    return max([*found, steps["flatness"]["relay_rss_mb"]])


def _fewest_per_delete(steps):
    return min(case["events_per_delete"] for case in steps["drain"]["cases"] if case["payload_bytes"] == 200)


def _updates(steps):
    return sum(case["message_rows_updated"] + case["statements"]["update_of_message"] for case in steps["drain"]["cases"])


BARS = [
    at_least("drain, 200 B, no compression: share of the ceiling", 0.85, lambda s: drain_case(s)["share_of_ceiling"]),
    at_least("drain, 200 B, lz4: share of the ceiling", 0.85,
             lambda s: drain_case(s, compression="lz4")["share_of_ceiling"]),
    at_least("the same with two workers, no compression", 0.85, lambda s: drain_case(s)["two_workers"]["share_of_ceiling"]),
    at_least("the same with two workers, lz4", 0.85,
             lambda s: drain_case(s, compression="lz4")["two_workers"]["share_of_ceiling"]),
    at_least("drain, 200 B, no compression: × the plain loop", 1.2, lambda s: s["yardstick"]["none"]["ratio"]),
    at_least("drain, 200 B, lz4: × the plain loop", 1.2, lambda s: s["yardstick"]["lz4"]["ratio"]),
    at_least("two workers, no compression: × the plain loop", 1.2, lambda s: s["yardstick"]["none"]["two_workers"]["ratio"]),
    at_least("two workers, lz4: × the plain loop", 1.2, lambda s: s["yardstick"]["lz4"]["two_workers"]["ratio"]),
    at_least("drain, 200 B, the best of these (the aim)", 350_000, _best_drain, "events/s"),
    *(at_least(f"drain, backlog of {words}: × Debezium tuned for throughput", limit,
               lambda s, shape=shape: _to_debezium(s, shape, "events_per_second")) for shape, words, limit in _SHAPES),
    at_most("CPU of the relay per event, share of Debezium's", 0.25, _worst_to_debezium("cpu_seconds_per_million")),
    at_most("RSS, share of Debezium's", 1 / 15, _worst_to_debezium("rss_mb")),
    at_most("p99 at 1,000/s, against Debezium tuned for latency", _debezium_p99,
            lambda s: s["debezium"]["latency_at_1000_per_second"]["relay"]["p99_ms"], "ms"),
    at_least("× the textbook relay in batches of 100", 3, lambda s: s["textbook"]["batches_of_100"]["ratio"]),
    at_least("snapshot held: rate of the last tenth / of the first", 0.8, lambda s: s["flatness"]["last_to_first"]),
    at_most("RSS, rows of 200 B, any backlog", RSS_MB, _highest_rss, "MB"),
    at_most("RSS, 200 B turning to 1 MB (in_flight_bytes + 64 MB)", lambda s: s["cost"]["memory"]["in_flight_mb"] + RSS_MB,
            lambda s: s["cost"]["memory"]["rss_with_large_mb"], "MB"),
    at_most("commit → consumer at 1,000/s, p50", 2, lambda s: latency_at(s, 1000)["p50_ms"], "ms"),
    at_most("commit → consumer at 1,000/s, p99", 6, lambda s: latency_at(s, 1000)["p99_ms"], "ms"),
    at_most("commit → consumer at 20,000/s, p99", 20, lambda s: latency_at(s, 20000)["p99_ms"], "ms"),
    at_most("idle, of a core", 1, lambda s: s["cost"]["idle"]["cpu_percent_of_a_core"], "%"),
    at_most("idle, statements", 25, lambda s: s["cost"]["idle"]["statements_per_second"], "/s"),
    at_least("events per DELETE while draining", 500, _fewest_per_delete),
    at_most("UPDATEs of message, and rows updated", 0, _updates),
]
