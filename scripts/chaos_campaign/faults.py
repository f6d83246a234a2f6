"""How each kind of fault is done. A function does its fault from the beginning to the end, with all waits bounded."""
import random
import time

import psycopg2

from chaos_campaign.schedule import LEASE
from harness.clock import Clock
from harness.waiting import eventually

STEPS = (-3600, -30, -5, 5, 30, 3600)  # of a clock, in seconds


def inject(scene, fault):
    """Returns {"unclean": processes that ended without any order, "slow": those that took long to end, "told": a remark},
    or nothing."""
    return _KINDS[fault.kind](scene, fault) or {}


def wants_clock(round_, kind):
    return any(fault.kind == kind for fault in round_.faults)


def possible(scene, kind):
    """Why it cannot be done here, or nothing."""
    if kind.startswith("clock-") and not Clock.library:
        return "libfaketime is not installed (Debian's package faketime)"
    if kind == "disk-full-postgres" and not all(disk.mounted for disk in scene.databases.disks):
        return "mounting a tmpfs is not permitted"
    if kind == "disk-full-broker" and not scene.broker_disk.mounted:
        return "mounting a tmpfs is not permitted"
    return None


def _seat(scene, fault):
    """One with lanes: what happens to any other is of no consequence."""
    try:
        seats = scene.owners()
    except psycopg2.Error:
        seats = []  # another fault has come first
    seats = seats or scene.running
    return seats[fault.target % len(seats)]


def _seats(scene, fault):
    """One of them, or all."""
    return scene.running if fault.variant % 2 else [_seat(scene, fault)]


# --- relays ---

def relay_kill(scene, fault):
    seat = _seat(scene, fault)
    seat.relay.kill()
    time.sleep(fault.lasts)
    seat.start()
    seat.wait_ready()
    return {"unclean": 1}


def relay_pause(scene, fault):
    seat = _seat(scene, fault)
    seat.relay.pause()
    try:
        time.sleep(fault.lasts)
    finally:
        seat.relay.resume()


def relay_term(scene, fault):
    seat = _seat(scene, fault)
    slow = _ends_slowly(seat)
    time.sleep(fault.lasts)
    seat.start()
    seat.wait_ready()
    return {"slow": slow}


def rolling_restart(scene, fault):
    slow = 0
    for seat in scene.running:
        slow += _ends_slowly(seat)
        seat.start()
        seat.wait_ready()
        time.sleep(fault.lasts / 3)
    return {"slow": slow}


def _ends_slowly(seat):
    """So slowly that its leases may have run out meanwhile, where Postgres did not answer: it may not live to tell."""
    return int(seat.end() > LEASE / 2)


def clock_relay(scene, fault):
    seat = _seat(scene, fault)
    seat.clock.step(STEPS[fault.variant])
    time.sleep(fault.lasts)
    seat.clock.step(0)
    time.sleep(1.0)  # as long as it takes until the process knows


# --- links ---

def _again_and_again(fault, proxies):
    dice = random.Random(fault.variant)
    deadline = time.monotonic() + fault.lasts
    while time.monotonic() < deadline:
        for proxy in proxies:
            proxy.cut()
        time.sleep(dice.uniform(0.1, 0.8))


def cut_postgres(scene, fault):
    _again_and_again(fault, [proxy for seat in _seats(scene, fault) for proxy in seat.to_postgres])


def cut_kafka(scene, fault):
    _again_and_again(fault, [proxy for seat in _seats(scene, fault) for proxy in seat.to_brokers.values()])


def delay(scene, fault):
    proxies = [proxy for seat in _seats(scene, fault) for proxy in [*seat.to_postgres, *seat.to_brokers.values()]]
    for proxy in proxies:
        proxy.delay((0.01, 0.02, 0.04, 0.08, 0.1, 0.15)[fault.variant])
    time.sleep(fault.lasts)
    for proxy in proxies:
        proxy.delay(0.0)


def _part(fault, proxies):
    """Nothing gets through. At the end what was said meanwhile arrives after all, or the connections are reset."""
    for proxy in proxies:
        proxy.stall()
    time.sleep(fault.lasts)
    for proxy in proxies:
        if fault.variant % 2:
            proxy.cut()
        proxy.resume()


def partition_postgres(scene, fault):
    _part(fault, _seat(scene, fault).to_postgres)


