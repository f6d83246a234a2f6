"""Whether the rate depends on what is behind: a backlog goes while another session holds a snapshot, so that nothing can
be vacuumed away, and while rows keep coming."""
import contextlib
import threading
import time

INSERTS_PER_SECOND = 2000
_BATCHES_PER_SECOND = 20
_INSERT = """INSERT INTO outbox.message (topic, key, payload)
    SELECT %s, 'key-' || i %% 10000, convert_to(rpad('', 200, md5(i::text)), 'UTF8') FROM generate_series(1, %s) AS i"""


def measure(bench):
    rows = 2 * bench.rows
    with bench.topic() as topic, contextlib.closing(bench.postgres.connect("bench", autocommit=False)) as reader:
        bench.load(topic, rows)
        with reader.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            cursor.execute("SELECT count(*) FROM outbox.lane")  # takes the snapshot
            with _inserter(bench, topic) as inserted:
                drained = bench.drain(bench.relay(), rows, also=True)
                inserted_by_then = inserted[0]
            cursor.execute("SELECT count(*) FROM outbox.lane")  # it was held all the while
    rates = rates_by_tenth(bench.last_samples, rows)
    return {"rows": rows, "inserts_per_second": INSERTS_PER_SECOND, "inserted_meanwhile": inserted_by_then,
            "events_per_second_by_tenth": rates, "last_to_first": rates[-1] / rates[0], **drained}


def rates_by_tenth(samples, rows):
    """Between samples the rate is taken as even."""
    marks = [samples[0][0]]
    wanted = [samples[0][1] + (rows - samples[0][1]) * part / 10 for part in range(1, 11)]
    pairs = zip(samples, samples[1:])
    early, late = next(pairs)
    for count in wanted:
        while late[1] < count:
            early, late = next(pairs)
        marks.append(early[0] + (late[0] - early[0]) * (count - early[1]) / (late[1] - early[1]))
    return [(rows - samples[0][1]) / 10 / (end - begin) for begin, end in zip(marks, marks[1:])]


@contextlib.contextmanager
def _inserter(bench, topic):
    inserted, stop = [0], threading.Event()
    connection = bench.postgres.connect("bench")

    def insert():
        begin = time.monotonic()
        with contextlib.closing(connection), connection.cursor() as cursor:
            while not stop.is_set():
                cursor.execute(_INSERT, (topic, INSERTS_PER_SECOND // _BATCHES_PER_SECOND))
                inserted[0] += INSERTS_PER_SECOND // _BATCHES_PER_SECOND
                stop.wait(max(0.0, begin + inserted[0] / INSERTS_PER_SECOND - time.monotonic()))

    thread = threading.Thread(target=insert)
    thread.start()
    try:
        yield inserted
    finally:
        stop.set()
        thread.join()
