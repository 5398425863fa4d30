"""What needs a person.

A pause or an outage that ends by itself does not, nor does an operator's own pause.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from postback.operations.account_status import AccountStatus
from postback.operations.status import Snapshot

__all__ = ["Alarm", "alarms", "of_account"]

#: Used share of Redis' memory limit above which it will soon refuse events.
MEMORY_SHARE: Final = 0.9


@dataclass(frozen=True, slots=True)
class Alarm:
    """One thing that needs a person.

    Attributes:
        kind: ``paused``, ``orphan``, ``unserved``, ``dead`` or ``memory``.
        place: The account, the provider's dead-letter list, or the Redis.
        text: One sentence that says what to do.
    """

    kind: str
    place: str
    text: str


def alarms(snapshot: Snapshot) -> list[Alarm]:
    """Everything in a snapshot that needs a person."""
    needed = [alarm for account in snapshot.accounts for alarm in of_account(account)]
    for provider, count in snapshot.dead.items():
        if count:
            needed.append(
                Alarm("dead", f"{provider}.dead", f"{count:,} dead: look with `postback dead list {provider}`")
            )
    for server in snapshot.redis:
        share = server.memory_share
        if share is not None and share > MEMORY_SHARE:
            text = f"Redis uses {share:.0%} of its maxmemory and refuses events when it is full"
            needed.append(Alarm("memory", server.url, text))
    return needed


def of_account(account: AccountStatus) -> Iterator[Alarm]:
    """An account's alarms, without its dead letters."""
    queue = account.queue
    waiting = account.queued + account.delayed + account.in_flight
    if account.paused and account.paused.until_ms is None and account.paused.reason != "operator":
        yield Alarm(
            "paused",
            queue,
            f"paused ({account.paused.reason}): correct the account, then `postback resume {queue}`",
        )
    if not waiting:
        return
    if account.is_orphan:
        yield Alarm("orphan", queue, f"{_events(waiting)} in a queue of no account: no worker has ever announced it")
    elif not account.served:
        yield Alarm(
            "unserved", queue, f"{_events(waiting)} and no live worker: start `python -m workers {account.provider}`"
        )


def _events(count: int) -> str:
    return f"{count:,} event{'' if count == 1 else 's'}"
