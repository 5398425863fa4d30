"""The schedule in Redis: which queues have something to do, and when (ADR 29)."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Any, Final, Literal

import redis

from postback.wire import keys
from postback.wire.scripts import Script

__all__ = ["LONGEST_MS", "Why", "by_provider", "due", "sent", "wake"]

#: Why a queue is due: an event was sent to it; a sweep found events in it; it must be asked
#: whatever the schedule says; its limits have changed.
Why = Literal["sent", "found", "ask", "changed"]
#: Longest wait that TAKE plans. ``workers/governor/lua/include/schedule.lua`` has the same number.
LONGEST_MS: Final = 60_000
#: Most queues that one call makes due.
MOST_QUEUES: Final = 500

_due = Script("postback.wire", "due")


def due(client: redis.Redis, queues: Iterable[str], why: Why) -> None:
    """Make queues due and wake the workers that wait.

    If this is lost, a sweep finds the queues within a second.

    Args:
        client: Replies as bytes or text.
        queues: ``tgtrack.main``; of any providers.
        why: Why they are due.

    Raises:
        redis.RedisError: As the client does.
    """
    for provider, names in by_provider(queues).items():
        for first in range(0, len(names), MOST_QUEUES):
            part = names[first : first + MOST_QUEUES]
            _due(client, [keys.schedule(provider), keys.timers(provider)], [keys.wake(provider), why, *part])


def sent(pipeline: Any, queues: Iterable[str]) -> list[str]:
    """Make queues due as a producer does, without a script: one ZADD for each provider.

    Args:
        pipeline: The ZADDs are added to it; the caller executes it. If a reply is above 0, the
            caller must wake the provider's workers.
        queues: Those that the pipeline pushes to.

    Returns:
        The providers, in the order of the ZADDs.
    """
    grouped = by_provider(queues)
    for provider, names in grouped.items():
        # 0 is always past. The next TAKE writes a time of Redis' clock.
        pairs = [part for name in names for part in (0, name)]
        pipeline.execute_command("ZADD", keys.schedule(provider), "NX", *pairs)
    return list(grouped)


def wake(client: Any, providers: Iterable[str]) -> None:
    """Wake the workers of these providers. If that fails, they ask within a second anyway."""
    with suppress(redis.RedisError):
        for provider in providers:
            client.publish(keys.wake(provider), "")


def by_provider(queues: Iterable[str]) -> dict[str, list[str]]:
    """Provider -> its queues among these, in their order."""
    grouped: dict[str, list[str]] = {}
    for queue in queues:
        grouped.setdefault(queue.partition(".")[0], []).append(queue)
    return grouped
