"""The relay against a plain loop of a hundred lines, in turn, with the same rows and the same settings."""
from . import peers
from .bench import say


def measure(bench):
    figures = {}
    for compression in ("none", "lz4"):
        say(f"  compression {compression}")
        plain = peers.drain(bench, "plain", bench.rows, compression)
        relay = peers.relay_drain(bench, bench.rows, compression)
        figures[compression] = {"plain": plain, "relay": relay,
                                "ratio": relay["events_per_second"] / plain["events_per_second"]}
    return figures
