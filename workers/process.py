"""What there is once in a worker process: its accounts, its governor, the feeder of the current connection."""

from __future__ import annotations

import atexit
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import redis

from config.accounts import Account
from config.topology import provider_of
from postback.events import EVENTS
from tasks.delivery import Fate, Report, ended, not_handed_over, unsettled
from tasks.envelopes import FOLLOWERS
from tasks.grants import REGISTRY, Grant, Settlement
from tasks.signatures import Followers
from workers.feeder import Feeder
from workers.governor import Governor

logger = logging.getLogger(__name__)

_TASK_NAMES: Final = frozenset(EVENTS)


@dataclass
class Process:
    """A worker process.

    Attributes:
        governor: Its only governor.
        accounts: Queue -> account; replaced whole when the accounts file changes.
    """

    governor: Governor
    accounts: Mapping[str, Account]
    feeder: Feeder | None = field(default=None)
    #: Told of grants that Celery closed without having run their task.
    on_closed: Callable[[Grant, Report], None] = field(default=lambda grant, report: None)


_process: Process | None = None


def install(
    connect: Callable[[], redis.Redis],
    accounts: Mapping[str, Account],
    followers: Followers = FOLLOWERS,
    *,
    notices: bool = False,
) -> Governor:
    """Make this process a worker.

    Args:
        connect: Makes a client with one connection of its own.
        accounts: Queue -> account.
        followers: Checks what hangs on a message.
        notices: A hook hears of dead letters.

    Returns:
        Its governor.
    """
    global _process
    _process = Process(Governor(connect, current_accounts, notices=notices, followers=followers), accounts)
    atexit.register(_process.governor.release_all)
    return _process.governor


def current_accounts() -> Mapping[str, Account]:
    """The accounts that this process serves now; none if it is no worker."""
    return _process.accounts if _process else {}


def replace_accounts(new: Mapping[str, Account]) -> None:
    """Serve other accounts from now on."""
    if _process:
        _process.accounts = new


def is_governed(queue: str) -> bool:
    """Whether a queue belongs to a provider: an account's, or one that is no account here (``tgtrack.dead``, an account that was removed).

    The latter are subscribed to and never taken from: kombu's own way would pop their events without a token and lose them. All
    other queues go that way.
    """
    return _process is not None and provider_of(queue) is not None


def governor() -> Governor | None:
    """The governor, if this process is a worker."""
    return _process.governor if _process else None


def task_names() -> frozenset[str]:
    """Names of the tasks that deliver events."""
    return _TASK_NAMES


def replace_feeder(feeder: Feeder) -> None:
    """A new connection has taken over: the feeder of the lost one must not feed its dead channel."""
    if _process is None:
        return
    if _process.feeder is not None and _process.feeder is not feeder:
        _process.feeder.stop()
    _process.feeder = feeder
    _process.governor.on_released = feeder.kick
    _process.governor.on_delayed = feeder.look_again


def ask(queue: str) -> None:
    """Look at an account's queue at once. In the event loop's thread."""
    if _process and _process.feeder:
        _process.feeder.ask(queue)


def on_closed(told: Callable[[Grant, Report], None]) -> None:
    """Tell of grants that Celery closed without having run their task, from now on."""
    if _process:
        _process.on_closed = told


def close_grant(grant_id: str) -> None:
    """Celery is done with a message. Its task has settled the grant, unless Celery never ran it, or something failed after it (invariant I3)."""
    grant = REGISTRY.get(grant_id)
    if grant is None or _process is None:
        return
    if grant.settlement is None and not grant.sent:
        grant.settlement = grant.decided
    if grant.settlement is not None:
        _process.governor.settle(grant)
    elif grant.sent or ended(grant.envelopes[0]):
        # What was sent may hang on something that could not be published: it is never taken for delivered.
        _close(_process, grant, unsettled(grant, current_accounts().get(grant.queue), ran=grant.sent))
    else:
        _close(_process, grant, not_handed_over(grant, "it was discarded"))


def refuse_grant(grant: Grant, error: Exception) -> None:
    """Celery did not take a grant's message: it is settled at once.

    A lack of memory, threads or files is not the message's fault: it is put back. Anything else is, and would be again.
    """
    if _process is None or grant.id not in REGISTRY or grant.sent:
        return
    exhausted = isinstance(error, MemoryError | OSError) or type(error) is RuntimeError
    _close(_process, grant, grant.put_back() if exhausted else not_handed_over(grant, type(error).__name__))


def _close(running: Process, grant: Grant, settlement: Settlement) -> None:
    """Settle a grant whose task has decided nothing, and tell of it."""
    grant.settlement = settlement
    running.governor.settle(grant)
    running.on_closed(grant, _report(grant, settlement))


def _report(grant: Grant, settlement: Settlement) -> Report:
    """What such a settlement means for each event, in a task's words."""
    fates = [Fate("wait", "put back") for _ in grant.envelopes]
    for index, verb, *rest in settlement.messages:
        if index > len(fates):
            continue
        if verb == "dead":
            letter = json.loads(rest[2])
            fates[index - 1] = Fate("dead", f"{letter['reason']} {letter['detail']}".rstrip())
        elif verb == "retry":
            fates[index - 1] = Fate("retry", settlement.detail)
    return Report(settlement, fates)
