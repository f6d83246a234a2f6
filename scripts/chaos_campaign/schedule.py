"""What is done to whom, and when: drawn from a seed and nothing else, so that the same seed gives the same schedule."""
import random
from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    side: str  # faults of one side never overlap
    lasts: tuple  # seconds, at least and at most
    about: str


LEASE = 3.0

KINDS = {
    "relay-kill": Kind("relay", (5.0, 6.0), "kill -9 of a relay, started again later than its lease"),
    "relay-crash": Kind("relay", (0.1, 1.0), "kill -9 of a relay, started again at once"),
    "relay-pause": Kind("relay", (LEASE + 1, LEASE + 3), "SIGSTOP of a relay for longer than its lease, SIGCONT"),
    "relay-term": Kind("relay", (1.0, 3.0), "SIGTERM of a relay, started again"),
    "rolling-restart": Kind("relay", (3.0, 6.0), "SIGTERM and start of every relay, one after another"),
    "clock-relay": Kind("relay", (2.0, 4.0), "the clock of a relay's host steps, and steps back"),
    "cut-postgres": Kind("link", (2.0, 4.0), "connections of relays to Postgres are reset, again and again"),
    "cut-kafka": Kind("link", (2.0, 4.0), "connections of relays to the brokers are reset, again and again"),
    "delay": Kind("link", (2.0, 4.0), "everything relays say and hear is 10 to 150 ms late"),
    "partition-postgres": Kind("link", (2.0, 7.0), "a relay and Postgres do not hear each other"),
    "partition-broker": Kind("link", (2.0, 7.0), "a relay and a broker do not hear each other"),
    "partition-kafka": Kind("link", (2.0, 7.0), "a relay and all brokers do not hear each other"),
    "silent-postgres": Kind("link", (1.0, 2.0), "a relay's connection to Postgres is dead, and nobody says so"),
    "silent-broker": Kind("link", (1.0, 2.0), "a relay's connection to a broker is dead, and nobody says so"),
    "broker-kill": Kind("kafka", (1.0, 4.0), "kill -9 of a broker, started again"),
    "controller-kill": Kind("kafka", (0.5, 2.0), "kill -9 of the broker that is the controller, started again"),
    "broker-pause": Kind("kafka", (2.0, 5.0), "SIGSTOP of a broker for longer than its session, SIGCONT"),
    "partition-peers": Kind("kafka", (3.0, 6.0), "a broker's peers do not reach it"),
    "partition-controller": Kind("kafka", (3.0, 6.0), "a broker does not reach the controller, while clients reach it"),
    "disk-full-broker": Kind("kafka", (1.0, 3.0), "the disk of a broker is full, until it is emptied and it is started again"),
    "postgres-restart": Kind("postgres", (0.1, 1.0), "Postgres is restarted in order"),
    "postgres-crash": Kind("postgres", (0.1, 1.0), "kill -9 of every process of Postgres, started again"),
    "failover": Kind("postgres", (0.5, 2.0), "kill -9 of Postgres, its standby is promoted, a new standby is made"),
    "partition-standby": Kind("postgres", (2.0, 5.0), "primary and standby do not hear each other, so no commit returns"),
    "disk-full-postgres": Kind("postgres", (2.0, 4.0), "the disk of Postgres is full, until it is emptied"),
    "clock-postgres": Kind("postgres", (3.0, 6.0), "the clock of Postgres's host steps, and steps back"),
}

# Their figures have a limit of their own, which holds where nothing else happens.
ALONE_FIRST = ("relay-kill", "rolling-restart")


def touches_postgres(kind):
    """Whether relays may be left without its answers."""
    return KINDS[kind].side == "postgres" or kind in ("partition-postgres", "silent-postgres", "cut-postgres", "delay")


@dataclass(frozen=True)
class Fault:
    kind: str
    after: float  # seconds from the start of the round's faults
    lasts: float
    target: int  # which relay, broker, …: whoever has that number, modulo how many there are
    variant: int  # the same for how it is done

    def __str__(self):
        return f"{self.kind} (+{self.after:.1f} s, {self.lasts:.1f} s, target {self.target}, variant {self.variant})"


@dataclass(frozen=True)
class Round:
    number: int
    relays: int
    faults: tuple

    @property
    def seconds(self):
        """How long its faults last; all else takes what it takes."""
        return max((fault.after + fault.lasts for fault in self.faults), default=0.0)

    def __str__(self):
        return f"round {self.number}: {self.relays} relays; " + ("; ".join(map(str, self.faults)) or "no fault")


def schedule(seed, kinds):
    """Rounds without end. Every kind comes once before any comes again; about a third of the rounds overlap faults of
    several sides."""
    dice = random.Random(seed)
    deck = []
    number = 0
    first = True
    while True:
        if not deck:
            deck = sorted(kinds)
            dice.shuffle(deck)
        number += 1
        chosen = [deck.pop(0)]
        wanted = dice.choice((1, 1, 2, 1, 3, 2))
        alone = first and chosen[0] in ALONE_FIRST
        for kind in list(deck):
            if alone or len(chosen) == wanted:
                break
            sides = {KINDS[one].side for one in chosen}
            if KINDS[kind].side not in sides and not (first and kind in ALONE_FIRST):
                chosen.append(kind)
                deck.remove(kind)
        if not deck:
            first = False
        yield Round(number, dice.choice((2, 3, 4)), tuple(_fault(dice, kind, index) for index, kind in enumerate(chosen)))


def _fault(dice, kind, index):
    shortest, longest = KINDS[kind].lasts
    after = round(dice.uniform(0.0, 2.0), 1) if index else 0.0
    return Fault(kind, after, round(dice.uniform(shortest, longest), 1), dice.randrange(12), dice.randrange(6))
