"""What hangs on an event that travels in a batch: its ``link``, ``link_error``, chain and chord.

A batch is one Celery message, so Celery would follow up the batch and not its events. An event that something hangs on is therefore run through
Celery's own tracer once more, with its own id and its ruling already made: whatever a Celery user expects of ``link`` happens, because Celery
does it.
"""

from __future__ import annotations

from typing import Any, Final

from celery import Celery, Task
from celery.app.trace import trace_task

from postback.events import EVENTS
from tasks.envelopes import Envelope
from tasks.rulings import Dead, Waiting

#: Attribute of the task request that carries a ruling.
RULED: Final = "postback_ruling"


def follow_up(app: Celery, envelope: Envelope) -> bool:
    """Publish what hangs on one event of a batch.

    Args:
        app: The worker's app.
        envelope: The event, with its ruling.

    Returns:
        False if it could not be published: the event must not settle as delivered (invariant I3).
    """
    ruling = envelope.ruling
    if isinstance(ruling, Waiting) or not envelope.has_followers or envelope.task not in EVENTS:
        return True
    task: Task[Any, Any] = app.tasks[envelope.task]
    properties = envelope.document["properties"]
    request: dict[str, Any] = {
        **envelope.for_celery,
        **envelope.embed,
        "properties": {},
        "delivery_info": {"priority": properties.get("priority"), "redelivered": False},
        "hostname": task.request.hostname,
        RULED: ruling,
    }
    traced = trace_task(task, envelope.id, (), {}, request, app=app)
    # A dead letter is a FAILURE to Celery, as it should be; anything else that failed is the publishing.
    return traced.info is None or isinstance(ruling, Dead)
