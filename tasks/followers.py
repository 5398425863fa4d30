"""What follows an event: its result, ``link``, ``link_error``, chain and chord.

An event is not a Celery message when it is delivered. So an event with followers runs through
Celery's tracer, with its own id and its ruling already made. Celery then does what its users
expect.
"""

from __future__ import annotations

from typing import Any, Final

from celery import Celery, Task
from celery.app.trace import trace_task

from postback._events.event import EVENTS
from tasks.envelopes import Envelope
from tasks.rulings import Dead, Waiting

#: Attribute of the task request that carries a ruling.
RULED: Final = "postback_ruling"


def follow_up(app: Celery, hostname: str, envelope: Envelope) -> bool:
    """Publish what follows an event, and store its result or state for its caller.

    Args:
        app: The worker's app.
        hostname: The worker's node name.
        envelope: The event, with its ruling.

    Returns:
        False if it could not be published: the event must not settle as delivered (invariant I3).
    """
    ruling, event_class = envelope.ruling, EVENTS.get(envelope.task)
    if event_class is None or envelope.defect:
        return True
    final = not isinstance(ruling, Waiting)
    if not event_class.has_result and not (final and envelope.has_followers):
        return True
    if event_class.has_result and envelope.duplicate_of == envelope.id:
        # This is a second copy of a look-up. Its result would replace the first one's.
        return True
    task: Task[Any, Any] = app.tasks[envelope.task]
    properties = envelope.document["properties"]
    request: dict[str, Any] = {
        **envelope.for_celery,
        **(envelope.embed if final else {}),
        "properties": {},
        "delivery_info": {"priority": properties.get("priority"), "redelivered": False},
        "hostname": hostname,
        RULED: ruling,
    }
    traced = trace_task(task, envelope.id, (), {}, request, app=app)
    # A dead letter is a FAILURE in Celery, and a waiting event is a RETRY. With any other ruling
    # an exception means that publishing failed.
    return traced.info is None or isinstance(ruling, Waiting | Dead)
