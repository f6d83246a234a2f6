"""What is looked at while the drill runs: the relay from outside, and whether the broker takes anything."""
import pathlib
import subprocess
import threading
import time
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Sample:
    at: float  # unix seconds, as is every time in the drill
    arrived: int
    delivered: int
    in_flight: int
    errors: int
    recovery_rows_per_second: float
    acknowledged: float
    acknowledgement_seconds: float  # the sum over all acknowledged
    rss_bytes: int

    @property
    def backlog(self):
        return self.arrived - self.delivered


def _resident(pid):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("the relay is gone")


class Watch:
    """Samples the relay every `interval` seconds, in a thread of its own."""

    def __init__(self, relay, arrived, interval=0.2):
        self.samples = []
        self._relay = relay
        self._arrived = arrived
        self._interval = interval
        self._failure = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        try:
            due = time.monotonic()
            while not self._stop.wait(max(0.0, due - time.monotonic())):
                self.samples.append(self._look())
                due += self._interval
        except Exception as failure:  # noqa: BLE001 - told by latest(), in the main thread
            self._failure = failure

    def _look(self):
        metrics = self._relay.metrics()

        def total(name):
            return sum(metrics.get(name, {}).values())

        # Arrivals last: a row is committed before it is delivered.
        delivered = int(total("outbox_messages_delivered_total"))
        return Sample(at=time.time(), arrived=self._arrived(), delivered=delivered,
                      in_flight=int(total("outbox_in_flight_rows")), errors=int(total("outbox_delivery_errors_total")),
                      recovery_rows_per_second=total("outbox_recovery_rows_per_second"),
                      acknowledged=total("outbox_acknowledgement_seconds_count"),
                      acknowledgement_seconds=total("outbox_acknowledgement_seconds_sum"),
                      rss_bytes=_resident(self._relay.process.pid))

    def latest(self):
        if self._failure:
            raise self._failure
        return self.samples[-1] if self.samples else None

    def wait_until(self, condition, timeout, what):
        """The first sample from now on that meets the condition."""
        deadline = time.monotonic() + timeout
        seen = len(self.samples)
        while time.monotonic() < deadline:
            self.latest()
            for sample in self.samples[seen:]:
                if condition(sample):
                    return sample
            seen = len(self.samples)
            time.sleep(0.02)
        raise TimeoutError(f"not within {timeout:.0f} s: {what} (last: {asdict(self.samples[-1])})")

    def end(self):
        self._stop.set()
        self._thread.join()


def wait_until_writable(bootstrap, topic, timeout):
    """When the broker began to accept writes, by a producer that is not the relay's: the start of the first try that
    succeeds, so never too late."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        began = time.time()
        done = subprocess.run(["kcat", "-P", "-b", bootstrap, "-t", topic, "-X", "acks=all",
                               "-X", "message.timeout.ms=500"], input=b"?", capture_output=True, check=False)
        if done.returncode == 0:
            return began
        time.sleep(0.05)
    raise TimeoutError(f"the broker takes no record within {timeout} s")
