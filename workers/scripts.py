"""The governor's Lua scripts: one file per operation, ``common.lua`` in front of those that touch an account's keys."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import cache
from importlib.resources import files
from itertools import accumulate
from typing import Any, NamedTuple

import redis

from postback import keys


@cache
def _source(name: str) -> str:
    folder = files("workers") / "lua"
    text = (folder / f"{name}.lua").read_text(encoding="utf-8")
    if name == "scan":
        return text
    return (folder / "common.lua").read_text(encoding="utf-8") + text


#: Told of each run: the script's name and its seconds, the way to Redis and back included. None unless metrics are served.
on_run: Callable[[str, float], None] | None = None


class Script:
    """A script by its SHA; loads itself again when the server has forgotten it (restart, failover, ``SCRIPT FLUSH``)."""

    def __init__(self, name: str) -> None:
        """Name it; nothing is sent until the first call."""
        self.name = name
        self.source = _source(name)
        self._sha = ""

    def __call__(self, client: redis.Redis, script_keys: list[str], args: list[Any]) -> Any:
        """Run it.

        Raises:
            redis.RedisError: As the client does. After a connection error the script may or may not have run.
        """
        if not self._sha:
            self._sha = str(client.script_load(self.source))
        begun = time.perf_counter()
        run: Any = client.execute_command
        try:
            return run("EVALSHA", self._sha, len(script_keys), *script_keys, *args)
        except redis.exceptions.NoScriptError:
            self._sha = str(client.script_load(self.source))
            return run("EVALSHA", self._sha, len(script_keys), *script_keys, *args)
        finally:
            if on_run is not None:
                on_run(self.name, time.perf_counter() - begun)


class TakenGrant(NamedTuple):
    """One grant in TAKE's reply."""

    id: str
    #: Microseconds of the Redis clock.
    granted_us: int
    #: A half of a refused batch.
    group: bool
    raws: list[bytes]
    #: Messages of the other half.
    siblings: list[bytes]
    #: For each of its own messages the id of the event that owns its idempotency key, or ''.
    owners: list[bytes]
    #: Which of its own messages somebody has revoked, from 1.
    revoked: list[int]


def taken_grants(reply: list[Any]) -> Iterator[TakenGrant]:
    """The grants in TAKE's reply."""
    for at in range(3, len(reply), 5):
        grant_id, texts, numbers, owners, revoked = reply[at : at + 5]
        granted_us, group, own, *lengths = map(int, numbers.split())
        raws = [texts[end - length : end] for length, end in zip(lengths, accumulate(lengths), strict=True)]
        yield TakenGrant(
            grant_id.decode(), granted_us, bool(group), raws[:own], raws[own:], owners or [b""] * own, revoked
        )


@cache
def account_keys(queue: str, notices: bool = False) -> tuple[str, ...]:
    """KEYS of every account script, in the order of ``common.lua``.

    Args:
        queue: The account's.
        notices: A hook hears of dead letters.
    """
    provider = queue.partition(".")[0]
    return (
        *keys.priority_lists(queue),
        keys.delayed(queue),
        keys.held(queue),
        keys.groups(queue),
        keys.meta(queue),
        keys.ring(queue),
        keys.flight(queue),
        keys.unacked(queue),
        keys.idempotency(queue),
        keys.idempotency_ends(queue),
        keys.dead(provider),
        keys.REVOKED,
        *([keys.dead_notices(provider)] if notices else []),
    )


@cache
def wake_keys(queue: str) -> tuple[str, ...]:
    """Keys that a new event creates: looked at often."""
    return (*keys.priority_lists(queue), keys.groups(queue))


@cache
def timed_keys(queue: str) -> tuple[str, ...]:
    """Keys that hold something for later, which this process may not know of: looked at once a second."""
    return (keys.delayed(queue), keys.held(queue), keys.flight(queue))
