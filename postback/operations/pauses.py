"""Pausing and resuming an account. Both act in Redis, so on all of its workers at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import redis

from postback.operations import queues
from postback.operations.actions import record_text
from postback.wire import keys, schedule
from postback.wire.scripts import Script

__all__ = ["Paused", "Resumed", "pause", "resume"]

#: Reason of a pause that a person asked for.
OPERATOR: Final = "operator"

_pause = Script("postback.operations", "pause")
_resume = Script("postback.operations", "resume")


@dataclass(frozen=True, slots=True)
class Paused:
    """What a pause did.

    Attributes:
        changed: False if the account already waited for somebody.
        reason: In that case why it waited; else empty.
    """

    queue: str
    changed: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Resumed:
    """What a resume did.

    Attributes:
        was_paused: Whether it was paused.
        reason: Why it was: ``operator``, ``credentials``, ``outage``, ``quota``, ``retrying``; else
            empty.
        released: Events that had been held aside in a run of failures. The next TAKE puts them to
            the front.
    """

    queue: str
    was_paused: bool
    reason: str
    released: int


def pause(client: redis.Redis, queue: str, detail: str = "", *, who: str | None = None) -> Paused:
    """Pause an account until :func:`resume`. Its events stay queued and no quota is used.

    Requests on the wire are not stopped. A pause for a time (quota, outage) becomes one without
    end.

    Args:
        client: Replies as bytes.
        queue: ``tgtrack.main``.
        detail: A few words for whoever looks.
        who: Who pauses it, for the journal; None: the user of this process.

    Raises:
        redis.RedisError: As the client does. The account may be paused or not; calling again is
            safe.
    """
    words, provider = detail[:200], queue.partition(".")[0]
    args = [OPERATOR, words, record_text("pause", queue, who, detail=words)]
    changed, reason = _pause(client, [keys.meta(queue), keys.journal(provider)], args)
    return Paused(queue, bool(changed), reason.decode())


def resume(client: redis.Redis, queue: str, *, who: str | None = None) -> Resumed:
    """End an account's pause, whatever its reason.

    One request goes first, the others after its good answer.

    Args:
        client: Replies as bytes.
        queue: ``tgtrack.main``.
        who: Who resumes it, for the journal; None: the user of this process.

    Raises:
        redis.RedisError: As the client does. Calling again is safe.
    """
    places = [keys.meta(queue), keys.held(queue), keys.journal(queue.partition(".")[0])]
    was_paused, reason, released, shared = _resume(client, places, [record_text("resume", queue, who)])
    if shared:
        schedule.due(client, _sharing(client, queue), "changed")
    schedule.due(client, [queue], "ask")
    return Resumed(queue, bool(was_paused), reason.decode(), int(released))


def _sharing(client: redis.Redis, queue: str) -> list[str]:
    """Accounts that share a key or a quota with this one, as workers have announced it."""
    accounts = queues.announced(client, [queue.partition(".")[0]])
    own = accounts.get(queue)
    if own is None:
        return []
    shared = {own.quota, own.credential} - {""}
    return [name for name, account in accounts.items() if shared & {account.quota, account.credential}]
