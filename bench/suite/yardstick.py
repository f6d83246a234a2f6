"""The relay against a plain loop of a hundred lines, by turns, with the same rows and the same settings."""
from . import peers
from .bench import say

TURNS = 3  # what the machine does beside it changes from minute to minute: the middle one counts


def measure(bench):
    figures = {}
    rows = max(bench.rows // TURNS, 1000)
    for compression in ("none", "lz4"):
        turns = []
        for turn in range(TURNS):
            say(f"  compression {compression}, turn {turn + 1} of {TURNS}")
            plain = peers.drain(bench, "plain", rows, compression)
            relay = peers.relay_drain(bench, rows, compression)
            turns.append({"plain": plain, "relay": relay,
                          "ratio": relay["events_per_second"] / plain["events_per_second"]})
        turns.sort(key=lambda one: one["ratio"])
        figures[compression] = {**turns[TURNS // 2], "ratios": [one["ratio"] for one in turns]}
    return figures
