"""Task events for monitors (Flower): gathered, and sent only where somebody listens."""

from __future__ import annotations

from functools import partial
from typing import Any, Final

import redis

from workers.observe.rows import Listeners, Rows

#: Seconds for which task events are gathered into one message. Celery sends what there is at each turn
#: of its loop, which costs a seventh of a busy worker's time.
GATHER_EVENTS_S: Final = 0.1
#: Most task events in one message.
GATHERED_EVENTS: Final = 250


def send_rows(rows: Rows, client: redis.Redis, consumer: Any) -> None:
    """Send rows with a connection's consumer.

    Args:
        rows: To be sent.
        client: Asks whether anybody listens.
        consumer: Celery's.
    """
    loop = consumer.hub
    if loop is None:
        rows.use(consumer.event_dispatcher)
    else:
        rows.use(consumer.event_dispatcher, Listeners(client), partial(loop.call_soon, loop.call_later))


def gather_events(consumer: Any) -> None:
    """Make Celery's own task events wait for each other."""
    dispatcher = consumer.event_dispatcher
    if not dispatcher or not dispatcher.on_send_buffered:
        return
    send_now = dispatcher.on_send_buffered
    armed = False

    def flush() -> None:
        nonlocal armed
        armed = False
        send_now()

    def soon() -> None:
        nonlocal armed
        if not armed:
            armed = True
            consumer.hub.call_soon(consumer.hub.call_later, GATHER_EVENTS_S, flush)

    dispatcher.on_send_buffered = soon
    dispatcher.buffer_limit = GATHERED_EVENTS
