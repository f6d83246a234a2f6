"""Real Kafka brokers (scripts/kafka): one, or a cluster of three. Topics, quotas and the like are made over the wire because
that takes milliseconds, not a JVM."""
import functools
import os
import pathlib
import re
import shutil
import signal
import socket
import struct
import subprocess
import tempfile

from .fault_proxy import FaultProxy
from .waiting import eventually

SCRIPTS = pathlib.Path(__file__).resolve().parents[3] / "scripts"
_TOPIC_ALREADY_EXISTS = 36
_UNKNOWN_TOPIC = 3
# Of the protocol's ACLs: kind of resource, kind of name, operations, permissions.
_TOPIC, _LITERAL, _ANY, _ALL, _WRITE, _DENY, _ALLOW = 2, 3, 1, 2, 4, 2, 3
_LIST_OFFSETS, _CREATE_TOPICS, _DELETE_TOPICS, _ELECT_LEADERS, _ALTER_CLIENT_QUOTAS = 2, 19, 20, 43, 49
_LATEST = -1


def newer_librdkafka():
    """The environment in which the relay runs on a current librdkafka instead of the system's."""
    done = subprocess.run([str(SCRIPTS / "librdkafka")], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
                          check=True)
    return {"LD_LIBRARY_PATH": done.stdout.strip()}


def _script(*arguments):
    # A file, not a pipe: the broker would keep a pipe open and the script seem to run for as long as the broker.
    with tempfile.TemporaryFile("w+") as output:
        done = subprocess.run([str(SCRIPTS / "kafka"), *map(str, arguments)], stdin=subprocess.DEVNULL, stdout=output,
                              stderr=output, check=False)
        output.seek(0)
        if done.returncode != 0:
            raise RuntimeError(f"scripts/kafka {arguments[0]} failed:\n{output.read()}")


class _Broker:
    """One process, whose files are in `directory`."""

    def __init__(self, directory):
        self.directory = pathlib.Path(directory)

    def address(self, listener="bootstrap"):
        """host:port"""
        return (self.directory / listener).read_text().strip()

    @property
    def bootstrap(self):
        return self.address()

    @property
    def pid(self):
        return int((self.directory / "kafka.pid").read_text())

    def start(self):
        _script("start", self.directory)
        return self

    def stop(self):
        _script("stop", self.directory)

    def kill(self):
        _script("stop", self.directory, "--kill")

    def pause(self):
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self):
        os.kill(self.pid, signal.SIGCONT)

    def running(self):
        return (self.directory / "kafka.pid").exists()


class _Administration:
    """What can be asked of a broker or cluster that has a `bootstrap`."""

    def create_topic(self, name, partitions=4, replicas=1, **configs):
        """`configs` are the topic's settings, with _ for a dot: max_message_bytes=2000."""
        settings = [(key.replace("_", "."), str(value)) for key, value in configs.items()]
        body = struct.pack(">i", 1) + _string(name) + struct.pack(">ihi", partitions, replicas, 0)
        body += struct.pack(">i", len(settings)) + b"".join(_string(k) + _string(v) for k, v in settings)
        answer = self._request(_CREATE_TOPICS, 2, body + struct.pack(">i?", 10_000, False))
        self._check("create", name, answer, _TOPIC_ALREADY_EXISTS)
        # The controller knows it at once, the broker's metadata a little later.
        eventually(lambda: len(self.leaders(name)) == partitions, what=f"topic {name} has leaders")

    def create_topics(self, names, partitions):
        """Many at once; none of them may be there."""
        body = struct.pack(">i", len(names))
        body += b"".join(_string(name) + struct.pack(">ihii", partitions, 1, 0, 0) for name in names)
        self._request(_CREATE_TOPICS, 2, body + struct.pack(">i?", 60_000, False))
        eventually(lambda: all(len(self.leaders(name)) == partitions for name in names[:: len(names) - 1]), 60,
                   f"{names[0]} … {names[-1]} have leaders")

    def delete_topic(self, name):
        body = struct.pack(">i", 1) + _string(name) + struct.pack(">i", 10_000)
        self._check("delete", name, self._request(_DELETE_TOPICS, 1, body), _UNKNOWN_TOPIC)
        eventually(lambda: not self.leaders(name), what=f"topic {name} is gone")

    def leaders(self, topic):
        """{partition: broker id} of those that have a leader."""
        done = subprocess.run(["kcat", "-b", self.bootstrap, "-L", "-m", "5", "-t", topic], capture_output=True, text=True,
                              check=True)
        found = re.findall(r"partition (\d+), leader (\d+),", done.stdout)
        return {int(partition): int(leader) for partition, leader in found}

    def spread_leaders(self):
        """Each broker leads what it led at first, where it can: one that was away leads nothing for a while."""
        self._request(_ELECT_LEADERS, 0, struct.pack(">ii", -1, 10_000))

    def limit_producers(self, bytes_per_second):
        """A quota for each producer; None takes it away."""
        key = _string("producer_byte_rate")
        entity = struct.pack(">i", 1) + _string("client-id") + struct.pack(">h", -1)  # the default for all of them
        change = struct.pack(">i", 1) + key + struct.pack(">d?", bytes_per_second or 0.0, bytes_per_second is None)
        answer = self._request(_ALTER_CLIENT_QUOTAS, 0, struct.pack(">i", 1) + entity + change + struct.pack(">?", False))
        (error,) = struct.unpack_from(">h", answer, 8)
        if error != 0:
            raise RuntimeError(f"cannot set the quota: Kafka error {error}")

    def forbid_writing(self, topic, user):
        """`user` may not write to the topic; everybody may do everything else."""
        deny = _acl(topic, f"User:{user}") + struct.pack(">bb", _WRITE, _DENY)
        allow = _acl(topic, "User:*") + struct.pack(">bb", _ALL, _ALLOW)
        self._acls(30, struct.pack(">i", 2) + deny + allow)

    def forbid_nothing(self, topic):
        any_principal_and_host = struct.pack(">hh", -1, -1)
        topics_acls = struct.pack(">b", _TOPIC) + _string(topic) + struct.pack(">b", _LITERAL)
        self._acls(31, struct.pack(">i", 1) + topics_acls + any_principal_and_host + struct.pack(">bb", _ANY, _ANY))

    def _acls(self, api, body):
        answer = self._request(api, 1, body)
        # throttle time, number of results, the first one's error
        (error,) = struct.unpack_from(">h", answer, 8)
        if error:
            raise RuntimeError(f"cannot change ACLs: Kafka error {error}")

    @staticmethod
    def _check(verb, name, answer, harmless):
        # throttle time, number of topics, the topic's name, its error
        (length,) = struct.unpack_from(">h", answer, 8)
        (error,) = struct.unpack_from(">h", answer, 10 + length)
        if error not in (0, harmless):
            raise RuntimeError(f"cannot {verb} topic {name}: Kafka error {error}")

    def _request(self, api, version, body):
        host, port = self.bootstrap.split(",")[0].rsplit(":", 1)
        message = struct.pack(">hhi", api, version, 1) + _string("tests") + body
        with socket.create_connection((host, int(port)), timeout=15) as connection:
            connection.sendall(struct.pack(">i", len(message)) + message)
            stream = connection.makefile("rb")
            (size,) = struct.unpack(">i", stream.read(4))
            return stream.read(size)[4:]  # without the correlation id


