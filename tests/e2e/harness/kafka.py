"""A real Kafka broker (scripts/kafka), with topics made over the wire because that takes milliseconds, not a JVM."""
import os
import pathlib
import shutil
import signal
import socket
import struct
import subprocess
import tempfile

from .fault_proxy import FaultProxy
from .waiting import eventually

SCRIPT = pathlib.Path(__file__).resolve().parents[3] / "scripts" / "kafka"
_TOPIC_ALREADY_EXISTS = 36
_UNKNOWN_TOPIC = 3


class KafkaBroker:
    """`bootstrap` is the broker itself; `proxied` is the same broker behind `proxy`, which can misbehave."""

    def __init__(self, jvm=None):
        self._jvm = ["--jvm", jvm] if jvm else []
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="outbox-relay-kafka."))
        self.proxy = FaultProxy()

    def _script(self, *arguments):
        # A file, not a pipe: the broker would keep a pipe open and the script seem to run for as long as the broker.
        with tempfile.TemporaryFile("w+") as output:
            done = subprocess.run([str(SCRIPT), *map(str, arguments)], stdin=subprocess.DEVNULL, stdout=output,
                                  stderr=output, check=False)
            output.seek(0)
            if done.returncode != 0:
                raise RuntimeError(f"scripts/kafka {arguments[0]} failed:\n{output.read()}")

    def start(self):
        self._script("start", self.directory, "--proxied", self.proxy.port, *self._jvm)
        self.proxy.target = self._address("proxied")
        return self

    def _address(self, name):
        host, port = (self.directory / name).read_text().strip().rsplit(":", 1)
        return host, int(port)

    @property
    def bootstrap(self):
        return "%s:%d" % self._address("bootstrap")

    @property
    def proxied(self):
        return f"127.0.0.1:{self.proxy.port}"

    @property
    def pid(self):
        return int((self.directory / "kafka.pid").read_text())

    def stop(self):
        self._script("stop", self.directory)

    def kill(self):
        self._script("stop", self.directory, "--kill")

    def pause(self):
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self):
        os.kill(self.pid, signal.SIGCONT)

    def create_topic(self, name, partitions=4, **configs):
        """`configs` are the topic's settings, with _ for a dot: max_message_bytes=2000."""
        settings = [(key.replace("_", "."), str(value)) for key, value in configs.items()]
        body = struct.pack(">i", 1) + _string(name) + struct.pack(">ihi", partitions, 1, 0)
        body += struct.pack(">i", len(settings)) + b"".join(_string(k) + _string(v) for k, v in settings)
        answer = self._request(19, 2, body + struct.pack(">i?", 10_000, False))
        self._check("create", name, answer, _TOPIC_ALREADY_EXISTS)
        # The controller knows it at once, the broker's metadata a little later.
        eventually(lambda: self._partitions_led(name) == partitions, what=f"topic {name} has leaders")

    def delete_topic(self, name):
        body = struct.pack(">i", 1) + _string(name) + struct.pack(">i", 10_000)
        self._check("delete", name, self._request(20, 1, body), _UNKNOWN_TOPIC)
        eventually(lambda: self._partitions_led(name) == 0, what=f"topic {name} is gone")

    def _partitions_led(self, name):
        done = subprocess.run(["kcat", "-b", self.bootstrap, "-L", "-m", "5", "-t", name], capture_output=True, text=True,
                              check=True)
        return sum(1 for line in done.stdout.splitlines() if "leader 1," in line)

    @staticmethod
    def _check(verb, name, answer, harmless):
        # throttle time, number of topics, the topic's name, its error
        (length,) = struct.unpack_from(">h", answer, 8)
        (error,) = struct.unpack_from(">h", answer, 10 + length)
        if error not in (0, harmless):
            raise RuntimeError(f"cannot {verb} topic {name}: Kafka error {error}")

    def _request(self, api, version, body):
        message = struct.pack(">hhi", api, version, 1) + _string("tests") + body
        with socket.create_connection(self._address("bootstrap"), timeout=15) as connection:
            connection.sendall(struct.pack(">i", len(message)) + message)
            stream = connection.makefile("rb")
            (size,) = struct.unpack(">i", stream.read(4))
            return stream.read(size)[4:]  # without the correlation id

    def remove(self):
        try:
            if self.directory.exists():
                self.stop()
        finally:
            self.proxy.close()
            shutil.rmtree(self.directory, ignore_errors=True)


def _string(text):
    data = text.encode()
    return struct.pack(">h", len(data)) + data
