"""Sends a task event for each event, so that Flower shows its id, state and reason.

Celery sends task events for the messages that it runs. It runs no message for an event.
"""

from __future__ import annotations

import base64
import json
import math
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable
from typing import Any, Final

import redis

from config.accounts import Account
from postback._events.event import EVENTS
from tasks.delivery import Report
from tasks.envelopes import Envelope
from tasks.rulings import Dead, Ruling, Waiting
from workers.observe.sentences import failed, waits

#: A message with an empty list of task events. Whoever receives it listens.
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
#: Name of the row of a message that is no event of ours.
REFUSED_TASK: Final = "postback.refused"
#: Most characters of an event's arguments in Flower.
MAX_SHOWN: Final = 1000
#: Most rows that are kept while there is no connection.
MOST_GATHERED: Final = 50_000
#: Seconds after a new connection until the rows gathered without one are sent.
AFTER_LOSS_S: Final = 3.0
#: Seconds for which rows are kept although no monitor listens: after a new connection, and after a
#: monitor listened. Redis may have cut off the monitor, too.
MONITOR_BACK_S: Final = 30.0
#: Most rows kept for that: the latest.
MOST_KEPT: Final = 200
#: Seconds between two checks for a monitor meanwhile. All rows between them are in memory.
LOOK_FOR_MONITOR_S: Final = 0.5
#: Seconds for which rows are gathered.
GATHER_S: Final = 0.1
#: Most rows in one message.
MOST_IN_MESSAGE: Final = 250

#: An event's report, the event, and its ruling.
Row = tuple[Report, Envelope, Ruling]


class Listeners:
    """Finds out whether a monitor (Flower) listens for task events."""

    def __init__(self, client: redis.Redis) -> None:
        """Ask over ``client``."""
        self._client = client
        self._channel = f"/{client.connection_pool.connection_kwargs.get('db') or 0}.celeryev/task.multi"

    def __call__(self) -> bool:
        """Whether one listens. If Redis is away, the answer is yes."""
        try:
            return int(self._client.publish(self._channel, NO_EVENTS)) > 0
        except redis.RedisError:
            return True


class Rows:
    """The rows of one worker. Any thread."""

    def __init__(self, account: Callable[[str], Account | None]) -> None:
        """It has no dispatcher yet.

        Args:
            account: The account of a queue; None if the accounts file no longer has it.
        """
        self._account = account
        self._dispatcher: Any = None
        self._listened: Callable[[], bool] | None = None
        self._later: Callable[[float, Callable[[], None]], Any] | None = None
        self._gathered: deque[Row] = deque(maxlen=MOST_GATHERED)
        self._armed = False
        #: When a monitor last listened, or may have (monotonic).
        self._listened_s = -math.inf
        self._sending = threading.Lock()

    def use(
        self,
        dispatcher: Any,
        listened: Callable[[], bool] | None = None,
        later: Callable[[float, Callable[[], None]], Any] | None = None,
    ) -> None:
        """Send through this ``celery.events.EventDispatcher`` from now on.

        With ``listened`` and ``later`` rows are gathered, and dropped if nobody listens: they are a
        fifth of the work on a batch. After a lost connection they wait until monitors are likely to
        be connected again.

        Args:
            dispatcher: The current connection's; None without a connection: rows are gathered.
            listened: Whether a monitor listens now.
            later: Runs a function in the event loop after some seconds. Any thread.
        """
        if dispatcher is not None:
            # Rows are sent by :meth:`flush`, not at each turn of Celery's loop.
            dispatcher.buffer_limit, dispatcher.on_send_buffered = MOST_IN_MESSAGE, None
            self._listened_s = time.monotonic()
        self._dispatcher, self._listened, self._later = dispatcher, listened, later
        self._armed = bool(later and self._gathered)
        if later and self._armed:
            later(AFTER_LOSS_S, self.flush)

    def flush(self) -> None:
        """Send the gathered rows, if a monitor listens. In the event loop's thread."""
        self._armed = False
        dispatcher, listened = self._dispatcher, self._listened
        if dispatcher is None:
            return
        rows = [self._gathered.popleft() for _ in range(len(self._gathered))]
        if not rows or not dispatcher.enabled:
            return
        now = time.monotonic()
        if listened is None or listened():
            self._listened_s = now
            self._send(dispatcher, rows)
        elif self._later is not None and now - self._listened_s < MONITOR_BACK_S:
            self._gathered.extendleft(reversed(rows[-MOST_KEPT:]))
            self._armed = True
            self._later(LOOK_FOR_MONITOR_S, self.flush)

    def _send(self, dispatcher: Any, rows: list[Row]) -> None:
        with self._sending:
            for row in rows:
                self._send_row(dispatcher, *row)
            dispatcher.flush()

    def _send_row(self, dispatcher: Any, report: Report, envelope: Envelope, ruling: Ruling) -> None:
        """Send one task event. It is enough: monitors take a task's name from any task event."""
        headers, queue = envelope.headers, report.grant.queue
        about = {
            "uuid": envelope.id or str(uuid.uuid4()),
            "name": REFUSED_TASK if envelope.defect or envelope.task not in EVENTS else envelope.task,
            "kwargs": kwargs_shown(envelope, queue),
            "root_id": headers.get("root_id"),
            "retries": envelope.state.attempts,
        }
        if isinstance(ruling, Dead):
            dispatcher.send("task-failed", exception=failed(ruling), **about)
        elif isinstance(ruling, Waiting):
            account = self._account(queue)
            text = waits(report, envelope, ruling, account.max_attempts if account else None)
            dispatcher.send("task-retried", exception=text, **about)
        else:
            # Monitors keep what an earlier event said, and it does not wait any more.
            dispatcher.send(
                "task-succeeded", result=repr(ruling.text), runtime=report.elapsed_s, exception=None, **about
            )

    def observe(self, report: Report) -> None:
        """Make a row for each event of a grant."""
        grant, dispatcher = report.grant, self._dispatcher
        if dispatcher is not None and not dispatcher.enabled:
            return
        waiting: list[Row] = []
        for envelope in grant.envelopes:
            row = (report, envelope, envelope.ruling)
            is_event = bool(envelope.id and not envelope.defect)
            if dispatcher is not None and isinstance(envelope.ruling, Waiting) and is_event:
                waiting.append(row)
            elif is_event or isinstance(envelope.ruling, Dead):
                self._gathered.append(row)
        if waiting:
            # Sent before the grant is settled. Another worker may send the event's end a moment
            # later, and a monitor believes the last row.
            self._send(dispatcher, waiting)
        if self._later is None or dispatcher is None:
            self.flush()
        elif not self._armed:
            self._armed = True
            self._later(GATHER_S, self.flush)


def kwargs_shown(envelope: Envelope, queue: str) -> str:
    """An event's arguments for Flower: the text that the SDK wrote for it.

    Another Celery client writes the arguments themselves, with a person's data.
    """
    if "postback_at" in envelope.headers:
        return str(envelope.headers.get("kwargsrepr", ""))[:MAX_SHOWN]
    return f"<{envelope.task} of {queue}>"
