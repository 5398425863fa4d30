"""The operators' Lua scripts: one file per operation in ``postback/lua``."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from typing import Any

import redis


class Script:
    """A script by its SHA; loaded at the first call, and again when the server has forgotten it."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._source = ""
        self._sha = ""

    def __call__(self, client: redis.Redis, keys: Sequence[str], args: Sequence[Any] = ()) -> Any:
        """Run it.

        Raises:
            redis.RedisError: As the client does. After a lost connection the script may or may not have run.
        """
        if not self._sha:
            self.load(client)
        try:
            return client.evalsha(self._sha, len(keys), *keys, *args)
        except redis.exceptions.NoScriptError:
            self.load(client)
            return client.evalsha(self._sha, len(keys), *keys, *args)

    def load(self, client: redis.Redis) -> str:
        """Make the server know it; returns its SHA.

        Raises:
            redis.RedisError: As the client does.
        """
        if not self._source:
            self._source = (files("postback") / "lua" / f"{self._name}.lua").read_text(encoding="utf-8")
        sha = client.script_load(self._source)
        self._sha = sha.decode() if isinstance(sha, bytes) else str(sha)
        return self._sha


def redis_now_ms(client: redis.Redis) -> float:
    """The one clock: milliseconds of the epoch by Redis.

    Raises:
        redis.RedisError: As the client does.
    """
    seconds, micros = client.time()
    return float(seconds * 1000 + micros / 1000)
