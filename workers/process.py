"""What there is once in a worker process: its accounts, its governor, the feeder of the current connection."""

from __future__ import annotations

import atexit
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import redis

from config.accounts import Account
from postback.events import EVENTS
from tasks.delivery import unsettled
from tasks.grants import REGISTRY
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


_process: Process | None = None


def install(connect: Callable[[], redis.Redis], accounts: Mapping[str, Account]) -> Governor:
    """Make this process a worker of ``accounts``. Returns its governor."""
    global _process
    _process = Process(Governor(connect, current_accounts), accounts)
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
    """Whether a queue belongs to an account; all others go kombu's own way."""
    return queue in current_accounts()


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


def close_grant(grant_id: str) -> None:
    """Celery is done with a message. Its task has settled the grant, unless Celery never ran it or our own code failed (invariant I3)."""
    grant = REGISTRY.get(grant_id)
    if grant is None or _process is None:
        return
    if grant.settlement is None:
        grant.settlement = unsettled(grant, current_accounts().get(grant.queue))
    _process.governor.settle(grant)
