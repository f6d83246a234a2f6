"""One worker, one replica, 10,000 keys and one topic against more and fewer of each, as ratios in the same run."""
from harness.relay import run_command
from harness.waiting import eventually

from .bench import TEN_THOUSAND_KEYS, say

TOPICS = 1000
LANES = 64


def measure(bench):
    rows = max(bench.rows // 5, 1000)
    cases = [("plain", lambda: plain(bench, rows))]
    cases += [(f"{n} workers", lambda n=n: plain(bench, rows, relay={"workers": n})) for n in (2, 4)]
    cases += [(f"{n} replicas", lambda n=n: replicas(bench, rows, n)) for n in (2, 4)]
    cases += [("1 key", lambda: plain(bench, rows, key="'key'"))]
    cases += [(f"{n:,} keys", lambda n=n: plain(bench, rows, key=f"'key-' || i % {n}")) for n in (100, 100_000)]
    cases += [("half of one key", lambda: plain(bench, rows, key=f"CASE WHEN i % 2 = 0 THEN 'hot' ELSE {TEN_THOUSAND_KEYS} END")),
              (f"{TOPICS:,} topics", lambda: topics(bench, rows))]
    rates = {}
    for name, measured in cases:
        say(f"  {name}")
        rates[name] = measured()["events_per_second"]
    return {"rows": rows, "cases": [{"name": name, "events_per_second": rate, "ratio": rate / rates["plain"]}
                                    for name, rate in rates.items()]}


def plain(bench, rows, key=TEN_THOUSAND_KEYS, **tables):
    with bench.topic() as topic:
        bench.load(topic, rows, key=key)
        return bench.drain(bench.relay(**tables), rows)


def replicas(bench, rows, count):
    """They begin together, once they have shared the lanes."""
    def control(*arguments):
        done = run_command(*arguments, "--no-wait", "--reason", "measuring", "--set", f"postgres.dsn={bench.dsn}")
        if done.returncode != 0:
            raise RuntimeError(done.stdout + done.stderr)

    with bench.topic() as topic:
        control("pause")
        try:
            bench.load(topic, rows)
            relays = [bench.relay().start() for _ in range(count)]
            eventually(lambda: all(relay.metric("outbox_lanes_owned") == LANES / count for relay in relays), 60,
                       "the lanes are shared")
            return bench.drain(relays, rows, started=lambda: control("resume"))
        finally:
            control("resume")


def topics(bench, rows):
    names = [f"bench-topic-{number}" for number in range(TOPICS)]
    bench.kafka.create_topics(names, partitions=1)
    # The first time is not counted: the broker opens a log for each, and has never served so many.
    for _ in range(2):
        bench.load("bench-topic-%s", rows)
        figures = bench.drain(bench.relay(), rows)
    return figures
