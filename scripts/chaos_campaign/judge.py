"""What was committed against what a consumer reads, round by round, so that memory does not grow with the campaign."""
import math
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Arrival:
    """A record, as far as it matters here. `place` is (partition, offset), `at` the broker's time in seconds."""
    event_id: str
    key: str
    n: int
    round: int
    place: tuple
    at: float


@dataclass
class Findings:
    """Event ids, each as often as it went wrong."""
    lost: list = field(default_factory=list)
    phantom: list = field(default_factory=list)
    duplicated: list = field(default_factory=list)
    reordered: list = field(default_factory=list)
    first_seen: dict = field(default_factory=dict)  # event id -> Arrival

    def breaks_a_promise(self, duplicates_allowed):
        return bool(self.lost or self.phantom or self.reordered) or len(self.duplicated) > duplicates_allowed


def judge(committed, arrivals, committed_before=lambda event_ids: set()):
    """`committed` is {event id: (key, n)} of this round, n counts each key's events in the order of their commits;
    `arrivals` is all that came since the round before, by offset within a partition. `committed_before` says which of these
    event ids were committed in earlier rounds: all those have arrived before."""
    findings = Findings()
    newest = {}
    strangers = []
    for arrival in arrivals:
        expected = committed.get(arrival.event_id)
        if expected is None:
            strangers.append(arrival.event_id)
        elif expected != (arrival.key, arrival.n):
            findings.phantom.append(arrival.event_id)  # it says something else than what was committed
        elif arrival.event_id in findings.first_seen:
            findings.duplicated.append(arrival.event_id)
        else:
            findings.first_seen[arrival.event_id] = arrival
            if arrival.n < newest.get(arrival.key, 0):
                findings.reordered.append(arrival.event_id)
            newest[arrival.key] = max(arrival.n, newest.get(arrival.key, 0))
    known = committed_before(set(strangers)) if strangers else set()
    for event_id in strangers:
        (findings.duplicated if event_id in known else findings.phantom).append(event_id)
    findings.lost = [event_id for event_id in committed if event_id not in findings.first_seen]
    return findings


def longest_wait(commits, arrived, since=0.0, until=math.inf):
    """Seconds from the commit to the arrival, of what arrived from `since` on and before `until`. `commits` is {event id: when
    its COMMIT had returned}; an event whose answer got lost has no such time. `arrived` is {event id: when}."""
    waits = [arrived[event_id] - at for event_id, at in commits.items() if since <= arrived.get(event_id, -1.0) < until]
    return max(0.0, max(waits, default=0.0))


def all_read(commits, read, before):
    """Whether what was committed before that time has been read by now."""
    return all(event_id in read for event_id, at in commits.items() if at < before)
