"""The state of one Redis, as far as it matters to events."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import redis

__all__ = ["RedisStatus", "redis_status"]


@dataclass(frozen=True, kw_only=True)
class RedisStatus:
    """One Redis and what it is set up for."""

    #: Without user and password.
    url: str
    providers: tuple[str, ...]
    used_bytes: int
    #: 0: no limit of its own.
    max_bytes: int
    policy: str
    append_only: bool
    version: str

    @property
    def memory_share(self) -> float | None:
        """Used part of its limit, 0..1; None without a limit."""
        return self.used_bytes / self.max_bytes if self.max_bytes else None

    def as_json(self) -> dict[str, Any]:
        """For machines."""
        return {
            "url": self.url,
            "providers": list(self.providers),
            "used_memory_bytes": self.used_bytes,
            "max_memory_bytes": self.max_bytes or None,
            "memory_share": None if self.memory_share is None else round(self.memory_share, 4),
            "maxmemory_policy": self.policy,
            "append_only": self.append_only,
            "version": self.version,
        }


def redis_status(client: redis.Redis, providers: Iterable[str] = (), *, url: str = "") -> RedisStatus:
    """Ask Redis for its state.

    Args:
        client: Any.
        providers: Whose events it carries.
        url: What to call it, without a password.

    Raises:
        redis.RedisError: As the client does.
    """
    info: dict[str, Any] = {}
    for section in ("server", "memory", "persistence"):
        info |= client.info(section)
    return RedisStatus(
        url=url,
        providers=tuple(providers),
        used_bytes=int(info.get("used_memory", 0)),
        max_bytes=int(info.get("maxmemory", 0)),
        policy=str(info.get("maxmemory_policy", "")),
        append_only=bool(info.get("aof_enabled", 0)),
        version=str(info.get("valkey_version") or info.get("redis_version") or ""),
    )
