"""performance.md and its plots, from results.json: nothing in it is written by hand but performance/changes.md."""
import json
import pathlib

from . import plot
from .bars import BARS, latency_at
from .bench import CALM

ROOT = pathlib.Path(__file__).resolve().parents[2]
CHANGES = ROOT / "docs" / "performance" / "changes.md"
NOT_MEASURED = "Not measured.\n"


def write(output):
    """OUTPUT/performance.md and OUTPUT/performance/*.svg, from OUTPUT/performance/results.json."""
    folder = output / "performance"
    figures = folder / "results.json"
    results = json.loads(figures.read_text(encoding="utf-8")) if figures.exists() else {}
    steps = results.get("steps", {})
    plots = {}
    parts = [_HEAD, _machine(results), *([_TRIAL] if any(step.get("quick") for step in steps.values()) else []),
             _bars(steps)]
    for title, name, section in _SECTIONS:
        parts += [f"## {title}\n", section(steps[name], plots) if name in steps else NOT_MEASURED]
    parts += ["## Peers\n", _peers(steps, plots)]
    parts.append(CHANGES.read_text(encoding="utf-8"))
    folder.mkdir(parents=True, exist_ok=True)
    for name, svg in plots.items():
        (folder / f"{name}.svg").write_text(svg, encoding="utf-8")
    (output / "performance.md").write_text("\n".join(parts), encoding="utf-8")


_HEAD = """# Performance

`bench/run` measured all of this and wrote this page (`bench/run --page` draws it again from
[performance/results.json](performance/results.json); `bench/run --help`). Figures of one step were taken in one run, on one machine
that Postgres, Kafka and the relay share: read them against each other, not against those of other machines.
"""


_STOLEN = f"""*Stolen* is the share of the cores' time that the hypervisor gave to other
machines meanwhile: drains of 200 B and their halves went again where it was more than {100 * CALM:g} %, three times at most, and the
calmest run counts (results.json has them all, under "runs")."""


_TRIAL = "**With `--quick`: to see that everything works. The figures mean nothing.**\n"


def _machine(results):
    host = results.get("host", {})
    rows = [("processor", f"{host.get('cpu', '?')}, {host.get('cores', '?')} cores"),
            ("memory", f"{host.get('memory_gb', '?')} GB"), ("Postgres", host.get("postgres", "?")),
            ("Kafka", host.get("kafka", "?")), ("librdkafka", host.get("librdkafka", "?")),
            ("relay, in the step measured last", host.get("relay", "?"))]
    measured = sorted(step["at"] for step in results.get("steps", {}).values() if "at" in step)
    if measured:
        rows.append(("measured", measured[0][:10] if measured[0][:10] == measured[-1][:10]
                     else f"{measured[0][:10]} to {measured[-1][:10]}"))
    return _table(["machine", ""], rows)


def _bars(steps):
    rows = []
    for bar in BARS:
        value, limit, verdict = bar.judge(steps)
        sign = "≥" if bar.at_least else "≤"
        rows.append((bar.figure, _with_unit(value, bar.unit), "–" if limit is None else f"{sign} {_with_unit(limit, bar.unit)}",
                     "**missed**" if verdict == "missed" else verdict))
    return "## What is to be reached\n\n" + _table(["figure", "measured", "bar", ""], rows)


