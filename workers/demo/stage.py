"""The demo's stack. Its parts start one after the other, and end whatever happens."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Final, Self

from workers.devkit import Stack, fetch, find_binary, free_port, until
from workers.devkit.processes import START_S, TAIL
from workers.devkit.stack import READY

#: Seconds that the processes get to end by themselves; a worker finishes the requests on the wire.
STOP_S: Final = 10.0
#: Least and most time that an answer of the sandbox takes, in ms.
LATENCY_MS: Final = (20, 120)


class Stopped(BaseException):
    """SIGINT, SIGTERM or SIGHUP: everything is to end."""

    def __init__(self, number: int) -> None:
        """Keep the signal's number."""
        super().__init__(signal.Signals(number).name)
        self.number = number


class Failed(Exception):
    """A part of the demo did not start, or has ended; says which, with the end of its log."""


class Stage:
    """Redis, sandbox, workers and Flower on free ports of this machine.

    All of them are gone after the ``with`` block.
    """

    def __init__(self) -> None:
        """Nothing runs yet."""
        self.stack = Stack(latency_ms=LATENCY_MS)
        self.flower_url = ""
        self._shielded = False
        self._signal = 0

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._on_signal)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        # From here on a second Ctrl-C changes nothing: impatience must leave no process behind.
        self._shielded = True
        self.stack.close(stop_s=STOP_S)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._signal = self._signal or number
        if not self._shielded:
            raise Stopped(number)

    @contextlib.contextmanager
    def _shield(self) -> Iterator[None]:
        """A process is started and known, or not started: no signal comes between."""
        self._shielded = True
        try:
            yield
        finally:
            self._shielded = False
        if self._signal:
            raise Stopped(self._signal)

    def start_redis(self) -> str:
        """Start the server; returns what it is."""
        try:
            with self._shield():
                self.stack.redis.start()
        except RuntimeError as error:
            raise Failed(str(error)) from None
        return f"{Path(find_binary()).name} on 127.0.0.1:{self.stack.redis.port}"

    def start_sandbox(self) -> str:
        """Start the five providers in threads of this process; returns their address."""
        with self._shield():
            self.stack.sandbox.start()
        return self.stack.sandbox.url

    def start_rest(self, providers: tuple[str, ...]) -> str:
        """Start one worker for each provider and Flower, all at once.

        Returns what they are when all are up.
        """
        for provider in providers:
            with self._shield():
                self.stack.launch_worker(provider)
        port = free_port()
        self.flower_url = f"http://127.0.0.1:{port}"
        with self._shield():
            self.stack.launch("flower", "-m", "workers.flower", FLOWER_PORT=str(port), FLOWER_ADDRESS="127.0.0.1")
        self._until(lambda: all(READY in worker.text() for worker in self.stack.workers), "the workers")
        self._until(lambda: self.flower_page("/broker"), "Flower")
        return f"{', '.join(providers)}; Flower on {self.flower_url}"

    def flower_page(self, path: str) -> str:
        """A page of Flower; empty if there is none."""
        status, text = fetch(f"{self.flower_url}{path}")
        return text if status == 200 else ""

    def check_alive(self) -> None:
        """Every process still runs, and nobody has asked for the end.

        Raises:
            Failed: One has ended.
            Stopped: A signal came where Python throws exceptions away (a destructor).
        """
        if self._signal:
            raise Stopped(self._signal)
        for process in self.stack.processes:
            if end := process.end():
                raise Failed(end)

    def _until(self, condition: Callable[[], Any], what: str) -> None:
        """Return when a part is up.

        Raises:
            Failed: A process has ended, or this one takes too long.
        """

        def up() -> bool:
            self.check_alive()
            return bool(condition())

        try:
            until(up, START_S, what, every_s=0.05)
        except AssertionError as late:
            raise Failed(f"{late}\n{self.stack.logs()[-TAIL:]}") from None
