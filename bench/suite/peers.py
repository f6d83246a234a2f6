"""Drains by programs that are not the relay: bench/plain_loop.cpp and bench/textbook.cpp."""
from .bench import StolenTime, probe


def drain(bench, peer, rows, compression="none", **options):
    """Events per second, and CPU by process."""
    with bench.topic() as topic:
        bench.load(topic, rows)
        before, stolen = bench.cpu(), StolenTime()
        figures = probe(peer, dsn=bench.dsn, bootstrap=bench.kafka.bootstrap, topic=topic, rows=rows,
                        compression=compression, **options)
        return {"rows": rows, "events_per_second": figures["events_per_second"], "stolen": stolen.share(),
                "cpu_seconds_per_million": {"peer": 1e6 * figures["cpu_seconds"] / rows,
                                            **bench.cpu_per_million(before, rows)}}


def relay_drain(bench, rows, compression="none", workers=1, payload_bytes=200):
    with bench.topic() as topic:
        bench.load(topic, rows, payload_bytes)
        return bench.drain(bench.relay(compression, relay={"workers": workers}), rows)
