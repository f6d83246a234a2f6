"""What was committed against what a consumer saw: the four things that can be wrong."""
from dataclasses import dataclass, field


@dataclass(frozen=True)
class CommittedRow:
    id: int
    event_id: str
    topic: str
    key: str | None


@dataclass
class Verdict:
    lost: list = field(default_factory=list)        # event ids committed and not seen
    phantom: list = field(default_factory=list)     # event ids seen and not committed (or in the wrong topic)
    duplicates: list = field(default_factory=list)  # event ids seen again, once for every further time
    reordered: list = field(default_factory=list)   # event ids first seen after a later row of their key
    passed: list = field(default_factory=list)      # the same in words: by which row, where and how much earlier
    again: list = field(default_factory=list)       # of the duplicates: which row, where, where before, how much earlier

    def delivered_once_in_order(self):
        return not (self.lost or self.phantom or self.duplicates or self.reordered)

    def delivered_in_order(self):
        """At least once: what holds through every crash."""
        return not (self.lost or self.phantom or self.reordered)

    def __str__(self):
        def sample(ids):
            return f"{len(ids)} {ids[:5]}" if ids else "0"

        return (f"lost {sample(self.lost)}, phantom {sample(self.phantom)}, "
                f"duplicates {'; '.join([sample(self.duplicates), *self.again[:5]])}, "
                f"reordered {'; '.join([sample(self.reordered), *self.passed[:5]])}")


def verify(committed, records, in_doubt=()):
    """`records` in the order a consumer gets them: by offset within a partition. One key lives in one partition.
    Rows `in_doubt` (the answer to their COMMIT was lost) may be there or not."""
    rows = {row.event_id: row for row in [*committed, *in_doubt]}
    verdict = Verdict()
    seen = {}
    newest = {}
    for record in records:
        row = rows.get(record.event_id)
        if row is None or row.topic != record.topic or _key_bytes(row) != record.key:
            verdict.phantom.append(record.event_id)
            continue
        if row.event_id in seen:
            before = seen[row.event_id]
            if (before.partition, before.offset) == (record.partition, record.offset):
                continue  # one record, read twice
            verdict.duplicates.append(row.event_id)
            verdict.again.append(f"{row.id} of {row.key}, {record.partition}@{record.offset}, was at @{before.offset} "
                                 f"{record.timestamp_ms - before.timestamp_ms} ms earlier")
            continue
        seen[row.event_id] = record
        if row.key is None:
            continue  # no key, no order
        place = (row.topic, row.key)
        later, its_record = newest.get(place, (0, None))
        if row.id < later:
            verdict.reordered.append(row.event_id)
            verdict.passed.append(
                f"{row.id} of {row.key}, {record.partition}@{record.offset}, came "
                f"{record.timestamp_ms - its_record.timestamp_ms} ms after {later}, @{its_record.offset}")
        else:
            newest[place] = (row.id, record)
    verdict.lost = [row.event_id for row in committed if row.event_id not in seen]
    return verdict


def _key_bytes(row):
    return None if row.key is None else row.key.encode()


def assert_once_in_order(committed, records, in_doubt=()):
    verdict = verify(committed, records, in_doubt)
    assert verdict.delivered_once_in_order(), str(verdict)


def assert_nothing_lost(committed, records, in_doubt=(), duplicates_max=None):
    """What holds through every crash: no loss, no phantom, first occurrences in order."""
    verdict = verify(committed, records, in_doubt)
    assert verdict.delivered_in_order(), str(verdict)
    assert duplicates_max is None or len(verdict.duplicates) <= duplicates_max, str(verdict)