def _drain(step, plots):
    cases = step["cases"]
    plots["drain"] = plot.bars(
        "Drain by payload and compression", "events/s", ["drained", "ceiling", "Postgres alone", "Kafka alone"],
        [(f"{size(case['payload_bytes'])}, {case['compression']}",
          [case["events_per_second"], case["ceiling_events_per_second"], case["database_half"]["rows_per_second"],
           case["kafka_half"]["rows_per_second"]]) for case in cases])
    drains = [(case, "", case) for case in cases]
    drains += [(case, ", two workers", case["two_workers"]) for case in cases if "two_workers" in case]
    rows = [(f"{size(case['payload_bytes'])}, {case['compression']}{words}", number(case["rows"]),
             number(drain["events_per_second"]), number(drain["ceiling_events_per_second"]), number(drain["share_of_ceiling"]),
             ", ".join(number(share) for share in drain["shares"]), percent(drain.get("stolen")),
             cpu(drain["cpu_seconds_per_million"], "relay", "postgres", "broker"), number(drain["relay_rss_mb"]),
             number(drain["wal_bytes_per_event"]), number(drain["events_per_delete"])) for case, words, drain in drains]
    return f"""A backlog over 10,000 keys, in order per key, to a topic of 8 partitions. *Postgres alone* is the relay's own session and core with
a sink that acknowledges at once, *Kafka alone* its producer fed from memory. The *ceiling* is what the cores could do if they were
never idle: cores / (CPU per event of both halves, servers included). CPU is in seconds per million events: relay + Postgres +
broker. Those of 200 B went by turns, each turn with its own halves: a row is the turn with the middle share. One worker is the default; two (`relay.workers = 2`) share the lanes, so that order holds. The backlog follows a checkpoint,
so that its WAL holds an image of every page. {_STOLEN}

![drain](performance/drain.svg)

{_table(["rows of", "rows", "events/s", "ceiling", "share", "of all turns", "stolen", "CPU s per million", "RSS MB", "WAL B per event", "events per DELETE"], rows)}"""


def _peers(steps, plots):
    """Rates of one step stand together: each peer was measured next to a relay of its own."""
    groups = []  # (label, relay, peer, its CPU, ratio)
    for compression, found in sorted(steps.get("yardstick", {}).items(), reverse=True):
        turns = [("", found), (", two workers", found["two_workers"]),
                 (", its allocator too", found["same_allocator"])] if isinstance(found, dict) else []
        groups += [(f"plain loop, {compression}{words}", turn["relay"], turn["plain"],
                    cpu(turn["plain"]["cpu_seconds_per_million"], "peer", "postgres", "broker")) for words, turn in turns]
    for batch in (100, 1):
        found = steps.get("textbook", {}).get(f"batches_of_{batch}")
        if found:
            groups.append((f"textbook, by {batch}", steps["textbook"]["relay"], found,
                           cpu(found["cpu_seconds_per_million"], "peer", "postgres", "broker")))
    for shape, words in (("one_row_a_transaction", "1 row"), ("100_rows_a_transaction", "100 rows")):
        drains = steps.get("debezium", {}).get("drains", {}).get(shape, {})
        for name, label in (("debezium_tuned_for_throughput", "tuned"), ("debezium_defaults", "defaults")):
            if name in drains and "relay" in drains:
                found = drains[name]
                servers = [found[f"{server}_cpu_seconds_per_million"] for server in ("postgres", "broker")]
                groups.append((f"Debezium {label}, {words}", drains["relay"], found,
                               " + ".join(number(float(x)) for x in (found["cpu_seconds_per_million"], *servers))))
    if not groups:
        return NOT_MEASURED
    plots["peers"] = plot.bars("Peers, each beside the relay in the same run", "events/s", ["relay", "peer"],
                               [(label, [relay["events_per_second"], peer["events_per_second"]])
                                for label, relay, peer, _ in groups])
    rows = [(label, number(relay["events_per_second"]), number(peer["events_per_second"]),
             number(relay["events_per_second"] / peer["events_per_second"]),
             f"{percent(relay.get('stolen'))}, {percent(peer.get('stolen'))}", seconds)
            for label, relay, peer, seconds in groups]
    note = steps.get("debezium", {}).get("not_the_same_work", "")
    return f"""Rows of 200 B. The *plain loop* (bench/plain_loop.cpp) is what can be written in a hundred lines when nothing may go wrong: one
thread reads and produces, and deletes by exact ids on a second session; it and the relay went by turns, and the middle of three counts;
runs from which much was stolen went again, as above.
*Its allocator too*: the same loop with jemalloc, which is the relay's, and no part of such a loop.
The *textbook* relay (bench/textbook.cpp) locks a batch with
SKIP LOCKED, publishes, waits, deletes and commits. Both use the relay's settings of librdkafka. Debezium's backlog was written with
so many rows a transaction. {note}

![peers](performance/peers.svg)

{_table(["peer", "relay, events/s", "peer, events/s", "relay / peer", "stolen from each", "the peer's CPU s per million"], rows)}{_debezium(steps)}"""


