"""The schedule in Redis: which queues have something to do, and when (ADR 29)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, Literal

from postback import keys
from postback.wire.scripts import source

#: Why a queue is due: it was sent to; somebody came by and found something in it; it is to be asked
#: whatever stands in the schedule; its limits have changed.
Why = Literal["sent", "found", "ask", "changed"]
#: Queues that one call makes due.
MOST_QUEUES: Final = 500


def due(client: Any, queues: Iterable[str], why: Why) -> None:
    """Make queues due and wake the workers that wait.

    As one command for each provider, which a pipeline may hold. Nothing depends on it for good: what stands in no
    schedule is found within a second.

    Args:
        client: A client or a pipeline.
        queues: ``tgtrack.main``; of any providers.
        why: Why they are.

    Raises:
        redis.RedisError: As the client does.
    """
    by_provider: dict[str, list[str]] = {}
    for queue in queues:
        by_provider.setdefault(queue.partition(".")[0], []).append(queue)
    for provider, some in by_provider.items():
        for first in range(0, len(some), MOST_QUEUES):
            # EVAL, not EVALSHA: the text is short, and no reply has to be looked at.
            part = some[first : first + MOST_QUEUES]
            places = (keys.schedule(provider), keys.timers(provider), keys.wake(provider))
            client.execute_command("EVAL", source("postback", "due"), 2, *places, why, *part)
