"""The figures of the drill and what they have to be."""
from dataclasses import dataclass
from datetime import datetime

from harness.verifier import verify


@dataclass(frozen=True)
class Figure:
    name: str
    value: float
    unit: str = ""
    at_least: float | None = None
    at_most: float | None = None

    @property
    def met(self):
        return ((self.at_least is None or self.value >= self.at_least)
                and (self.at_most is None or self.value <= self.at_most))

    @property
    def wanted(self):
        if self.at_least is not None and self.at_most is not None:
            return f"{self.at_least:.4g} to {self.at_most:.4g}"
        return f"at most {self.at_most:.4g}" if self.at_most is not None else ""


class Ramp:
    """How many rows may have been sent so many seconds after the return: `start` rows/s, doubled every second, up to
    the ceiling."""

    STEP = 0.01

    def __init__(self, start, ceiling):
        self._start = start
        self._ceiling = ceiling

    def rate(self, seconds):
        # Bounded before it is a power: a day of doubling is a large number.
        return min(self._start * 2.0 ** min(int(seconds), 40), self._ceiling) if self._start else self._ceiling

    def seconds_until(self, waiting, arriving=0.0, left=0.0):
        """Until `left` of the `waiting` rows are left, while `arriving` rows/s come to them."""
        if arriving >= self._ceiling:
            raise ValueError("the ceiling is below the rate of arrivals: the backlog never ends")
        steps = 0
        while waiting > left:
            waiting += (arriving - self.rate(steps * self.STEP)) * self.STEP
            steps += 1
        return steps * self.STEP


@dataclass(frozen=True)
class Run:
    """What a drill has seen."""
    rate: float
    ramp: Ramp
    outage_at: float    # the broker was stopped
    return_at: float    # it was started again
    writable_at: float  # it took the first record of another producer
    gone_at: float      # nothing waited any more
    left: int           # rows that count as nothing
    samples: list
    committed: list
    newcomers: set      # event ids of rows of lanes that had been idle
    records: list
    oldest_transaction: float
    dead_letters: int
    left_in_table: int

    def during(self, start, end):
        return [sample for sample in self.samples if start <= sample.at <= end]


def figures_of(run):
    return [*_outage(run), *_recovery(run), *_verdict(run)]


def _outage(run):
    before = [sample for sample in run.samples if sample.at <= run.outage_at][-1]
    peak = max(sample.rss_bytes for sample in run.during(run.outage_at, run.writable_at))
    return [Figure("rows waiting when the broker accepted writes", _at(run.samples, run.writable_at).backlog),
            Figure("relay memory growth during the outage", (peak - before.rss_bytes) / 1e6, "MB", at_most=8),
            Figure("oldest transaction of the relay", run.oldest_transaction, "s", at_most=1)]


def _recovery(run):
    first = min(record.timestamp_ms / 1000 for record in run.records if record.timestamp_ms / 1000 > run.return_at)
    start = _at(run.samples, run.writable_at)
    # What was in flight when the broker went is sent by librdkafka itself, and is the probe.
    waiting = start.backlog - start.in_flight + run.rate * (first - start.at)
    expected = run.ramp.seconds_until(waiting, run.rate, run.left)
    # The end is known to one sample and one look at the table.
    slack = 0.1 * expected + 0.2
    return [Figure("first delivery after the broker accepts writes", first - run.writable_at, "s", at_most=2),
            Figure("backlog gone after", run.gone_at - first, "s", expected - slack, expected + slack),
            Figure("  the configured rate allows", expected, "s"),
            Figure("new rows of idle lanes: wait beyond that", _wait_beyond(run, first, waiting), "s", at_most=slack),
            Figure("broker errors during the recovery", run.samples[-1].errors - start.errors, at_most=0)]


def _wait_beyond(run, first, waiting):
    """The longest that a row of a lane that had been idle waited, beyond what the rows before it take at that rate."""
    longest = 0.0
    for record in run.records:
        if record.event_id not in run.newcomers:
            continue
        created = datetime.fromisoformat(record.header("created_at")).timestamp()
        ahead = waiting + run.rate * max(created - first, 0.0)
        due = max(created, first + run.ramp.seconds_until(ahead))
        longest = max(longest, record.timestamp_ms / 1000 - due)
    return longest


def _verdict(run):
    verdict = verify(run.committed, run.records)
    return [Figure("rows committed", len(run.committed)),
            Figure("lost", len(verdict.lost) + len(verdict.phantom), at_most=0),
            Figure("duplicated", len(verdict.duplicates), at_most=0),
            Figure("reordered", len(verdict.reordered), at_most=0),
            Figure("dead letters", run.dead_letters, at_most=0),
            Figure("left in the table", run.left_in_table, at_most=0)]


def _at(samples, moment):
    return min(samples, key=lambda sample: abs(sample.at - moment))


def table(figures):
    width = max(len(figure.name) for figure in figures)
    lines = []
    for figure in figures:
        value = f"{figure.value:,.0f}" if figure.unit == "" else f"{figure.value:.3f} {figure.unit}"
        judged = figure.at_least is not None or figure.at_most is not None
        mark = ("ok" if figure.met else "MISSED") if judged else ""
        lines.append(f"{figure.name:<{width}}  {value:>12}  {figure.wanted:<16}  {mark}".rstrip())
    return "\n".join(lines)
