"""The relay's binary as a child process, with a configuration and a log of its own."""
import ctypes
import http.client
import json
import os
import pathlib
import re
import signal
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request

from .waiting import eventually, free_port

_SAMPLE = re.compile(r"^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)")
_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"')
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


def binary():
    path = os.environ.get("RELAY_BINARY")
    if not path:
        raise RuntimeError("RELAY_BINARY must name the binary to test; scripts/test sets it")
    return str(pathlib.Path(path).resolve(strict=True))


def toml(tables):
    """`tables` is {table: {key: value}}; keys with dots are written as they are, which is how librdkafka's names look."""
    lines = []
    for table, values in tables.items():
        lines.append(f"[{table}]")
        lines += [f"{key} = {_toml_value(value)}" for key, value in values.items()]
    return "\n".join(lines) + "\n"


def _toml_value(value):
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml_value(inner)}" for key, inner in value.items()) + " }"
    return json.dumps(value)  # strings, numbers, booleans and arrays of them look the same in TOML


def run_command(*arguments, timeout=60, **options):
    """Runs one of the binary's commands to its end; the caller looks at returncode, stdout and stderr."""
    return subprocess.run([binary(), *map(str, arguments)], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=timeout, check=False, **options)


class Relay:
    """`settings` ({table: {key: value}}) goes over the tests' defaults; a value of None removes a key."""

    def __init__(self, dsn, bootstrap, settings=None, directory=None):
        self.http_port = free_port()
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="relay.", dir=directory))
        tables = {
            "postgres": {"dsn": dsn},
            "kafka": {"bootstrap.servers": bootstrap},
            "relay": {},
            "http": {"listen": f"127.0.0.1:{self.http_port}"},
            "log": {"level": "debug", "format": "json"},
        }
        for table, values in (settings or {}).items():
            merged = {**tables.get(table, {}), **values}
            tables[table] = {key: value for key, value in merged.items() if value is not None}
        self.window = tables["relay"].get("in_flight_rows", 20_000)
        self.config = self.directory / "relay.toml"
        self.config.write_text(toml(tables), encoding="utf-8")
        self.process = None

    # --- life ---

    def start(self, *arguments, environment=None):
        assert not self.running(), "the relay runs already"
        with open(self.directory / "relay.log", "ab") as log:
            self.process = subprocess.Popen(
                [binary(), "run", "-c", str(self.config), *arguments], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env={**os.environ, **(environment or {})}, preexec_fn=_die_with_parent)
        if os.environ.get("RELAY_SCRAPED"):
            threading.Thread(target=self._scrape, args=(self.process,), daemon=True).start()
        return self

    def _scrape(self, process):
        """Every page again and again for as long as it runs: something for a thread sanitizer to look at."""
        while process.poll() is None:
            for page in ("/metrics", "/status", "/readyz", "/livez"):
                try:
                    self.http(page)
                except (OSError, http.client.HTTPException):
                    pass  # not up yet, stopped, or ending
            time.sleep(0.02)

    def running(self):
        return self.process is not None and self.process.poll() is None

    def wait_ready(self, timeout=20):
        def ready():
            if not self.running():
                raise RuntimeError(f"the relay ended with {self.process.returncode}")
            return self.http("/readyz")[0] == 200

        try:
            eventually(ready, timeout, "the relay is ready")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log_text()[-3000:]}") from error
        return self

    def sigterm(self):
        self.process.send_signal(signal.SIGTERM)

    def wait(self, timeout=40):
        return self.process.wait(timeout)

    def stop(self, timeout=40):
        """SIGTERM, then the exit code."""
        self.sigterm()
        return self.wait(timeout)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def pause(self):
        self.process.send_signal(signal.SIGSTOP)

    def resume(self):
        self.process.send_signal(signal.SIGCONT)

    # --- what it says of itself ---

    def http(self, path, timeout=5):
        """Status code and body, whatever the code is."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}{path}", timeout=timeout) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def metrics(self):
        """{name: {((label, value), …): number}}"""
        status, text = self.http("/metrics")
        assert status == 200, text
        return parse_metrics(text)

    def metric(self, name, **labels):
        """The sum over all samples of that name that carry these labels."""
        wanted = set(labels.items())
        return sum(value for key, value in self.metrics().get(name, {}).items() if wanted <= set(key))

    def status(self):
        return json.loads(self.http("/status")[1])

    def command(self, *arguments, **options):
        """One of the binary's other commands with this relay's configuration: command("status", "--output", "json")."""
        return run_command(*arguments, "-c", self.config, **options)

    def log_text(self):
        path = self.directory / "relay.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def log(self, **fields):
        """Log lines (parsed) that carry these fields. A line that is not JSON is a bug of its own, so it raises."""
        lines = [json.loads(line) for line in self.log_text().splitlines() if line.strip()]
        return [line for line in lines if all(line.get(name) == value for name, value in fields.items())]


def parse_metrics(text):
    samples = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            name, labels, value = _SAMPLE.match(line).groups()
            samples.setdefault(name, {})[tuple(sorted(_LABEL.findall(labels or "")))] = float(value)
    return samples


def _die_with_parent():
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
