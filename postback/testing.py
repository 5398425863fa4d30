"""A pytest plugin for projects that send events: nothing is sent, everything is collected.

::

    def test_a_sale_is_reported(postback_outbox):
        checkout(order)
        assert postback_outbox == [tgtrack.AddEvent(user_id="98765", event_type="sale")]

pytest loads it by itself where Postback is installed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from celery.utils import uuid

from postback._events.event import EventData
from postback._send.options import read_options
from postback._send.outgoing import check_message
from postback._send.producer import current
from postback._send.redirects import redirects
from postback.results import EventResult

__all__ = ["Outbox", "Sent", "collect", "postback_outbox"]


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
    """

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[Sent] = []

    def __call__(self, event: EventData, options: dict[str, Any]) -> EventResult:
        """Take one event. Wrong options fail as on a real send."""
        checked = read_options(event, options)
        check_message(event, checked)
        task_id = checked.task_id or uuid()
        self.sent.append(Sent(event, task_id, dict(options)))
        self.append(event)
        has_result = event.has_result and not checked.ignore_result
        return EventResult(task_id, app=current(event.provider).app, provider=event.provider, has_result=has_result)

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


@pytest.fixture
def postback_outbox() -> Iterator[Outbox]:
    """Events that the test sent, collected instead of sent."""
    with collect() as outbox:
        yield outbox
