"""Many accounts at a glance: those that come first, and each provider's totals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from postback.operations.account_status import AccountStatus
from postback.operations.alarms import of_account

__all__ = ["Totals", "foremost", "totals"]


@dataclass(slots=True)
class Totals:
    """A provider's accounts together.

    Counts are those of :class:`~postback.operations.account_status.AccountStatus`.
    """

    accounts: int = 0
    #: Accounts that no live worker serves.
    unserved: int = 0
    #: Reason of a pause -> accounts that pause for it.
    paused: Counter[str] = field(default_factory=Counter)
    queued: int = 0
    delayed: int = 0
    in_flight: int = 0
    dead: int = 0
    #: When the longest waiting event of all was enqueued.
    oldest_ms: float | None = None
    delivered: int = 0
    died: int = 0
    quota_answers: int = 0

    def add(self, account: AccountStatus) -> None:
        """Add one account."""
        self.accounts += 1
        self.unserved += not account.served
        if account.paused:
            self.paused[account.paused.reason] += 1
        for name in ("queued", "delayed", "in_flight", "dead", "delivered", "died", "quota_answers"):
            setattr(self, name, getattr(self, name) + getattr(account, name))
        if account.oldest_ms:
            self.oldest_ms = min(account.oldest_ms, self.oldest_ms or account.oldest_ms)


def totals(accounts: Iterable[AccountStatus]) -> dict[str, Totals]:
    """Provider -> its accounts together."""
    by_provider: dict[str, Totals] = {}
    for account in accounts:
        by_provider.setdefault(account.provider, Totals()).add(account)
    return by_provider


def foremost(accounts: Sequence[AccountStatus], most: int) -> list[AccountStatus]:
    """The ``most`` accounts that an operator wants to see first, in the order of ``accounts``.

    First come those that need a person, then those that fail or pause, then the longest queues.
    """
    chosen = sorted(range(len(accounts)), key=lambda at: _urgency(accounts[at]), reverse=True)[:most]
    return [accounts[at] for at in sorted(chosen)]


def _urgency(account: AccountStatus) -> tuple[int, int]:
    waiting = account.queued + account.delayed + account.in_flight
    if account.dead or any(of_account(account)):
        return 2, waiting
    return int(bool(account.paused or account.failures)), waiting
