"""What the tasks need of the worker that they run in. Imports go one way: ``workers.worker`` is one."""

from __future__ import annotations

from typing import Protocol

from config.accounts import Account
from tasks.delivery import Report
from tasks.grants import Grant, Grants
from tasks.request import Sender


class Runtime(Protocol):
    """A worker, as its tasks see it."""

    @property
    def grants(self) -> Grants:
        """The grants that it holds."""

    @property
    def sender(self) -> Sender:
        """How requests go out."""

    def account(self, queue: str) -> Account | None:
        """The account of a queue; None if the accounts file no longer has it."""

    def settle(self, grant: Grant) -> None:
        """Apply a grant's settlement in Redis; keep it and try again if Redis is away. Never raises."""

    def scrub(self, text: str, /) -> str:
        """The text with every known credential masked."""

    def observe(self, report: Report) -> None:
        """Tell logs, metrics and Flower of a report."""
