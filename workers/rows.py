"""Task events that Celery does not send, so that Flower shows every event under its own id, with its state and its reason.

Celery tells Flower of the messages that it runs. A batch is one message: what became of each of its events is told here. So is what died without
having run: expired, revoked, buried by TAKE.
"""

from __future__ import annotations

import base64
import json
import uuid
from collections import deque
from collections.abc import Callable
from typing import Any, Final

import redis

from tasks.delivery import Fate, Report
from tasks.envelopes import Envelope
from tasks.grants import Grant
from tasks.task import REFUSED_TASK

#: A message with no events in it: what receives it, receives ours. Monitors read a list of events, here an empty one.
NO_EVENTS: Final = json.dumps(
    {
        "body": base64.b64encode(b"[]").decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {},
        "properties": {
            "body_encoding": "base64",
            "delivery_info": {"exchange": "celeryev", "routing_key": "task.multi"},
            "delivery_mode": 1,
            "delivery_tag": "postback",
            "priority": 0,
        },
    }
)
#: Most characters of what Flower shows of an event's arguments.
MAX_SHOWN: Final = 1000
#: Seconds for which rows are gathered.
GATHER_S: Final = 0.1


class Listeners:
    """Whether any monitor (Flower) listens for task events."""

    def __init__(self, client: redis.Redis) -> None:
        """Ask over ``client``."""
        self._client = client
        self._channel = f"/{client.connection_pool.connection_kwargs.get('db') or 0}.celeryev/task.multi"

    def __call__(self) -> bool:
        """Ask; if in doubt, somebody does."""
        try:
            return int(self._client.publish(self._channel, NO_EVENTS)) > 0
        except redis.RedisError:
            return True


_dispatcher: Any = None
_listened: Callable[[], bool] | None = None
_later: Callable[[float, Callable[[], None]], Any] | None = None
_gathered: deque[tuple[str, Envelope, Fate, float]] = deque()
_armed = False


def use(
    dispatcher: Any,
    listened: Callable[[], bool] | None = None,
    later: Callable[[float, Callable[[], None]], Any] | None = None,
) -> None:
    """Send through this ``celery.events.EventDispatcher`` from now on; None for none.

    With ``listened`` and ``later`` rows are gathered and, if nobody listens, dropped: they are a fifth of the work on a batch.

    Args:
        dispatcher: The current connection's.
        listened: Whether any monitor listens now.
        later: Runs a function in the event loop after some seconds; may be called from any thread.
    """
    global _dispatcher, _listened, _later, _armed
    _dispatcher, _listened, _later, _armed = dispatcher, listened, later, False


def flush() -> None:
    """Send what was gathered, if anybody listens. In the event loop's thread."""
    global _armed
    _armed = False
    rows = [_gathered.popleft() for _ in range(len(_gathered))]
    dispatcher = _dispatcher
    if not rows or dispatcher is None or not dispatcher.enabled or (_listened is not None and not _listened()):
        return
    for row in rows:
        _tell(dispatcher, *row)


def observe(grant: Grant, report: Report) -> None:
    """Tell of each event of a batch. A single one is told by Celery, which runs it."""
    if len(grant.envelopes) > 1:
        observe_closed(grant, report)


def observe_closed(grant: Grant, report: Report) -> None:
    """Tell of each event of a grant.

    Celery has told of a single one that is expired or revoked as REVOKED; a dead letter is a FAILURE with its reason, which comes after it.
    """
    global _armed
    dispatcher = _dispatcher
    if dispatcher is None or not dispatcher.enabled:
        return
    for envelope, fate in zip(grant.envelopes, report.fates, strict=True):
        if fate.kind in ("retry", "wait") and envelope.id and not envelope.defect:
            # At once: another worker may tell the event's end a moment later, and a monitor believes what comes last.
            _tell(dispatcher, grant.queue, envelope, fate, report.elapsed_s)
        elif (envelope.id and not envelope.defect) or fate.kind == "dead":
            _gathered.append((grant.queue, envelope, fate, report.elapsed_s))
    if _later is None:
        flush()
    elif not _armed:
        _armed = True
        _later(GATHER_S, flush)


def kwargs_shown(envelope: Envelope, queue: str) -> str:
    """What Flower may show of an event's arguments: what the SDK wrote for it.

    Another Celery client writes the arguments themselves, with the person's data in them.
    """
    if "postback_at" in envelope.headers:
        return str(envelope.headers.get("kwargsrepr", ""))[:MAX_SHOWN]
    return f"<{envelope.task} of {queue}>"


def _tell(dispatcher: Any, queue: str, envelope: Envelope, fate: Fate, elapsed_s: float) -> None:
    """One task event that says it all: monitors take a task's name from any event that has it."""
    headers = envelope.headers
    about = {
        "uuid": envelope.id or str(uuid.uuid4()),
        "name": REFUSED_TASK if envelope.defect or not envelope.task else envelope.task,
        "kwargs": kwargs_shown(envelope, queue),
        "root_id": headers.get("root_id"),
        "retries": envelope.state.attempts,
    }
    if fate.kind == "dead":
        dispatcher.send("task-failed", exception=f"DeadLettered({fate.text!r})", traceback="", **about)
    elif fate.kind in ("retry", "wait"):
        dispatcher.send("task-retried", exception=f"Delayed({fate.text!r})", traceback="", **about)
    else:
        dispatcher.send("task-succeeded", result=repr(fate.text), runtime=elapsed_s, **about)
