"""The contract of an engine that sends requests: many at once, each at most once, owned by one thread."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from config.accounts import Account
from tasks.request import Answer, HttpRequest, NotSent, Unanswered


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request that is over."""

    #: What came back, or why nothing did.
    answer: Answer | NotSent | Unanswered
    elapsed_s: float


#: Told of an exchange, in the wire's thread.
Done = Callable[[Exchange], None]


class Wire(Protocol):
    """Sends requests. All of it is called in one thread, except :meth:`wake`."""

    def start(self, request: HttpRequest, account: Account, done: Done) -> None:
        """Begin a request. Never raises: whatever is wrong with it is what ``done`` is told."""

    def step(self, timeout_s: float) -> None:
        """Wait for something to happen, at most so long, and do what is to be done."""

    def wake(self) -> None:
        """Make a waiting :meth:`step` return. Any thread."""

    def close(self) -> None:
        """Begin nothing more and close all connections; what is on its way is told nothing of."""
