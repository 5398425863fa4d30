"""A worker: the accounts that it serves, the grants that it holds, and what becomes of those that Celery drops."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Final

from config.accounts import Account
from tasks.delivery import Report
from tasks.envelopes import FOLLOWERS
from tasks.fitness import ended
from tasks.grants import Grant, Grants, Settlement
from tasks.judge import judge_not_taken, judge_undecided
from tasks.request import Sender
from tasks.signatures import Followers
from workers.governor import Governor, Server
from workers.rounds.feeder import Feeder

logger = logging.getLogger(__name__)

#: Errors that a message's own content can cause in Celery.
BLAMES_MESSAGE: Final = (TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RecursionError)


class Worker:
    """One worker process. The composition root makes it; its tasks, transport and commands are given it.

    Attributes:
        accounts: Queue -> account; replaced whole when the accounts file changes.
        governor: Takes and settles.
        sender: How requests go out.
        scrub: Masks every known credential in a text.
        observers: Each is told of the outcome of every grant, in any thread.
    """

    def __init__(
        self,
        server: Server,
        accounts: Mapping[str, Account],
        sender: Sender,
        *,
        scrub: Callable[[str], str] = str,
        followers: Followers = FOLLOWERS,
    ) -> None:
        """Nothing is sent yet.

        Args:
            server: Its Redis.
            accounts: Queue -> account.
            sender: How requests go out.
            scrub: Masks every known credential in a text.
            followers: Checks what hangs on a message.
        """
        self.accounts = accounts
        self.sender = sender
        self.observers: list[Callable[[Report], None]] = []
        self.scrub = scrub
        self.governor = Governor(server, lambda: self.accounts, followers=followers)
        self._feeder: Feeder | None = None

    @property
    def grants(self) -> Grants:
        """The grants that it holds."""
        return self.governor.grants

    def account(self, queue: str) -> Account | None:
        """The account of a queue; None if the accounts file no longer has it."""
        return self.accounts.get(queue)

    def settle(self, grant: Grant) -> None:
        """Apply a grant's settlement in Redis; keep it and try again if Redis is away. Never raises."""
        self.governor.settle(grant)

    def observe(self, report: Report) -> None:
        """Tell everyone who wants to know of outcomes."""
        for observer in self.observers:
            observer(report)

    def feed_from(self, feeder: Feeder) -> None:
        """A new connection has taken over: the feeder of the lost one must not feed its dead channel."""
        if self._feeder is not None and self._feeder is not feeder:
            self._feeder.stop()
        self._feeder = feeder
        self.governor.settler.on_released = feeder.kick
        self.governor.settler.on_delayed = feeder.look_again

    def ask(self, queue: str) -> None:
        """Look at an account's queue at once. In the event loop's thread."""
        if self._feeder is not None:
            self._feeder.ask(queue)

    def close(self, grant_id: str) -> None:
        """Celery is done with a message.

        Its task has settled the grant, unless Celery never ran it, or something failed after it (invariant I3).
        """
        grant = self.grants.get(grant_id)
        if grant is None:
            return
        if grant.settlement is None and not grant.sent:
            grant.settlement = grant.decided
        if grant.settlement is not None:
            self.settle(grant)
        elif grant.sent or ended(grant.envelopes[0]):
            # What was sent may hang on something that could not be published: it is never taken for
            # delivered.
            self._end(grant, judge_undecided(grant, self.account(grant.queue), ran=grant.sent))
        else:
            self._end(grant, judge_not_taken(grant, "it was discarded"))

    def refuse(self, grant: Grant, error: Exception) -> None:
        """Celery did not take a grant's message: it is settled at once.

        It is put back unless the error is of a kind that a message can cause: a lack of memory or threads, or a worker
        that is closing, is not its fault.
        """
        if grant.id not in self.grants or grant.sent:
            return
        guilty = isinstance(error, BLAMES_MESSAGE)
        self._end(grant, judge_not_taken(grant, type(error).__name__) if guilty else grant.put_back())

    def _end(self, grant: Grant, settlement: Settlement) -> None:
        """Settle a grant whose task has decided nothing, and tell of it."""
        grant.settlement = settlement
        self.settle(grant)
        self.observe(Report(grant, settlement))
