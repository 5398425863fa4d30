"""What producers and operators may know of a worker and its accounts; no credential is in it."""

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

#: Accounts in one command. A script, as which it goes (ADR 18), takes at most 8,000 words.
ANNOUNCED: Final = 1_000
#: Seconds for which Redis keeps whom a worker serves that has said no more.
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
    """Tell that a worker lives. Its cost does not grow with the number of its accounts.

    Args:
        client: Of the worker.
        worker: Its node name.
        served: Names its accounts, see ``keys.name_of_set``.
        now_ms: Redis' clock.
        provider: Whose accounts it serves; "" for all.
        held: Requests that it holds.
        metrics: Where its metrics are, ``host:port``.

    Returns:
        Whether Redis knows these accounts; if not, :func:`announce_accounts` tells it.

    Raises:
        redis.RedisError: Redis is away.
    """
    about = {"at": round(now_ms), "provider": provider, "pid": os.getpid(), "held": held, "metrics": metrics}
    pipeline = client.pipeline(transaction=False)
    pipeline.expire(keys.served(served), SERVED_S)
    pipeline.hset(keys.WORKERS, worker, json.dumps({**about, "serves": served}))
    return bool(pipeline.execute()[0])


def announce_accounts(
    client: redis.Redis, accounts: Mapping[str, Account], identities: Identities, served: str
) -> None:
    """Tell accounts' limits, whose key and quota they have, and that this worker, and whoever has the same ones, serves them.

    Args:
        client: Of the worker.
        accounts: By queue.
        identities: Whose they are.
        served: Names them.

    Raises:
        redis.RedisError: Redis is away.
    """
    pipeline = client.pipeline(transaction=False)
    every = list(accounts.items())
    for first in range(0, len(every), ANNOUNCED):
        part = every[first : first + ANNOUNCED]
        announcements: dict[Any, Any] = {queue: _told_of(account, identities.of(account)) for queue, account in part}
        pipeline.hset(keys.ACCOUNTS, mapping=announcements)
        pipeline.sadd(keys.served(served), *announcements)
    pipeline.expire(keys.served(served), SERVED_S)
    pipeline.execute()


@lru_cache(maxsize=20_000)
def _told_of(account: Account, identity: Identity) -> str:
    told = {
        "windows": [[window.limit, window.window_s, window.text] for window in account.windows],
        "batch_max": account.batch_max,
        "lease_s": account.lease_s,
        "max_queued": account.max_queued,
        "quota": identity.quota,
        "credential": identity.credential,
    }
    return json.dumps(told)
