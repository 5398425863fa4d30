"""Announces a worker and its accounts to producers and operators. It contains no credential."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

import redis

from config.accounts import Account
from postback.wire import keys
from workers.governor.identities import Identities, Identity

#: Accounts in one command. It runs as a script (ADR 18), which takes at most 8,000 words.
ANNOUNCED: Final = 1_000
#: Seconds for which Redis keeps the accounts of a silent worker.
SERVED_S: Final = 60


def announce_worker(
    client: redis.Redis,
    worker: str,
    served: str,
    now_ms: float,
    *,
    provider: str = "",
    held: int = 0,
    metrics: str = "",
) -> bool:
    """Announce that a worker lives. The cost does not grow with the number of its accounts.

    Args:
        client: The worker's.
        worker: Its node name.
        served: The name of its set of accounts; see ``keys.name_of_set``.
        now_ms: Redis' clock.
        provider: The provider that it serves; "" for all.
        held: Requests that it holds.
        metrics: Address of its metrics, ``host:port``.

    Returns:
        Whether Redis has its accounts; if not, call :func:`announce_accounts`.

    Raises:
        redis.RedisError: Redis is away.
    """
    announcement = {"at": round(now_ms), "provider": provider, "pid": os.getpid(), "held": held, "metrics": metrics}
    pipeline = client.pipeline(transaction=False)
    pipeline.expire(keys.served(served), SERVED_S)
    pipeline.hset(keys.WORKERS, worker, json.dumps({**announcement, "serves": served}))
    return bool(pipeline.execute()[0])


def announce_accounts(
    client: redis.Redis, accounts: Mapping[str, Account], identities: Identities, served: str
) -> None:
    """Announce accounts with their limits, keys and quotas, for all workers with the same accounts.

    Args:
        client: The worker's.
        accounts: By queue.
        identities: Their keys and quotas.
        served: The name of the set of accounts.

    Raises:
        redis.RedisError: Redis is away.
    """
    pipeline = client.pipeline(transaction=False)
    items = list(accounts.items())
    for first in range(0, len(items), ANNOUNCED):
        part = items[first : first + ANNOUNCED]
        announcements: dict[Any, Any] = {
            queue: _announcement(account, identities.of(account)) for queue, account in part
        }
        pipeline.hset(keys.ACCOUNTS, mapping=announcements)
        pipeline.sadd(keys.served(served), *announcements)
    pipeline.expire(keys.served(served), SERVED_S)
    pipeline.execute()


@lru_cache(maxsize=20_000)
def _announcement(account: Account, identity: Identity) -> str:
    announcement = {
        "windows": [[window.limit, window.window_s, window.text] for window in account.windows],
        "batch_max": account.batch_max,
        "lease_s": account.lease_s,
        "max_queued": account.max_queued,
        "quota": identity.quota,
        "credential": identity.credential,
    }
    return json.dumps(announcement)