def _debezium(steps):
    latencies = steps.get("debezium", {}).get("latency_at_1000_per_second", {})
    rows = [(name.replace("_", " "), number(found["p50_ms"]), number(found["p99_ms"]), number(found["p999_ms"]))
            for name, found in latencies.items()]
    return "\nCommit to consumer at 1,000 events/s:\n\n" + _table(["", "p50 ms", "p99 ms", "p99.9 ms"], rows) if rows else ""


def _flatness(step, plots):
    rates = step["events_per_second_by_tenth"]
    plots["flatness"] = plot.lines(
        "Rate while a snapshot is held", "events/s, by tenth of the backlog",
        [("rate", [(f"{place}", rate) for place, rate in enumerate(rates, 1)])])
    return f"""{number(step['rows'])} rows drained while another session holds a REPEATABLE READ snapshot, so that no dead row can be removed, and a
third inserts {number(step['inserts_per_second'])} rows/s. The last tenth went at {number(step['last_to_first'])} of the first one's rate;
memory stayed at {number(step['relay_rss_mb'])} MB.

![flatness](performance/flatness.svg)
"""


def _latency(step, plots):
    cases = step["by_rate"]
    plots["latency"] = plot.lines(
        "Commit to consumer", "ms", [(name, [(number(case["events_per_second"]) + "/s", case[key]) for case in cases])
                                     for name, key in (("p50", "p50_ms"), ("p99", "p99_ms"), ("p99.9", "p999_ms"))], True)
    rows = [(number(case["events_per_second"]), number(case["inserted_per_second"])
             + ("" if latency_at({"latency": step}, case["events_per_second"]) else " (not held)"),
             f"{case['writers']} × {case['rows_per_transaction']}", number(case["p50_ms"]), number(case["p99_ms"]),
             number(case["p999_ms"]), ", ".join(map(number, case["p99_ms_of_all_turns"]))) for case in cases]
    insert = step["insert"]
    effect = [(words, number(insert[key]["p50_ms"]), number(insert[key]["p99_ms"]), number(insert[key]["p999_ms"]))
              for words, key in (("without a relay", "without_relay"), ("with a relay", "with_relay"))]
    return f"""From the return of COMMIT to a plain consumer. *Writers* are sessions × rows in each transaction. Where the writers did not keep
the rate up, the figures are those of the rate they reached. All rates went by turns: a row is the turn with the middle p99.
The rate goes for three seconds before it is measured. At two a second each row follows half a second of silence, and waits for
`poll_interval.max` at most.

![latency](performance/latency.svg)

{_table(["events/s", "reached", "writers", "p50 ms", "p99 ms", "p99.9 ms", "p99 of all turns"], rows)}
The application's own INSERT and COMMIT of one row at {number(insert['events_per_second'])} a second:

{_table(["", "p50 ms", "p99 ms", "p99.9 ms"], effect)}"""


def _cost(step, _):
    idle, memory = step["idle"], step["memory"]
    rows = [("idle, of a core", number(idle["cpu_percent_of_a_core"]) + " %"),
            ("idle, statements", number(idle["statements_per_second"]) + "/s"),
            ("idle, RSS", number(idle["rss_mb"]) + " MB"),
            (f"RSS, backlog of {number(memory['small_rows'])} rows of 200 B", number(memory["rss_mb"]) + " MB"),
            (f"RSS, then {number(memory['large_rows'])} rows of 1 MB, in_flight_bytes {number(memory['in_flight_mb'])} MB",
             number(memory["rss_with_large_mb"]) + " MB")]
    return _table(["cost", ""], rows)


