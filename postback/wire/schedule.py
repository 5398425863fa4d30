"""The schedule in Redis: which queues have something to do, and when (ADR 29)."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Any, Final, Literal

import redis

from postback.wire import keys
from postback.wire.scripts import Script

#: Why a queue is due: it was sent to; somebody came by and found something in it; it is to be asked
#: whatever stands in the schedule; its limits have changed.
Why = Literal["sent", "found", "ask", "changed"]
#: Longest wait that TAKE plans; ``workers/governor/lua/include/schedule.lua`` has it too.
LONGEST_MS: Final = 60_000
#: Queues that one call makes due.
MOST_QUEUES: Final = 500

_due = Script("postback.wire", "due")


def due(client: redis.Redis, queues: Iterable[str], why: Why) -> None:
    """Make queues due and wake the workers that wait.

    Nothing depends on it for good: what stands in no schedule is found within a second.

    Args:
        client: Replies as bytes or text.
        queues: ``tgtrack.main``; of any providers.
        why: Why they are.

    Raises:
        redis.RedisError: As the client does.
    """
    for provider, some in by_provider(queues).items():
        for first in range(0, len(some), MOST_QUEUES):
            part = some[first : first + MOST_QUEUES]
            _due(client, [keys.schedule(provider), keys.timers(provider)], [keys.wake(provider), why, *part])


def sent(pipeline: Any, queues: Iterable[str]) -> list[str]:
    """The same for a producer, which runs no scripts: one ZADD for each provider, whose reply is above 0 if somebody is to be woken.

    Args:
        pipeline: Is executed by the caller.
        queues: That it pushes to.

    Returns:
        The providers.
    """
    grouped = by_provider(queues)
    for provider, some in grouped.items():
        # 0: since ever. The next look writes the time, by Redis' clock.
        pairs = [part for queue in some for part in (0, queue)]
        pipeline.execute_command("ZADD", keys.schedule(provider), "NX", *pairs)
    return list(grouped)


def wake(client: Any, providers: Iterable[str]) -> None:
    """Wake the workers of these providers. If that fails, they look within a second."""
    with suppress(redis.RedisError):
        for provider in providers:
            client.publish(keys.wake(provider), "")


def by_provider(queues: Iterable[str]) -> dict[str, list[str]]:
    """Provider -> its queues among these, in their order."""
    found: dict[str, list[str]] = {}
    for queue in queues:
        found.setdefault(queue.partition(".")[0], []).append(queue)
    return found
