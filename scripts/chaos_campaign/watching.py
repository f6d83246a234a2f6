"""What is measured while a round is under way: when a consumer reads each event, and how late this machine is."""
import re
import subprocess
import threading
import time

_EVENT_ID = re.compile(rb"(?:^|,)id=([0-9a-f-]{36})")


class Reader:
    """A consumer that reads all the time. What it misses, because the end of a partition is where it starts anew, has no
    time; the verdict is not from here."""

    def __init__(self, bootstrap, topic):
        self._command = ["kcat", "-C", "-q", "-u", "-b", bootstrap, "-t", topic, "-o", "end", "-f", "%h\\n"]
        for setting in ("fetch.wait.max.ms=50", "fetch.error.backoff.ms=50", "socket.timeout.ms=3000",
                        "topic.metadata.refresh.interval.ms=1000", "reconnect.backoff.max.ms=200"):
            self._command += ["-X", setting]
        self._times = {}
        self._process = None
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="reader", daemon=True)
        self._thread.start()

    def _run(self):
        while not self._ended:
            self._process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                             stderr=subprocess.DEVNULL)
            for line in self._process.stdout:
                found = _EVENT_ID.search(line)
                if found:
                    self._times.setdefault(found[1].decode(), time.time())
            self._process.wait()
            time.sleep(0.2)

    def __contains__(self, event_id):
        """Whether it was read since the last time."""
        return event_id in self._times

    def take(self):
        """{event id: when it was read first}, of all since the last time."""
        times, self._times = self._times, {}
        return times

    def close(self):
        self._ended = True
        if self._process:
            self._process.kill()


class Pulse:
    """A thread that wants to wake up every 20 ms: how late it is at most tells what times are worth on this machine."""

    def __init__(self):
        self._latest = 0.0
        threading.Thread(target=self._run, name="pulse", daemon=True).start()

    def _run(self):
        while True:
            due = time.monotonic() + 0.02
            time.sleep(0.02)
            self._latest = max(self._latest, time.monotonic() - due)

    def take(self):
        latest, self._latest = self._latest, 0.0
        return latest
