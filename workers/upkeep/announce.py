"""What producers and operators may know of a worker and its accounts; no credential is in it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from typing import Any, Final

import redis

from config.accounts import Account
from postback import keys

#: Accounts that one HSET announces.
ANNOUNCED: Final = 500


def announce(
    client: redis.Redis,
    accounts: Mapping[str, Account],
    worker: str,
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
        provider: Whose accounts it serves; "" for all.
        held: Requests that it holds.
        metrics: Where its metrics are, ``host:port``.

    Raises:
        redis.RedisError: Redis is away.
    """
    now_ms = int(time.time() * 1000)
    pipeline = client.pipeline(transaction=False)
    every = list(accounts.items())
    for first in range(0, len(every), ANNOUNCED):
        announcements: dict[Any, Any] = {
            queue: json.dumps(
                {
                    "at": now_ms,
                    "windows": [[window.limit, window.window_s, window.text] for window in account.windows],
                    "batch_max": account.batch_max,
                    "lease_s": account.lease_s,
                    "max_queued": account.max_queued,
                }
            )
            for queue, account in every[first : first + ANNOUNCED]
        }
        pipeline.hset(keys.ACCOUNTS, mapping=announcements)
    about = {"at": now_ms, "provider": provider, "pid": os.getpid(), "held": held, "metrics": metrics}
    pipeline.hset(keys.WORKERS, worker, json.dumps(about))
    pipeline.execute()
