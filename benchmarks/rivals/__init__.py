"""What every rival's script shares: the event and where it goes.

:mod:`benchmarks.rivals.__main__` has the commands.

The scripts import nothing of Postback and run in environments of their own, made from the
requirements in their first lines (PEP 723). Each defines ``WORKER``, module and arguments that
start one worker for ``AT_ONCE`` events at once, and ``send``, which enqueues one event; or ``run``,
which posts ``EVENTS`` events without a queue.
"""

from __future__ import annotations

import os
from typing import Any, Final

REDIS_URL: Final = os.environ.get("BENCH_REDIS_URL", "redis://127.0.0.1:6379/0")
URL: Final = os.environ.get("BENCH_PROVIDER_URL", "") + "/v1/KEY/add_event"
BATCH_URL: Final = os.environ.get("BENCH_PROVIDER_URL", "") + "/v1/customEventBatch/?idApp=666"
AT_ONCE: Final = os.environ.get("BENCH_AT_ONCE", "8")
#: How many events those post that have no queue to read from.
EVENTS: Final = int(os.environ.get("BENCH_EVENTS", "0"))


def event(number: int) -> dict[str, Any]:
    """The event of single posts; ``number`` tells it from the others at the provider."""
    return {"user_id": str(number), "event_type": "sale", "amount": 1500.0, "date": 1795000000}


def batch_event(number: int) -> dict[str, Any]:
    """The event of batches."""
    params = {"level": "2", "world": "forest"}
    return {
        "customUserId": str(number),
        "customEventName": "levelUp",
        "customEventParams": params,
        "eventTimestamp": 1795000000,
    }
