"""Pausing and resuming an account. Both act on Redis, hence on all of its workers at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import redis

from postback.operations import queues
from postback.wire import keys, schedule
from postback.wire.scripts import Script

#: Reason of a pause that a person asked for.
OPERATOR: Final = "operator"

_pause = Script("postback.operations", "pause")
_resume = Script("postback.operations", "resume")


@dataclass(frozen=True, slots=True)
class Paused:
    """What a pause did.

    Attributes:
        changed: False if the account already waited for somebody.
        reason: Why it did, then.
    """

    queue: str
    changed: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Resumed:
    """What a resume did.

    Attributes:
        was_paused: Whether it was paused.
        reason: Why it was: ``operator``, ``credentials``, ``outage``, ``quota``, ``retrying``; else empty.
        released: Events that had been held aside in a run of failures; the next worker that looks puts them to the front.
    """

    queue: str
    was_paused: bool
    reason: str
    released: int


def pause(client: redis.Redis, queue: str, detail: str = "") -> Paused:
    """Pause an account until :func:`resume`; its events stay queued and no token is spent.

    A request on the wire ends as it ends. A pause for a time (quota, outage) becomes one without end.

    Args:
        client: Replies as bytes.
        queue: ``tgtrack.main``.
        detail: A few words for whoever looks.

    Raises:
        redis.RedisError: As the client does; the pause may or may not have come through, and asking again is safe.
    """
    changed, reason = _pause(client, [keys.meta(queue)], [OPERATOR, detail[:200]])
    return Paused(queue, bool(changed), reason.decode())


def resume(client: redis.Redis, queue: str) -> Resumed:
    """End an account's pause, whatever its reason: one request goes first, the others when it was answered well.

    Raises:
        redis.RedisError: As the client does; asking again is safe.
    """
    was_paused, reason, released, shared = _resume(client, [keys.meta(queue), keys.held(queue)])
    if shared:
        schedule.due(client, _sharing(client, queue), "changed")
    schedule.due(client, [queue], "ask")
    return Resumed(queue, bool(was_paused), reason.decode(), int(released))


def _sharing(client: redis.Redis, queue: str) -> list[str]:
    """Accounts that share a key or a quota with this one, as workers have announced it."""
    told = queues.announced(client, [queue.partition(".")[0]])
    own = told.get(queue)
    if own is None:
        return []
    mine = {own.quota, own.credential} - {""}
    return [name for name, one in told.items() if mine & {one.quota, one.credential}]
