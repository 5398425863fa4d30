"""Lua scripts: one file per operation, joined with what it includes, and run by their SHA.

A line ``-- @include name`` stands for the file of that name in the folder ``include`` beside the script, if that is not in sight already.
A line that is indented stands in a function, and so does what it includes. Redis makes every function anew in each run of
a script, but those in a rare one only when that one runs.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from functools import cache, cached_property
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any, Final

import redis

#: Told of each run: the script's name and its seconds, the way to Redis and back included.
Observer = Callable[[str, float], None]

_INCLUDE: Final = re.compile(r"^( *)-- @include (\w+)\n", re.MULTILINE)


class CircularInclude(Exception):
    """A Lua file includes itself, perhaps by way of others."""


def joined(folder: Traversable, name: str) -> str:
    """A script's text with its includes in it.

    Args:
        folder: Holds ``<name>.lua`` and the folder ``include``.
        name: The operation.

    Raises:
        CircularInclude: A file includes itself.
        FileNotFoundError: There is no such script, or no such file to include.
    """

    def text_of(file: Traversable, way: tuple[str, ...], in_sight: set[str]) -> str:
        def include(line: re.Match[str]) -> str:
            indent, wanted = line.groups()
            if wanted in way:
                raise CircularInclude(" > ".join((*way, wanted)))
            if wanted in in_sight:
                return ""
            inside = set(in_sight) if indent else in_sight
            inside.add(wanted)
            return text_of(folder / "include" / f"{wanted}.lua", (*way, wanted), inside)

        return _INCLUDE.sub(include, file.read_text(encoding="utf-8"))

    return text_of(folder / f"{name}.lua", (), set())


@cache
def source(package: str, name: str) -> str:
    """The whole text of a package's script, from its folder ``lua``."""
    return joined(files(package) / "lua", name)


class Script:
    """A script by its SHA; loaded at the first call, and again when the server has forgotten it (restart, failover)."""

    def __init__(self, package: str, name: str, observe: Observer | None = None) -> None:
        """Nothing is read or sent before the first call.

        Args:
            package: Holds the folder ``lua``, such as ``postback.operations``.
            name: The operation: the file's name without ``.lua``.
            observe: Told of each run, in the caller's thread.
        """
        self.package, self.name = package, name
        self._observe = observe
        self._sha = ""

    @cached_property
    def source(self) -> str:
        """Its whole text."""
        return source(self.package, self.name)

    def __call__(self, client: redis.Redis, keys: Sequence[str], args: Sequence[Any] = ()) -> Any:
        """Run it.

        Raises:
            redis.RedisError: As the client does. After a lost connection the script may or may not have run.
        """
        begun = time.perf_counter()
        try:
            return client.evalsha(self.sha(client), len(keys), *keys, *args)
        except redis.exceptions.NoScriptError:
            self.load(client)
            return client.evalsha(self._sha, len(keys), *keys, *args)
        finally:
            if self._observe is not None:
                self._observe(self.name, time.perf_counter() - begun)

    def sha(self, client: redis.Redis) -> str:
        """Its SHA; the server has heard of it once.

        Raises:
            redis.RedisError: As the client does.
        """
        return self._sha or self.load(client)

    def load(self, client: redis.Redis) -> str:
        """Make the server know it; returns its SHA.

        Raises:
            redis.RedisError: As the client does.
        """
        sha: Any = client.script_load(self.source)
        self._sha = sha.decode() if isinstance(sha, bytes) else str(sha)
        return self._sha


def named(reply: Sequence[Any]) -> dict[str, Any]:
    """A reply ``[name, value, ...]`` of a client that does not decode, by name."""
    return {reply[at].decode(): reply[at + 1] for at in range(0, len(reply), 2)}
