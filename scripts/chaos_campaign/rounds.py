"""One round: relays under load, faults, and when all is healed and drained, the verdict."""
import json
import math
import time
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field

from chaos_campaign import faults
from chaos_campaign.judge import Arrival, all_read, judge, longest_wait
from chaos_campaign.load import finish_prepared, payload_of
from chaos_campaign.scene import WINDOW
from chaos_campaign.schedule import LEASE, touches_postgres
from chaos_campaign.watching import Pulse
from harness.waiting import eventually

# Seconds that one fault alone may add to what an event waits at most.
PROMPT = {("relay-kill",): LEASE + 1.0, ("rolling-restart",): 1.0}
STEADY = 1.0  # seconds of load before the faults, and after
CALM = 0.5  # seconds that an event waits at most where nothing happens
UNREST = 10.0  # seconds that this may take to come true
REMEMBERED = 5  # rounds whose events the business tables keep
# What a relay says when it could not end something in order, each of which may repeat what was in flight.
UNCLEAN_NEWS = ("lanes_lost", "producer_replaced", "producer_epoch_bumped", "drain_cut_short", "worker_broken")
# The same where rows are claimed: a claim that ends before its rows are home, be it with its connection.
UNCLEAN_CLAIM_NEWS = (*UNCLEAN_NEWS, "claim_expired", "postgres_lost")
TOLD_NEWS = (*UNCLEAN_CLAIM_NEWS, "circuit_open", "crash_loop", "dead_letter", "row_isolated", "key_blocked")


@dataclass
class Outcome:
    round: object
    events: int = 0
    lost: int = 0
    phantom: int = 0
    duplicated: int = 0
    allowed: int = 0
    reordered: int = 0
    in_doubt: int = 0
    stall: float = 0.0  # the longest that an event waited, from its commit to the leader's log
    usual: float = 0.0  # the same in the second before the faults
    unread: float = 0.0  # the same, from its commit until a consumer got it
    lag: float = 0.0  # how late a thread of this process was that only wanted to wake up
    lasted: float = 0.0  # the faults, until the last was healed
    drained: float = 0.0  # from then on until nothing was left in the table
    seconds: float = 0.0
    news: dict = field(default_factory=dict)
    told: list = field(default_factory=list)
    violations: list = field(default_factory=list)

    @property
    def kinds(self):
        return tuple(fault.kind for fault in self.round.faults)


def lateness(outcome):
    """What is said of a fault that let events wait for too long, or nothing. A machine that is out of breath lets them wait
    without any fault: what counts is what the fault has added."""
    added = outcome.stall - outcome.usual - outcome.lag
    limit = PROMPT.get(outcome.kinds, math.inf)
    if added <= limit:
        return None
    return f"an event waited for {outcome.stall:.2f} s, {added:.2f} s longer than before: the limit is {limit:g} s"