def partition_broker(scene, fault):
    _part(fault, [_seat(scene, fault).to_brokers[fault.variant // 2 + 1]])


def partition_kafka(scene, fault):
    _part(fault, list(_seat(scene, fault).to_brokers.values()))


def silent_postgres(scene, fault):
    for proxy in _seat(scene, fault).to_postgres:
        proxy.swallow()
    time.sleep(fault.lasts)


def silent_broker(scene, fault):
    _seat(scene, fault).to_brokers[fault.variant // 2 + 1].swallow()
    time.sleep(fault.lasts)


# --- Kafka ---

def _broker(scene, fault):
    """The controller has a kind of its own."""
    return scene.kafka.brokers[2 + fault.target % 2]


def broker_kill(scene, fault):
    _killed(_broker(scene, fault), fault)


def controller_kill(scene, fault):
    _killed(scene.kafka.brokers[1], fault)


def _killed(broker, fault):
    broker.kill()
    time.sleep(fault.lasts)
    broker.start()


def broker_pause(scene, fault):
    broker = _broker(scene, fault)
    broker.pause()
    try:
        time.sleep(fault.lasts)
    finally:
        broker.resume()


def partition_peers(scene, fault):
    _part(fault, [scene.kafka.proxies["PEERS"][fault.target % 3 + 1]])


def partition_controller(scene, fault):
    _part(fault, [scene.kafka.proxies["CONTROLLER"][2 + fault.target % 2]])


def _alive(broker):
    try:
        with open(f"/proc/{broker.pid}/cmdline", "rb") as command:
            return command.read() != b""  # a process that is gone and not yet collected has none
    except FileNotFoundError:
        return False


def disk_full_broker(scene, fault):
    broker = scene.kafka.brokers[3]
    scene.broker_disk.fill()
    gone = False
    deadline = time.monotonic() + fault.lasts
    while time.monotonic() < deadline and not gone:
        time.sleep(0.1)
        gone = not _alive(broker)
    scene.broker_disk.empty()
    # A broker that has lost its only log directory gives up; one that has not is told to.
    broker.kill()
    broker.start()
    return {"told": "the broker gave up" if gone else "the broker was killed when its disk had been full for a while"}


# --- Postgres ---

def postgres_restart(scene, fault):
    primary = scene.databases.primary
    primary.stop("fast")
    time.sleep(fault.lasts)
    primary.start()


def postgres_crash(scene, fault):
    primary = scene.databases.primary
    primary.kill()
    time.sleep(fault.lasts)
    primary.start()


def failover(scene, fault):
    databases = scene.databases
    databases.in_sync()
    databases.primary.kill()
    time.sleep(fault.lasts)
    databases.promote()
    time.sleep(1.0)
    databases.rebuild()


def partition_standby(scene, fault):
    _part(fault, [scene.databases.link])


def disk_full_postgres(scene, fault):
    databases = scene.databases
    databases.disk.fill()
    deadline = time.monotonic() + fault.lasts
    refused = 0
    while time.monotonic() < deadline:
        # What is written next is likely to find room in files that are there, so it is asked for more.
        try:
            databases.execute("SELECT pg_switch_wal() FROM (SELECT txid_current()) AS something")
        except Exception:  # noqa: BLE001 - that is the point
            refused += 1
        time.sleep(0.2)
    databases.disk.empty()
    databases.heal()
    return {"told": f"Postgres refused {refused} times"}


def clock_postgres(scene, fault):
    seconds = STEPS[fault.variant]
    scene.postgres_clock.step(seconds)
    eventually(lambda: abs(scene.databases.clock() - time.time() - seconds) < 2, 10, "Postgres has another time")
    time.sleep(fault.lasts)
    scene.postgres_clock.step(0)
    time.sleep(1.0)


_KINDS = {
    "relay-kill": relay_kill, "relay-crash": relay_kill, "relay-pause": relay_pause, "relay-term": relay_term,
    "rolling-restart": rolling_restart, "clock-relay": clock_relay, "cut-postgres": cut_postgres, "cut-kafka": cut_kafka,
    "delay": delay, "partition-postgres": partition_postgres, "partition-broker": partition_broker,
    "partition-kafka": partition_kafka, "silent-postgres": silent_postgres, "silent-broker": silent_broker,
    "broker-kill": broker_kill, "controller-kill": controller_kill, "broker-pause": broker_pause,
    "partition-peers": partition_peers, "partition-controller": partition_controller,
    "disk-full-broker": disk_full_broker, "postgres-restart": postgres_restart, "postgres-crash": postgres_crash,
    "failover": failover, "partition-standby": partition_standby, "disk-full-postgres": disk_full_postgres,
    "clock-postgres": clock_postgres,
}

KNOWN = set(_KINDS)
