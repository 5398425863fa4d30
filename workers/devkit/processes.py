"""Child processes: started with a log, waited for, stopped, killed."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self

#: The project's root: the rooms are imported from there.
ROOT: Final = Path(__file__).resolve().parents[2]
#: Seconds within which a process must be up; many share the cores while they import.
START_S: Final = 60.0
#: Characters of a log that an error shows.
TAIL: Final = 2000
#: Variables that would lead a child to another installation, or through a proxy.
_FOREIGN: Final = re.compile(r"POSTBACK_|FLOWER_|CELERY_|BENCH_|C_FORCE|PYTHONSAFEPATH|(http|https|all)_proxy$", re.I)


def environment(**extra: str) -> dict[str, str]:
    """This process's environment, without what would lead a child elsewhere, and ``extra``."""
    kept = {name: value for name, value in os.environ.items() if not _FOREIGN.match(name)}
    return {**kept, "PYTHONUNBUFFERED": "1", **extra}


def until(condition: Callable[[], Any], timeout_s: float, what: str = "the condition", every_s: float = 0.02) -> Any:
    """Ask until ``condition()`` is true and return its value.

    Raises:
        AssertionError: It did not become true in time.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {timeout_s:g} s")
        time.sleep(every_s)


class Process:
    """A command with a log, in a session of its own.

    Ctrl-C reaches whoever started it, who then ends it.
    """

    def __init__(
        self,
        command: Sequence[str | Path],
        log: Path,
        *,
        name: str = "",
        env: Mapping[str, str] | None = None,
        cwd: Path = ROOT,
        user: Mapping[str, Any] | None = None,
    ) -> None:
        """Start it.

        Args:
            command: The program and its arguments.
            log: The file to which its output is added.
            name: What errors call it; the log's name by default.
            env: Its environment; None is :func:`environment`.
            cwd: Where it runs.
            user: Who runs it, as ``subprocess.Popen`` takes it: ``user``, ``group``,
                ``extra_groups``; None: this user.
        """
        self.log = log
        self.name = name or log.stem
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                command,
                cwd=cwd,
                env=environment() if env is None else dict(env),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                **(user or {}),
            )

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self.process.poll() is None

    def text(self) -> str:
        """Its log so far."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def end(self) -> str:
        """How it has ended, with the end of its log; empty while it runs."""
        if self.alive:
            return ""
        return f"{self.name} ended with status {self.process.returncode}:\n{self.text()[-TAIL:]}"

    def wait_for(self, words: str, timeout_s: float = START_S) -> Self:
        """Return once its log has these words.

        Raises:
            RuntimeError: It has ended without them; the message holds the end of its log.
            AssertionError: It takes too long.
        """
        until(lambda: words in self.text() or not self.alive, timeout_s, f"{words!r} of {self.name}")
        if words not in self.text():
            raise RuntimeError(self.end())
        return self

    def kill(self) -> None:
        """SIGKILL, and wait for its end."""
        self.process.kill()
        self.process.wait()

    def terminate(self) -> None:
        """SIGTERM. A stopped process takes it once it goes on, so it goes on."""
        self.process.send_signal(signal.SIGCONT)
        self.process.terminate()

    def stop(self, timeout_s: float = 30.0) -> int:
        """SIGTERM, then its exit status.

        Raises:
            subprocess.TimeoutExpired: It did not end in time; it is killed.
        """
        self.terminate()
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise


def end_all(processes: Iterable[Process], timeout_s: float) -> None:
    """SIGTERM to all at once; SIGKILL to those that still run ``timeout_s`` later.

    What they leave is nobody's.
    """
    processes = list(processes)
    for process in processes:
        process.terminate()
    deadline = time.monotonic() + timeout_s
    for process in processes:
        try:
            process.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
