"""What needs a person.

A pause or an outage that ends by itself does not, nor does an operator's own pause.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from postback.operations.account_status import AccountStatus
from postback.operations.journal_status import JournalStatus
from postback.operations.status import Snapshot
from postback.wire import keys

__all__ = ["Alarm", "alarms", "of_account", "of_journal"]

#: Used share of Redis' memory limit above which it will soon refuse events.
MEMORY_SHARE: Final = 0.9
#: Seconds for which the journal's process may be silent, or a record may wait for it.
BEHIND_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Alarm:
    """One thing that needs a person.

    Attributes:
        kind: ``paused``, ``orphan``, ``unserved``, ``dead``, ``memory`` or ``journal``.
        place: The account, the provider's dead-letter list or stream, or the Redis.
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
    return needed + [alarm for journal in snapshot.journals for alarm in of_journal(journal)]


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


def of_journal(journal: JournalStatus) -> Iterator[Alarm]:
    """The alarms of a Redis' journal; none where no journal process has ever run."""
    if not journal.id:
        return
    waiting = _counted(journal.entries, "record")
    if journal.silent_s > BEHIND_S:
        since = f"for {_minutes(journal.silent_s)}" if journal.written_ms else "yet"
        text = f"nobody has written the journal {since}, {waiting} in Redis: start `python -m workers.journal`"
        yield Alarm("journal", journal.url, text)
    elif journal.lag_s > BEHIND_S:
        text = f"the journal is behind, {waiting} in Redis, the oldest for {_minutes(journal.lag_s)}"
        yield Alarm("journal", journal.url, f"{text}: see the log of `python -m workers.journal`")
    for provider, stream in journal.streams.items():
        if stream.lost:
            text = f"{_counted(stream.lost, 'record')} of the journal lost, because its stream was full"
            yield Alarm("journal", keys.journal(provider), f"{text}: let `python -m workers.journal` run")


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:,.0f} min"


def _events(count: int) -> str:
    return _counted(count, "event")


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