class Rounds:
    """Plays rounds on a scene, one after another."""

    def __init__(self, scene, load, evidence):
        self._scene = scene
        self._load = load
        self._evidence = evidence
        # Its threads last as long as the campaign: relays end with the thread that started them.
        self._pool = ThreadPoolExecutor(4, thread_name_prefix="fault")
        self._clocks_faked = False
        self._postgres_faked = False
        self._unclean = 0
        self._under_way = {}
        self._pulse = Pulse()

    def play(self, round_):
        outcome = Outcome(round_)
        began = time.monotonic()
        self._prepare(round_)
        self._scene.reader.take()
        self._pulse.take()
        self._load.go(round_.number)
        self._await_peace()
        since = time.time()
        self._inject(round_, outcome)
        outcome.lasted = time.time() - since
        self._scene.heal()
        for seat in self._scene.running:
            seat.wait_ready(60)
        time.sleep(STEADY)
        self._load.rest(60)
        outcome.lag = self._pulse.take()
        drained = self._drain(outcome)
        outcome.drained = time.time() - since - outcome.lasted
        # A relay that did not notice what happened to it tells of it only when it has its lanes back.
        try:
            self._scene.shared()
        except AssertionError as error:
            outcome.violations.append(f"the relays do not recover: {error}")
        self._judge(round_, outcome, since, drained)
        outcome.seconds = time.monotonic() - began
        return outcome

    def close(self):
        """A fault that is under way is finished first: it might start what has just been stopped."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        wait(self._under_way, timeout=60)

    def _prepare(self, round_):
        scene = self._scene
        clocks = faults.wants_clock(round_, "clock-relay")
        restart_all = clocks or self._clocks_faked
        postgres = faults.wants_clock(round_, "clock-postgres")
        if postgres or self._postgres_faked:
            scene.databases.primary.stop("fast")
            scene.databases.primary.start(environment=scene.postgres_clock.environment if postgres else None)
            scene.databases.in_sync()
        if restart_all:
            for seat in scene.running:
                seat.end()
        scene.staff(round_.relays, clocks)
        self._clocks_faked, self._postgres_faked = clocks, postgres

    def _await_peace(self):
        """What the last round has left behind, such as leaders of partitions that move back to where they were, is no fault
        of this one's. What lasts is judged with it all the same."""
        time.sleep(STEADY)
        deadline = time.monotonic() + UNREST
        while time.monotonic() < deadline:
            if all_read(self._load.commits.copy(), self._scene.reader, time.time() - CALM):
                return
            time.sleep(0.1)

    def _inject(self, round_, outcome):
        def one(fault):
            time.sleep(fault.after)
            return faults.inject(self._scene, fault)

        self._under_way = under_way = {self._pool.submit(one, fault): fault for fault in round_.faults}
        done, late = wait(under_way, timeout=150)
        self._unclean = 0
        for future in done:
            said = future.result()
            self._unclean += said.get("unclean", 0)
            if any(touches_postgres(kind) for kind in outcome.kinds):
                self._unclean += said.get("slow", 0)
            if "told" in said:
                outcome.told.append(said["told"])
        if late:
            raise RuntimeError(f"not over after 150 s: {[str(under_way[future]) for future in late]}")

    def _drain(self, outcome):
        self._finish_prepared()
        try:
            eventually(lambda: self._scene.backlog() == 0, 90, "every row is relayed", interval=0.05)
            return True
        except AssertionError as error:
            outcome.violations.append(f"the backlog is not drained: {error}")
            return False

    def _finish_prepared(self):
        """A writer whose PREPARE was not answered does not know of its transaction."""
        connection = self._scene.databases.connect()
        try:
            with connection.cursor() as cursor:
                cursor.execute("SELECT gid FROM pg_prepared_xacts")
                gids = [gid for (gid,) in cursor.fetchall()]
            connection.rollback()
            for gid in gids:
                finish_prepared(connection, "COMMIT", gid)
        finally:
            connection.close()

    def _judge(self, round_, outcome, since, drained):
        scene, load = self._scene, self._load
        committed = {event_id: (key, n) for event_id, key, n in scene.databases.execute(
            "SELECT event_id::text, key, n FROM shop.entry WHERE round = %s", (round_.number,))}
        arrivals = self._arrivals(committed, 20 if drained else 1)
        findings = judge(committed, arrivals, self._committed_before)
        outcome.events = len(committed)
        outcome.in_doubt = load.in_doubt
        for name in ("lost", "phantom", "duplicated", "reordered"):
            setattr(outcome, name, len(getattr(findings, name)))
        appended = {event_id: first.at for event_id, first in findings.first_seen.items()}
        outcome.stall = longest_wait(load.commits, appended, since)
        outcome.usual = longest_wait(load.commits, appended, since - STEADY, since)
        outcome.unread = longest_wait(load.commits, scene.reader.take(), since)
        self._read_news(outcome)
        unclean_news = UNCLEAN_NEWS if scene.claim == "lanes" else UNCLEAN_CLAIM_NEWS
        outcome.allowed = WINDOW * (self._unclean + sum(outcome.news.get(name, 0) for name in unclean_news))
        self._promises(outcome, load.commits.keys() - committed.keys())
        if outcome.violations:
            self._keep(round_, outcome, committed, arrivals, findings)
        scene.databases.execute("DELETE FROM shop.entry WHERE round <= %s", (round_.number - REMEMBERED,))
        if drained:
            scene.whole()

    def _arrivals(self, committed, patience):
        """Reads until all that was committed is there. What has been acknowledged is read only once every replica has it."""
        arrivals = []
        deadline = time.monotonic() + patience
        while True:
            arrivals += [_arrival(record) for record in self._scene.records()]
            missing = committed.keys() - {arrival.event_id for arrival in arrivals}
            if not missing or time.monotonic() >= deadline:
                return arrivals
            time.sleep(0.2)

    def _committed_before(self, event_ids):
        return {event_id for (event_id,) in self._scene.databases.execute(
            "SELECT event_id::text FROM shop.entry WHERE event_id::text = ANY(%s)", (list(event_ids),))}

    def _read_news(self, outcome):
        for seat in self._scene.seats:
            for line in seat.news():
                if line.get("event") in TOLD_NEWS:
                    outcome.news[line["event"]] = outcome.news.get(line["event"], 0) + 1

    def _promises(self, outcome, vanished):
        say = outcome.violations.append
        if vanished:
            say(f"{len(vanished)} commits were answered and are not in the database: Postgres has lost them, not the relay")
        for name in ("lost", "phantom", "reordered") if self._scene.claim == "lanes" else ("lost", "phantom"):
            if getattr(outcome, name):
                say(f"{getattr(outcome, name)} events {name}")
        if outcome.duplicated > outcome.allowed:
            say(f"{outcome.duplicated} events duplicated, {outcome.allowed} allowed")
        if dead := self._scene.dead_letters():
            say(f"{dead} dead letters")
        if late := lateness(outcome):
            say(late)

    def _keep(self, round_, outcome, committed, arrivals, findings):
        """All that is known of the events that went wrong, and every log."""
        folder = self._evidence / f"round-{round_.number}"
        self._scene.keep(folder)
        wrong = {*findings.lost, *findings.phantom, *findings.duplicated, *findings.reordered}
        keys = {arrival.key for arrival in arrivals if arrival.event_id in findings.reordered}
        seen = [vars(arrival) for arrival in arrivals if arrival.event_id in wrong or arrival.key in keys]
        slowest = sorted(((first.at - self._load.commits[event_id], event_id, first.key, first.at)
                          for event_id, first in findings.first_seen.items() if event_id in self._load.commits),
                         reverse=True)[:20]
        rest = self._scene.databases.execute("SELECT id, lane, event_id::text, key, created_at::text FROM outbox.message "
                                             "ORDER BY id LIMIT 1000")
        lanes = self._scene.databases.execute("SELECT lane, owner::text, epoch, expires_at::text FROM outbox.lane")
        what = {"round": str(round_), "violations": outcome.violations, "news": outcome.news, "lost": findings.lost,
                "phantom": findings.phantom, "duplicated": findings.duplicated, "reordered": findings.reordered,
                "arrivals": seen, "committed": {event_id: committed.get(event_id) for event_id in wrong},
                "commits": {event_id: self._load.commits.get(event_id) for event_id in wrong},
                "slowest": slowest, "left_in_table": rest, "lanes": lanes}
        (folder / "findings.json").write_text(json.dumps(what, indent=1, default=str) + "\n", encoding="utf-8")


def _arrival(record):
    round_, key, n = payload_of(record)
    return Arrival(record.event_id, key if record.key == key.encode() else f"{key} as {record.key!r}", n, round_,
                   (record.partition, record.offset), record.timestamp_ms / 1000)
