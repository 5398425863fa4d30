"""What enqueueing costs: ``.delay()`` against stock Celery's, and ``send_many`` against ``.delay()`` in a loop, interleaved.

``python -m benchmarks.producing [EVENTS] [ROUNDS]``.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from typing import Any, Final

import postback
from postback import tgtrack
from tests.servers import RedisServer

EVENT: Final[dict[str, Any]] = {
    "user_id": "987654321",
    "event_type": "sale",
    "amount": 1500.0,
    "labels": [{"name": "manager", "value": "Jane"}],
}


def per_event_us(work: Callable[[], None], events: int) -> float:
    """Microseconds an event."""
    begun = time.perf_counter()
    work()
    return (time.perf_counter() - begun) / events * 1e6


def main(events: int = 500, rounds: int = 7) -> None:
    """Print the medians and their ratios."""
    with RedisServer() as broker:
        from celery import Celery

        app = Celery("stock", broker=broker.url, set_as_current=False)
        app.conf.update(task_ignore_result=True, task_default_queue="stock")

        @app.task(name="tgtrack.add_event")  # type: ignore[untyped-decorator]
        def add_event(account: str, event: dict[str, Any]) -> None:
            """Nothing: it is only sent."""

        postback.configure(broker_url=broker.url, accounts={"tgtrack": ["main"]})

        def stock() -> None:
            for _ in range(events):
                add_event.delay(account="main", event=EVENT)

        def delay() -> None:
            for _ in range(events):
                tgtrack.AddEvent(**EVENT).delay()

        def many() -> None:
            postback.send_many([tgtrack.AddEvent(**EVENT) for _ in range(events)])

        ways = {"stock .delay()": stock, ".delay()": delay, "send_many": many}
        times: dict[str, list[float]] = {name: [] for name in ways}
        for number in range(rounds + 1):
            for name, work in ways.items():
                us = per_event_us(work, events)
                if number:  # the first round warms up
                    times[name].append(us)
    median = {name: statistics.median(values) for name, values in times.items()}
    for name, us in median.items():
        print(f"{name:<15} {us:6.0f} us an event, construction and validation included")
    print(f".delay() costs {median['.delay()'] / median['stock .delay()']:.2f} x stock Celery's")
    print(f"send_many is {median['.delay()'] / median['send_many']:.1f} x faster an event than .delay() in a loop")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
