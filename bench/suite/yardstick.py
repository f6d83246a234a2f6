"""The relay, with one worker and with two, against a plain loop of a hundred lines, by turns, with the same rows and the
same settings. The same loop with the relay's allocator comes along: what is left then is the relay's own doing."""
from . import peers
from .bench import ALLOCATOR, calmest, say

TURNS = 3  # what the machine does beside it changes from minute to minute: the middle one counts


def measure(bench):
    figures = {}
    rows = max(bench.rows // TURNS, 1000)
    for compression in ("none", "lz4"):
        turns = []
        for turn in range(TURNS):
            say(f"  compression {compression}, turn {turn + 1} of {TURNS}")
            turns.append(tuple(calmest(drain, 1 if bench.quick else 3) for drain in (
                lambda: peers.drain(bench, "plain", rows, compression),
                lambda: peers.relay_drain(bench, rows, compression),
                lambda: peers.relay_drain(bench, rows, compression, workers=2),
                lambda: peers.drain(bench, "plain", rows, compression, allocator=ALLOCATOR))))
        figures[compression] = {**middle(turns, 0, 1), "two_workers": middle(turns, 0, 2),
                                "same_allocator": middle(turns, 3, 1)}
    return figures


def middle(turns, plain, relay):
    pairs = sorted(({"plain": turn[plain], "relay": turn[relay],
                     "ratio": turn[relay]["events_per_second"] / turn[plain]["events_per_second"]} for turn in turns),
                   key=lambda pair: pair["ratio"])
    return {**pairs[len(pairs) // 2], "ratios": [pair["ratio"] for pair in pairs]}
