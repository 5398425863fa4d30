"""Task events for the single events of a batch, so that Flower shows each under its own id and state.

Celery tells Flower of the messages that it runs; a batch is one message. Dead letters of a batch, its retries and its deliveries are told here.
"""

from __future__ import annotations

from typing import Any

from tasks.delivery import Fate, Report
from tasks.grants import Envelope, Grant

_dispatcher: Any = None


def use(dispatcher: Any) -> None:
    """Send through this ``celery.events.EventDispatcher`` from now on; None for none."""
    global _dispatcher
    _dispatcher = dispatcher


def observe(grant: Grant, report: Report) -> None:
    """Tell of each event of a batch."""
    dispatcher = _dispatcher
    if len(grant.envelopes) < 2 or dispatcher is None or not dispatcher.enabled:
        return
    for envelope, fate in zip(grant.envelopes, report.fates, strict=True):
        if envelope.id and not envelope.defect:
            _tell(dispatcher, envelope, fate, report.elapsed_s)


def _tell(dispatcher: Any, envelope: Envelope, fate: Fate, elapsed_s: float) -> None:
    """One task event that says it all: monitors take a task's name from any event that has it."""
    headers = envelope.headers
    about = {
        "uuid": envelope.id,
        "name": envelope.task,
        "args": "()",
        "kwargs": str(headers.get("kwargsrepr", "")),
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
