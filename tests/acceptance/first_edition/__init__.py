"""What earlier editions have left in Redis, and a way to put it there again."""

from __future__ import annotations

import base64
import json
import struct
import time
from pathlib import Path
from typing import Any, Final

import redis

#: Made by ``capture.py`` in the first edition's own checkout.
FIRST_EDITION: Final = Path(__file__).parent / "first_edition.json"


def restore(client: redis.Redis, path: Path = FIRST_EDITION, *, as_of_now: bool = False) -> None:
    """Put a capture into Redis.

    Args:
        client: Replies as bytes.
        path: The capture.
        as_of_now: Move the times of the quota logs, so that it was captured just now.
    """
    captured = json.loads(path.read_text(encoding="utf-8"))
    later_ms = time.time() * 1000 - captured["at_ms"] if as_of_now else 0
    to: Any = client
    for key, entry in captured["keys"].items():
        value = [part if isinstance(part, float) else base64.b64decode(part) for part in entry["value"]]
        if entry["type"] == "list":
            to.rpush(key, *value)
        elif entry["type"] == "set":
            to.sadd(key, *value)
        elif entry["type"] == "zset":
            to.zadd(key, dict(zip(value[::2], value[1::2], strict=True)))
        elif entry["type"] == "hash":
            to.hset(key, mapping=dict(zip(value[::2], value[1::2], strict=True)))
        else:
            (log,) = value
            times = [at + later_ms if at else at for at in struct.unpack(f">{len(log) // 8}d", log)]
            to.set(key, struct.pack(f">{len(times)}d", *times))
