"""For the tests of projects that send events: nothing is sent, everything is collected.

::

    with collect() as outbox:
        checkout(order)
    outbox.assert_sent([tgtrack.AddEvent(user_id="98765", event_type="sale")])

pytest has the fixture ``postback_outbox`` for it (:mod:`postback.contrib.pytest`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from celery import states
from celery.exceptions import TimeoutError
from celery.utils import uuid

from postback._differences import in_lists
from postback._events.event import EventData
from postback._send.options import read_options
from postback._send.outgoing import check_message, later_result
from postback._send.redirects import redirects
from postback.results import EventResult

__all__ = ["Outbox", "Sent", "collect"]


@dataclass(frozen=True)
class Sent:
    """One send.

    Attributes:
        event: The event as it was made, without the time that a send fills in.
        id: The id that its caller got.
        options: The options it was sent with.
    """

    event: EventData
    id: str
    options: dict[str, Any] = field(default_factory=dict)


class Outbox(list[EventData]):
    """The events sent so far, in order. It compares with a plain list.

    Attributes:
        sent: The same events with their ids and options.
        answers: A look-up's class -> what ``get`` and ``aget`` return; an exception is raised.
            Without an answer they raise Celery's ``TimeoutError``, at once.
    """

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[Sent] = []
        self.answers: dict[type[EventData], Any] = {}

    def __call__(self, event: EventData, options: dict[str, Any]) -> EventResult:
        """Take one event. Wrong options fail as on a real send."""
        checked = read_options(event, options)
        check_message(event, checked)
        task_id = checked.task_id or uuid()
        self.sent.append(Sent(event, task_id, dict(options)))
        self.append(event)
        result = later_result(event, task_id, checked)
        if result.has_result:
            unanswered = TimeoutError(f"{event.title()} was collected, not sent, and has none of the outbox's answers")
            answer = self.answers.get(type(event), unanswered)
            state = states.FAILURE if isinstance(answer, Exception) else states.SUCCESS
            result._cache = {"status": state, "result": answer}  # Celery asks its backend no more
        return result

    def assert_sent(self, events: Iterable[EventData]) -> None:
        """Fail unless exactly these events were sent, in this order.

        It is for unittest. In pytest, ``assert outbox == events`` says the same.

        Raises:
            AssertionError: Others were sent. The text has the fields that differ, with their whole
                values.
        """
        if self != (expected := list(events)):
            _, *lines = in_lists(self, expected, ("sent", "expected"))
            raise AssertionError("\n".join(("other events were sent than expected:", *lines)))

    def clear(self) -> None:
        """Forget everything sent so far."""
        super().clear()
        self.sent.clear()


@contextmanager
def collect() -> Iterator[Outbox]:
    """Collect what is sent inside the block, in all threads, instead of sending it."""
    outbox = Outbox()
    before = redirects.set_sink(outbox)
    try:
        yield outbox
    finally:
        redirects.set_sink(before)
