"""The relay, with one worker and with two, against a plain loop of a hundred lines, by turns, with the same rows and the
same settings."""
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
            turns.append((plain, peers.relay_drain(bench, rows, compression),
                          peers.relay_drain(bench, rows, compression, workers=2)))
        figures[compression] = {**middle(turns, 1), "two_workers": middle(turns, 2)}
    return figures


def middle(turns, which):
    pairs = sorted(({"plain": turn[0], "relay": turn[which],
                     "ratio": turn[which]["events_per_second"] / turn[0]["events_per_second"]} for turn in turns),
                   key=lambda pair: pair["ratio"])
    return {**pairs[len(pairs) // 2], "ratios": [pair["ratio"] for pair in pairs]}
