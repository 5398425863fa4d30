"""What the tasks need of the worker that they run in. Imports go one way: ``workers.worker`` is one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from config.accounts import Account
from tasks.request import Sender


class Runtime(Protocol):
    """A worker, as its tasks see it."""

    @property
    def accounts(self) -> Mapping[str, Account]:
        """The accounts that it serves, by queue."""

    @property
    def sender(self) -> Sender:
        """Sends what is called by hand."""

    def scrub(self, text: str, /) -> str:
        """The text with every known credential masked."""
