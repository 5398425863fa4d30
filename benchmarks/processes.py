"""Processes that are measured: their processor time and memory, children included."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Final, Self

from workers.devkit import Process, until

TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


class Running(Process):
    """A command with all that it starts; it ends with the ``with`` block."""

    def __init__(self, command: list[str], env: dict[str, str], core: int | None = None) -> None:
        """Start it; on one core only if ``core`` says which."""
        self._folder = tempfile.TemporaryDirectory(prefix="postback-running-")
        pinned = ["taskset", "-c", str(core)] if core is not None else []
        super().__init__(pinned + command, Path(self._folder.name, "log"), name=" ".join(command), env=env)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.stop(15)
        until(self._reaped, 10, "the end of a worker's children")
        self._folder.cleanup()

    def kill(self) -> None:
        """SIGKILL to all of them."""
        for pid in self._pids():
            os.kill(pid, signal.SIGKILL)
        self.process.wait()

    def check(self) -> bool:
        """True while it runs, and after it ended well.

        Raises:
            RuntimeError: It ended with an error; the message has the end of its output.
        """
        if self.process.poll():
            raise RuntimeError(self.end())
        return True

    def cpu_s(self) -> float:
        """Seconds of processor time so far, those of children that ended included."""
        return sum(sum(int(ticks) for ticks in _stat(pid)[11:15]) for pid in self._pids()) / TICKS_PER_S

    def rss_mb(self) -> float:
        """Resident memory, MB."""
        return sum(int(_stat(pid)[21]) for pid in self._pids()) * PAGE_BYTES / 1e6

    def _pids(self) -> list[int]:
        session = str(self.process.pid)
        pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()]
        return [pid for pid in pids if (fields := _stat(pid)) and fields[3] == session and fields[0] != "Z"]

    def _reaped(self) -> bool:
        for pid in self._pids():
            os.kill(pid, signal.SIGKILL)
        return not self._pids()


def _stat(pid: int) -> list[str]:
    """Fields of ``/proc/PID/stat`` from the state on; empty if the process has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []
