"""The relay against the textbook's: lock a batch, publish, wait, delete, commit; row by row and a hundred at a time."""
from . import peers


def measure(bench):
    relay = peers.relay_drain(bench, max(bench.rows // 5, 1000))
    figures = {"relay": relay}
    for batch, share in ((1, 250), (100, 25)):
        peer = peers.drain(bench, "textbook", max(bench.rows // share // 100 * 100, 500), batch=batch)
        figures[f"batches_of_{batch}"] = {**peer, "ratio": relay["events_per_second"] / peer["events_per_second"]}
    return figures