class KafkaBroker(_Broker, _Administration):
    """`bootstrap` is the broker itself; `proxied` is the same broker behind `proxy`, which can misbehave. A secure one has
    the listeners of scripts/kafka --secure as well."""

    def __init__(self, jvm=None, secure=False):
        super().__init__(tempfile.mkdtemp(prefix="outbox-relay-kafka."))
        self._options = (["--jvm", jvm] if jvm else []) + (["--secure"] if secure else [])
        self.proxy = FaultProxy()

    def start(self):
        _script("start", self.directory, "--proxied", self.proxy.port, *self._options)
        host, port = self.address("proxied").rsplit(":", 1)
        self.proxy.target = host, int(port)
        return self

    @property
    def proxied(self):
        return f"127.0.0.1:{self.proxy.port}"

    def end_of(self, topic, partitions):
        """The sum of its partitions' ends: how many messages it has ever taken."""
        body = struct.pack(">ii", -1, 1) + _string(topic) + struct.pack(">i", partitions)
        body += b"".join(struct.pack(">iq", partition, _LATEST) for partition in range(partitions))
        answer = self._request(_LIST_OFFSETS, 1, body)
        # number of topics, the name, number of partitions; then of each its number, error, a timestamp, the offset
        ends = list(struct.iter_unpack(">ihqq", answer[4 + len(_string(topic)) + 4:]))
        if len(ends) != partitions or any(error for _, error, _, _ in ends):
            raise RuntimeError(f"the broker does not say where {topic} ends: {ends}")
        return sum(end for _, _, _, end in ends)

    @property
    def tls(self):
        return self.directory / "tls"

    @property
    def password(self):
        """That of the user "relay"."""
        return (self.tls / "password").read_text().strip()

    def change_password(self, password):
        """For SCRAM at once, for PLAIN when the broker is started again."""
        _script("password", self.directory, password)

    def remove(self):
        try:
            if self.directory.exists():
                self.stop()
        finally:
            self.proxy.close()
            shutil.rmtree(self.directory, ignore_errors=True)


class KafkaCluster(_Administration):
    """Three brokers, by their ids 1 to 3; the first is the controller and must live.

    `links` names further listeners, each of which is behind a proxy of its own at every broker: `proxies` by name and
    broker. "PEERS" is what the brokers use among themselves, "CONTROLLER" is how brokers 2 and 3 reach the controller."""

    def __init__(self, links=()):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="outbox-relay-kafka."))
        self.brokers = {node: _Broker(self.directory / str(node)) for node in (1, 2, 3)}
        # Brokers need each other to come up, so where a proxy leads to is looked up when somebody asks.
        self.proxies = {name: {node: FaultProxy(functools.partial(self._target, name, node)) for node in self.brokers}
                        for name in links}

    def start(self):
        _script("cluster", self.directory, *(f"{name}={','.join(str(proxy.port) for proxy in proxies.values())}"
                                             for name, proxies in self.proxies.items()))
        return self

    def _target(self, name, node):
        path = self.directory / "controller" if name == "CONTROLLER" else self.brokers[node].directory / name.lower()
        host, port = path.read_text().strip().rsplit(":", 1)
        return host, int(port)

    def proxied(self, name):
        """What a client of that listener is told."""
        return ",".join(f"127.0.0.1:{proxy.port}" for proxy in self.proxies[name].values())

    @property
    def bootstrap(self):
        return (self.directory / "bootstrap").read_text().strip()

    def heal(self):
        """All brokers run: what a test calls when it is done."""
        for broker in self.brokers.values():
            if not broker.running():
                broker.start()
            broker.resume()

    def remove(self):
        try:
            _script("stop", self.directory)
        finally:
            for proxies in self.proxies.values():
                for proxy in proxies.values():
                    proxy.close()
            shutil.rmtree(self.directory, ignore_errors=True)


def _acl(topic, principal):
    return struct.pack(">b", _TOPIC) + _string(topic) + struct.pack(">b", _LITERAL) + _string(principal) + _string("*")


def _string(text):
    data = text.encode()
    return struct.pack(">h", len(data)) + data
