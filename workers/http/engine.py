"""The contract of an engine: it sends many requests at once, each at most once, in one thread."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from config.accounts import Account
from tasks.request import Answer, HttpRequest, NotSent, Unanswered


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request that is over."""

    #: The answer, or why there is none.
    answer: Answer | NotSent | Unanswered
    elapsed_s: float


#: Called with an exchange, in the engine's thread.
Done = Callable[[Exchange], None]


class Engine(Protocol):
    """Sends requests. Only :meth:`wake` may be called from other threads."""

    def start(self, request: HttpRequest, account: Account, done: Done) -> None:
        """Begin a request. It never raises: ``done`` gets every failure."""

    def step(self, timeout_s: float) -> None:
        """Wait for work, at most so long, and do it."""

    def wake(self) -> None:
        """Make a waiting :meth:`step` return. Any thread."""

    def close(self) -> None:
        """Begin nothing more and close all connections. Requests on their way get no ``done``."""
