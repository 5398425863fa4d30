"""What needs a person. Pauses and outages that end by themselves do not, and an operator's own pause does not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from postback.operations.status import AccountStatus, Snapshot

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
    found = [alarm for account in snapshot.accounts for alarm in of_account(account)]
    for provider, count in snapshot.dead.items():
        if count:
            found.append(
                Alarm("dead", f"{provider}.dead", f"{count:,} dead: look with `postback dead list {provider}`")
            )
    for one in snapshot.redis:
        share = one.memory_share
        if share is not None and share > MEMORY_SHARE:
            found.append(
                Alarm("memory", one.url, f"Redis uses {share:.0%} of its maxmemory and refuses events when it is full")
            )
    return found


def of_account(account: AccountStatus) -> Iterator[Alarm]:
    """What of an account needs a person, dead letters apart."""
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
