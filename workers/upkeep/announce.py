"""What producers and operators may know of a worker and its accounts; no credential is in it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

import redis

from config.accounts import Account
from postback import keys

#: Accounts that one HSET announces.
ANNOUNCED: Final = 5_000


def announce(
    client: redis.Redis,
    accounts: Mapping[str, Account],
    worker: str,
    now_ms: float,
    *,
    provider: str = "",
    held: int = 0,
    metrics: str = "",
) -> None:
    """Tell which accounts a worker serves, with their limits.

    Args:
        client: Of the worker.
        accounts: By queue.
        worker: Its node name.
        now_ms: Redis' clock.
        provider: Whose accounts it serves; "" for all.
        held: Requests that it holds.
        metrics: Where its metrics are, ``host:port``.

    Raises:
        redis.RedisError: Redis is away.
    """
    at = f'{{"at": {now_ms:.0f}, '
    pipeline = client.pipeline(transaction=False)
    every = list(accounts.items())
    for first in range(0, len(every), ANNOUNCED):
        announcements: dict[Any, Any] = {
            queue: at + _told_of(account) for queue, account in every[first : first + ANNOUNCED]
        }
        pipeline.hset(keys.ACCOUNTS, mapping=announcements)
    about = {"at": round(now_ms), "provider": provider, "pid": os.getpid(), "held": held, "metrics": metrics}
    pipeline.hset(keys.WORKERS, worker, json.dumps(about))
    pipeline.execute()


@lru_cache(maxsize=20_000)
def _told_of(account: Account) -> str:
    """All but the time, and the bracket before it: an account says the same each time."""
    told = {
        "windows": [[window.limit, window.window_s, window.text] for window in account.windows],
        "batch_max": account.batch_max,
        "lease_s": account.lease_s,
        "max_queued": account.max_queued,
    }
    return json.dumps(told)[1:]
