"""Lua scripts: one file per operation, joined with what it includes, and run by their SHA.

A line ``-- @include name`` stands for the file of that name in the folder ``include`` beside the
script. A file that is in scope already is not included again. An indented line is inside a
function, and its includes are then local to that function: Redis makes every function anew in each
run of a script, but an inner function only when the outer one runs.
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

__all__ = ["CircularInclude", "Observer", "Script", "joined", "named"]

#: Called after each run with the script's name and its seconds, the round trip included.
Observer = Callable[[str, float], None]

_INCLUDE: Final = re.compile(r"^( *)-- @include (\w+)\n", re.MULTILINE)


class CircularInclude(Exception):
    """A Lua file includes itself, directly or through others."""


def joined(folder: Traversable, name: str) -> str:
    """A script's text with its includes in it.

    Args:
        folder: Holds ``<name>.lua`` and the folder ``include``.
        name: The operation.

    Raises:
        CircularInclude: A file includes itself.
        FileNotFoundError: There is no such script, or no such file to include.
    """

    def text_of(file: Traversable, path: tuple[str, ...], in_scope: set[str]) -> str:
        def include(line: re.Match[str]) -> str:
            indent, wanted = line.groups()
            if wanted in path:
                raise CircularInclude(" > ".join((*path, wanted)))
            if wanted in in_scope:
                return ""
            scope = set(in_scope) if indent else in_scope
            scope.add(wanted)
            return text_of(folder / "include" / f"{wanted}.lua", (*path, wanted), scope)

        return _INCLUDE.sub(include, file.read_text(encoding="utf-8"))

    return text_of(folder / f"{name}.lua", (), set())


@cache
def source(package: str, name: str) -> str:
    """The whole text of a package's script, from its folder ``lua``."""
    return joined(files(package) / "lua", name)


class Script:
    """A script that is called by its SHA.

    It is loaded at the first call, and again if the server has lost it (restart, failover).
    """

    def __init__(self, package: str, name: str, observe: Observer | None = None) -> None:
        """Name the script. Nothing is read or sent before the first call.

        Args:
            package: Holds the folder ``lua``, such as ``postback.operations``.
            name: The operation: the file's name without ``.lua``.
            observe: Called after each run, in the caller's thread.
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
            redis.RedisError: As the client does. If the connection was lost, the script may have
                run.
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
        """Its SHA. The server has had the script at least once.

        Raises:
            redis.RedisError: As the client does.
        """
        return self._sha or self.load(client)

    def load(self, client: redis.Redis) -> str:
        """Load it into the server; returns its SHA.

        Raises:
            redis.RedisError: As the client does.
        """
        sha: Any = client.script_load(self.source)
        self._sha = sha.decode() if isinstance(sha, bytes) else str(sha)
        return self._sha


def named(reply: Sequence[Any]) -> dict[str, Any]:
    """A reply ``[name, value, …]`` as a dict. The client must not decode."""
    return {reply[at].decode(): reply[at + 1] for at in range(0, len(reply), 2)}
