"""A pytest plugin for projects that send events. pytest loads it where Postback is installed.

::

    def test_a_sale_is_reported(postback_outbox):
        checkout(order)
        assert postback_outbox == [tgtrack.AddEvent(user_id="98765", event_type="sale")]
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

import pytest

from postback._differences import in_list, in_lists, in_sets, in_values
from postback._events.event import EventData
from postback.testing import Outbox, Sent, collect

__all__ = ["postback_outbox", "pytest_assertrepr_compare"]


@pytest.fixture
def postback_outbox() -> Iterator[Outbox]:
    """Events that the test sent, collected instead of sent."""
    with collect() as outbox:
        yield outbox


def pytest_assertrepr_compare(op: str, left: object, right: object) -> list[str] | None:
    """Explain a failed ``==`` or ``in`` of events: an event's ``repr`` hides what differs.

    Returns:
        Lines for pytest; None for everything that is not about events.
    """
    sides = ("expected", "sent") if isinstance(right, Outbox) else ("left", "right")
    if isinstance(left, Outbox):
        sides = ("sent", "expected")
    match op, left, right:
        case "==", list(), list() if _are_events(left, right):
            return in_lists(left, right, sides)
        case "==", set() | frozenset(), set() | frozenset() if _are_events(left, right):
            return in_sets(left, right, sides)
        case "==", EventData() | Sent(), EventData() | Sent():
            return [f"{type(left).__name__} == {type(right).__name__}", *in_values(left, right, sides)]
        case "in", EventData() | Sent(), list():
            return in_list(left, right, sides)
    return None


def _are_events(*collections: Collection[object]) -> bool:
    """Whether one is an outbox or has an event: the other may be empty, or wrong in any way."""
    return any(
        isinstance(values, Outbox) or any(isinstance(value, EventData | Sent) for value in values)
        for values in collections
    )
