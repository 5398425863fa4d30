"""Task events that Celery does not send, so that Flower shows every event under its own id, with its state and its reason.

Celery tells Flower of the messages that it runs. A batch is one message: what became of each of its events is told here. So is what died without
having run: expired, revoked, buried by TAKE.
"""

from __future__ import annotations

import uuid
from typing import Any

from tasks.delivery import Fate, Report
from tasks.grants import Envelope, Grant
from tasks.task import REFUSED_TASK

_dispatcher: Any = None


def use(dispatcher: Any) -> None:
    """Send through this ``celery.events.EventDispatcher`` from now on; None for none."""
    global _dispatcher
    _dispatcher = dispatcher


def observe(grant: Grant, report: Report) -> None:
    """Tell of each event of a batch. A single one is told by Celery, which runs it."""
    if len(grant.envelopes) > 1:
        observe_closed(grant, report)


def observe_closed(grant: Grant, report: Report) -> None:
    """Tell of each event of a grant.

    Celery has told of a single one that is expired or revoked as REVOKED; a dead letter is a FAILURE with its reason, which comes after it.
    """
    dispatcher = _dispatcher
    if dispatcher is None or not dispatcher.enabled:
        return
    for envelope, fate in zip(grant.envelopes, report.fates, strict=True):
        if (envelope.id and not envelope.defect) or fate.kind == "dead":
            _tell(dispatcher, grant.queue, envelope, fate, report.elapsed_s)


def kwargs_shown(envelope: Envelope, queue: str) -> str:
    """What Flower may show of an event's arguments: what the SDK wrote for it.

    Another Celery client writes the arguments themselves, with the person's data in them.
    """
    if "postback_at" in envelope.headers:
        return str(envelope.headers.get("kwargsrepr", ""))
    return f"<{envelope.task} of {queue}>"


def _tell(dispatcher: Any, queue: str, envelope: Envelope, fate: Fate, elapsed_s: float) -> None:
    """One task event that says it all: monitors take a task's name from any event that has it."""
    headers = envelope.headers
    about = {
        "uuid": envelope.id or str(uuid.uuid4()),
        "name": REFUSED_TASK if envelope.defect or not envelope.task else envelope.task,
        "args": "()",
        "kwargs": kwargs_shown(envelope, queue),
        "root_id": headers.get("root_id"),
        "parent_id": headers.get("parent_id"),
        "retries": envelope.state.attempts,
    }
    if fate.kind == "dead":
        dispatcher.send("task-failed", exception=f"DeadLettered({fate.text!r})", traceback="", **about)
    elif fate.kind in ("retry", "wait"):
        dispatcher.send("task-retried", exception=f"Delayed({fate.text!r})", traceback="", **about)
    else:
        dispatcher.send("task-succeeded", result=repr(fate.text), runtime=elapsed_s, **about)
