"""Reads topics with kcat, which shares no code with the relay. Keys and payloads may hold any bytes."""
import re
import secrets
import subprocess
from dataclasses import dataclass, field
from typing import Optional


@dataclass(frozen=True)
class Record:
    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: Optional[bytes]
    payload: Optional[bytes]  # None is a tombstone
    headers: list = field(default_factory=list)  # (name, value) in the record's order; a NULL value reads as "NULL"

    @property
    def event_id(self):
        return self.header("id")

    def header(self, name):
        return next((value for key, value in self.headers if key == name), None)


class ConsumerError(Exception):
    pass


class Consumer:
    def __init__(self, bootstrap, **properties):
        self._command = ["kcat", "-C", "-q", "-b", bootstrap, "-o", "beginning", "-X", "fetch.wait.max.ms=10",
                         "-X", "fetch.message.max.bytes=16777216", "-X", "fetch.error.backoff.ms=50"]
        for name, value in properties.items():
            self._command += ["-X", f"{name.replace('_', '.')}={value}"]

    def read(self, topic, timeout=60):
        """Everything in the topic up to its end now. Order: by offset within a partition."""
        return self._consume(topic, ["-e"], timeout)

    def read_partition(self, topic, partition, offset, timeout=60):
        """What is in the partition from that offset up to its end now."""
        return self._consume(topic, ["-e", "-p", str(partition), "-o", str(offset)], timeout)

    def wait_for(self, topic, count, timeout=30):
        """Waits until the topic holds `count` records, then returns all it holds by then."""
        try:
            self._consume(topic, ["-c", str(count)], timeout)
        except subprocess.TimeoutExpired as expired:
            there = self.read(topic)
            raise AssertionError(f"{topic}: {len(there)} of {count} records after {timeout} s") from expired
        return self.read(topic)

    def _consume(self, topic, mode, timeout):
        # kcat says how long key and payload are, not how long the headers are: a random mark ends them.
        mark = secrets.token_hex(16)
        layout = rf"%t %p %o %T %K %S\n%k%s%h{mark}"
        done = subprocess.run([*self._command, *mode, "-t", topic, "-f", layout], stdin=subprocess.DEVNULL,
                              capture_output=True, timeout=timeout, check=False)
        if done.returncode != 0:
            raise ConsumerError(f"kcat on {topic}: {done.stderr.decode(errors='replace').strip()}")
        return list(_records(done.stdout, mark.encode()))


def _records(output, mark):
    position = 0
    while position < len(output):
        line_end = output.index(b"\n", position)
        topic, partition, offset, timestamp, key_size, size = output[position:line_end].split(b" ")
        position = line_end + 1
        key, position = _field(output, position, int(key_size))
        payload, position = _field(output, position, int(size))
        end = output.index(mark, position)
        yield Record(topic.decode(), int(partition), int(offset), int(timestamp), key, payload,
                     _headers(output[position:end].decode(errors="surrogateescape")))
        position = end + len(mark)


def _field(output, position, size):
    if size < 0:
        return None, position
    return output[position:position + size], position + size


def _headers(text):
    """kcat writes name=value,name=value unescaped, so a value that itself holds `,name=` reads as two headers."""
    starts = list(re.finditer(r"(?:^|,)([^,=]+)=", text))
    ends = [start.start() for start in starts[1:]] + [len(text)]
    return [(start[1], text[start.end():end]) for start, end in zip(starts, ends)]