def _scale(step, plots):
    cases = step["cases"]
    plots["scale"] = plot.bars("Scale, against the plain case", "ratio of events/s", ["ratio"],
                               [(case["name"], [case["ratio"]]) for case in cases])
    rows = [(case["name"], number(case["events_per_second"]), number(case["ratio"])) for case in cases]
    return f"""Drains of {number(step['rows'])} rows. The plain case is one relay with one worker, 10,000 keys, one topic of 8 partitions; the others
differ in what their name says (1,000 topics have one partition each, and are drained twice: the first time, not counted, the broker
opens a log for each).

![scale](performance/scale.svg)

{_table(["case", "events/s", "ratio"], rows)}"""


def _distance(step, _):
    rows = [(number(case["round_trip_ms"]), number(case["relay"]["events_per_second"]),
             number(case["plain"]["events_per_second"]), number(case["ratio"]), ", ".join(map(number, case["ratios"])),
             f"{percent(case['relay'].get('stolen'))}, {percent(case['plain'].get('stolen'))}") for case in step["cases"]]
    return f"""Drains of {number(step['rows'])} rows of 200 B, no compression, by the relay and by the plain loop (below), by turns, where a proxy
on the same two cores holds back what goes to and from Postgres. The round trip is that of `SELECT 1`, the proxy's own time with it.

{_table(["round trip, ms", "relay, events/s", "plain loop, events/s", "relay / plain loop", "of all turns", "stolen from each"], rows)}"""


def _claims(step, _):
    rows = [(number(case["workers"]), number(case["lanes_events_per_second"]), number(case["rows_events_per_second"]),
             number(case["ratio"])) for case in step["cases"]]
    return f"""`relay.claim = "rows"` keeps no order and needs no leases; its rows are locked while they are published.

{_table(["workers", "lanes, events/s", "rows, events/s", "rows / lanes"], rows)}"""


def _profile(step, plots):
    if "frames" not in step:
        return step["not_measured"] + "\n"
    plots["flame"] = plot.flame(f"A drain at {number(step['events_per_second'])} events/s, by thread", step["frames"])
    alone = {}

    def add(node):
        name, count, children = node
        rest = count - sum(child[1] for child in children)
        alone[name] = alone.get(name, 0) + rest
        for child in children:
            add(child)

    add(step["frames"])
    widest = sorted(alone.items(), key=lambda item: -item[1])[:12]
    return f"""{number(step['samples'])} samples of the relay and of its server process, while both run; what has less than 0.3 % of them counts to its
caller. Sampling slows them down.

![where a drain spends its time](performance/flame.svg)

{_table(["function, without what it calls", "share"], [(f"`{name}`", f"{100 * count / step['samples']:.1f} %") for name, count in widest])}"""


_SECTIONS = [("Drain", "drain", _drain), ("Flatness", "flatness", _flatness), ("Latency", "latency", _latency),
             ("Cost", "cost", _cost), ("Scale", "scale", _scale), ("Distance", "distance", _distance),
             ("Claims", "claims", _claims), ("Profile", "profile", _profile)]


def number(value):
    if value is None:
        return "not measured"
    if isinstance(value, float) and abs(value) < 100:
        return f"{value:.3g}"
    return f"{value:,.0f}"


def size(count):
    return f"{count // 1024} KB" if count % 1024 == 0 else f"{count} B"


def cpu(seconds, *names):
    return " + ".join(number(float(seconds[name])) for name in names)


def percent(share):
    return "–" if share is None else f"{100 * share:.1f} %"


def _with_unit(value, unit):
    return number(value) if value is None or not unit else f"{number(value)} {unit}"


def _table(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(str(cell) for cell in row) + " |\n" for row in lines)
