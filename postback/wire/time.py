"""The one clock: Redis' own. No producer's and no worker's clock decides anything."""

from __future__ import annotations

import redis


def redis_now_ms(client: redis.Redis) -> float:
    """Milliseconds of the epoch by Redis.

    Raises:
        redis.RedisError: As the client does.
    """
    seconds, micros = client.time()
    return float(seconds * 1000 + micros / 1000)
