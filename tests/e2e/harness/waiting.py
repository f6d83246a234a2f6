"""Waiting for a condition instead of sleeping for a guess."""
import random
import socket
import time


def eventually(condition, timeout=20.0, what=None, interval=0.02):
    """Calls `condition` until it returns something true, and returns that. What it raises counts as "not yet"; when time
    is up the last exception, or the last value, is in the error."""
    deadline = time.monotonic() + timeout
    while True:
        error = value = None
        try:
            value = condition()
            if value:
                return value
        except Exception as caught:  # noqa: BLE001 - whatever it is, the next try may succeed
            error = caught
        if time.monotonic() >= deadline:
            name = what or getattr(condition, "__name__", "condition")
            raise AssertionError(f"not within {timeout} s: {name} (last: {error or value!r})") from error
        time.sleep(interval)


def free_port():
    """Below the ephemeral range, so that no outgoing connection can take it before (or between two uses by) its server."""
    for port in random.sample(range(20000, 32000), 200):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue
    raise RuntimeError("no free port")
