"""The wall clock of one process, by libfaketime (Debian's package faketime)."""
import glob
import pathlib


class Clock:
    """The wall clock of a process that was started with `environment`. Time that merely passes is not touched, as when
    somebody sets the clock of a machine."""

    library = next(iter(glob.glob("/usr/lib/*/faketime/libfaketimeMT.so.1")), None)

    def __init__(self, path):
        self._path = pathlib.Path(path)
        self.step(0)

    @property
    def environment(self):
        # jemalloc asks for the time before libfaketime can tell it: libc's malloc, and the operators that go with it,
        # are found before its own.
        return {"LD_PRELOAD": f"{self.library}:libstdc++.so.6:libc.so.6", "FAKETIME_TIMESTAMP_FILE": str(self._path),
                "FAKETIME_CACHE_DURATION": "1", "DONT_FAKE_MONOTONIC": "1"}

    def step(self, seconds):
        fresh = self._path.with_suffix(".new")
        fresh.write_text(f"{seconds:+d}\n")
        fresh.chmod(0o644)
        fresh.rename(self._path)
