"""A worker: the accounts that it serves, the grants that it holds, and who is told of what becomes of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from config.accounts import Account
from postback.wire.scripts import Observer
from tasks.delivery import Report
from tasks.envelopes import FOLLOWERS
from tasks.grants import Grants
from tasks.request import Sender
from tasks.signatures import Followers
from workers.governor import Governor
from workers.writes import Client


class Worker:
    """One worker process. The composition root makes it; its tasks, transport and commands are given it.

    Attributes:
        accounts: Queue -> account; replaced whole when the accounts file changes.
        governor: Takes and settles.
        observers: Each is told of the outcome of every grant, in the rounds' thread.
        ask: Has an account's queue looked at, at once. Any thread.
        hostname: Celery's name of it, while it is connected.
    """

    def __init__(
        self,
        connect: Callable[[], Client],
        accounts: Mapping[str, Account],
        sender: Sender,
        *,
        scrub: Callable[[str], str] = str,
        followers: Followers = FOLLOWERS,
        notices: bool = False,
        one_first: bool = True,
        on_script: Observer | None = None,
    ) -> None:
        """Nothing is sent yet.

        Args:
            connect: Makes a client with one connection of its own, for one thread.
            accounts: Queue -> account.
            sender: Sends what is called by hand (``task.apply()``).
            scrub: Masks every known credential in a text.
            followers: Checks what hangs on a message.
            notices: A hook hears of dead letters.
            one_first: An account at rest sends one request alone until a healthy answer (ADR 11).
            on_script: Told of each run of a script. Any thread.
        """
        self.accounts = accounts
        self.sender = sender
        self.observers: list[Callable[[Report], None]] = []
        self.governor = Governor(
            connect,
            lambda: self.accounts,
            notices=notices,
            followers=followers,
            one_first=one_first,
            observe=on_script,
        )
        self._scrub = scrub
        self.ask: Callable[[str], None] = lambda queue: None
        self.hostname = ""

    @property
    def grants(self) -> Grants:
        """The grants that it holds."""
        return self.governor.grants

    def account(self, queue: str) -> Account | None:
        """The account of a queue; None if the accounts file no longer has it."""
        return self.accounts.get(queue)

    def scrub(self, text: str) -> str:
        """The text with every known credential masked."""
        return self._scrub(text)

    def observe(self, report: Report) -> None:
        """Tell everyone who wants to know of outcomes."""
        for observer in self.observers:
            observer(report)
