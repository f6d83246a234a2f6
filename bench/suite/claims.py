"""relay.claim = "rows" against "lanes", by one worker and by two."""

def measure(bench):
    rows = max(bench.rows // 2, 1000)
    figures = {"rows": rows, "cases": []}
    for workers in (1, 2):
        rates = {}
        for claim in ("lanes", "rows"):
            with bench.topic() as topic:
                bench.load(topic, rows)
                rates[claim] = bench.drain(bench.relay(relay={"claim": claim, "workers": workers}),
                                           rows)["events_per_second"]
        figures["cases"].append({"workers": workers, "lanes_events_per_second": rates["lanes"],
                                 "rows_events_per_second": rates["rows"], "ratio": rates["rows"] / rates["lanes"]})
    return figures
