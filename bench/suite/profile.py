"""Where a drain spends its time: a worker, librdkafka's threads and the server's process, sampled by perf."""
import collections
import re
import shutil
import subprocess
import tempfile
import threading

from harness.waiting import eventually

from .bench import ROLE, delivered

SAMPLES_PER_SECOND = 499
LEAST_SHARE = 0.003  # of all samples: what is less is not drawn


def measure(bench):
    if shutil.which("perf") is None:
        return {"not_measured": "perf is not installed (Debian: linux-perf)"}
    rows = max(bench.rows, 20_000)
    relay = bench.relay()
    with bench.topic() as topic, tempfile.NamedTemporaryFile(suffix=".perf") as recording:
        bench.load(topic, rows)
        figures = {}
        drain = threading.Thread(target=lambda: figures.update(bench.drain(relay, rows)))
        drain.start()
        try:
            eventually(lambda: relay.running() and delivered(relay) > rows / 10, 120, "the drain is under way")
            processes = [relay.process.pid, *(pid for pid, in bench.execute(
                "SELECT pid FROM pg_stat_activity WHERE usename = %s AND query ~ 'outbox.message'", (ROLE,)))]
            # Where the processes end before the time does, perf says so by its status: what it has seen counts.
            subprocess.run(["perf", "record", "-q", "-F", str(SAMPLES_PER_SECOND), "--call-graph", "dwarf,8192", "-p",
                            ",".join(map(str, processes)), "-o", recording.name, "--", "sleep", "1" if bench.quick else "3"],
                           check=False, capture_output=True)
        finally:
            drain.join()
        script = subprocess.run(["perf", "script", "-i", recording.name, "--no-inline", "-F", "comm,tid,ip,sym"], check=True,
                                capture_output=True, text=True, errors="replace").stdout
    stacks = collections.Counter(parse(script))
    samples = sum(stacks.values())
    if not samples:
        raise RuntimeError("perf has seen nothing")
    return {"rows": rows, "events_per_second": figures["events_per_second"], "samples": samples,
            "frames": prune(tree(stacks), samples * LEAST_SHARE)}


def parse(script):
    """One tuple for each sample: its thread, then the functions, outermost first."""
    for sample in script.split("\n\n"):
        head, *frames = sample.strip("\n").split("\n")
        if not frames:
            continue
        names = [short(frame.split(maxsplit=1)[1]) for frame in reversed(frames) if len(frame.split(maxsplit=1)) == 2]
        yield (thread(head.rsplit(maxsplit=1)[0].strip()), *names)


def thread(name):
    if name.startswith("rdk:"):
        return "librdkafka: " + ("brokers" if name.startswith("rdk:broker") else name[4:])
    return name


def short(symbol):
    """Without what C++ says of namespaces, arguments and templates."""
    symbol = re.sub(r"\+0x[0-9a-f]+$", "", symbol.strip())
    if symbol == "[unknown]":
        return "?"
    while (plain := re.sub(r"<[^<>]*>|\([^()]*\)( const)?", "", symbol)) != symbol:
        symbol = plain
    return symbol.replace("outbox::", "").strip() or "?"


def tree(stacks):
    """[name, samples, [children]], the widest first."""
    root = ["all", 0, {}]
    for stack, count in stacks.items():
        node = root
        node[1] += count
        for name in stack:
            node = node[2].setdefault(name, [name, 0, {}])
            node[1] += count
    return root


def prune(node, least):
    name, count, children = node
    kept = sorted((child for child in children.values() if child[1] >= least), key=lambda child: -child[1])
    return [name, count, [prune(child, least) for child in kept]]
