"""A worker: its accounts, its grants, and the observers of their outcomes."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from config.accounts import Account
from tasks.delivery import Report
from tasks.envelopes import DEFAULT_LINK_RULES
from tasks.grants import Grants
from tasks.links import LinkRules
from tasks.request import Sender
from workers.governor import Governor, Server


class Worker:
    """One worker process. The composition root makes it and passes it on.

    Attributes:
        accounts: Queue -> account; replaced whole when the accounts file changes.
        governor: Takes and settles.
        scrub: Masks every known credential in a text.
        observers: Called with the report of every grant, in the rounds' thread.
        hostname: Celery's name of it, while it is connected.
    """

    def __init__(
        self,
        server: Server,
        accounts: Mapping[str, Account],
        sender: Sender,
        *,
        scrub: Callable[[str], str] = str,
        link_rules: LinkRules = DEFAULT_LINK_RULES,
    ) -> None:
        """Nothing is sent yet.

        Args:
            server: Its Redis.
            accounts: Queue -> account.
            sender: Sends the events of tasks that are called by hand (``task.apply()``).
            scrub: Masks every known credential in a text.
            link_rules: Check a message's links.
        """
        self.accounts = accounts
        self.sender = sender
        self.observers: list[Callable[[Report], None]] = []
        self.scrub = scrub
        self.governor = Governor(server, lambda: self.accounts, link_rules=link_rules)
        self.hostname = ""

    @property
    def grants(self) -> Grants:
        """The grants that it holds."""
        return self.governor.grants

    def account(self, queue: str) -> Account | None:
        """The account of a queue; None if the accounts file no longer has it."""
        return self.accounts.get(queue)

    def observe(self, report: Report) -> None:
        """Call all observers."""
        for observer in self.observers:
            observer(report)
