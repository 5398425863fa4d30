"""What stands in a queue, as a worker would read it."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass
from typing import Any

import redis

from postback.wire import keys


@dataclass(frozen=True)
class Message:
    """One Celery message."""

    headers: dict[str, Any]
    kwargs: dict[str, Any]
    options: dict[str, Any]

    @property
    def id(self) -> str:
        """Its event's id."""
        return str(self.headers["id"])

    @property
    def key(self) -> str | None:
        """Its idempotency key, which stands in it with its hash."""
        key = self.headers.get("postback_key_text")
        assert self.headers.get("postback_key") == (None if key is None else hashed(key))
        return key


def messages(client: redis.Redis, queue: str = "tgtrack.main") -> list[Message]:
    """The messages of a queue in the order in which they go."""
    found = []
    for name in keys.priority_lists(queue):
        for raw in reversed(client.lrange(name, 0, -1)):
            parsed = json.loads(raw)
            _, kwargs, options = json.loads(base64.b64decode(parsed["body"]))
            found.append(Message(parsed["headers"], kwargs, options))
    return found


def hashed(key: str) -> str:
    """A key as it travels."""
    return hashlib.sha256(key.encode()).hexdigest()
