"""Visits for Beacon. Source of every field: Beacon, "Reporting visits"."""

from __future__ import annotations

from typing import ClassVar

from postback._events.fields import ID_CHARS, TEXT_CHARS, integer, text
from postback._send.event import Event

__all__ = ["Visit"]


class Visit(Event, method="visit", provider="beacon"):
    """Somebody has opened a page."""

    visitor: str = text(min_chars=1, max_chars=ID_CHARS, personal=True)
    page: str = text(min_chars=1, max_chars=TEXT_CHARS)
    #: Unix time in seconds; set when the event is sent.
    at: int | None = integer(low=0, high=4_294_967_295, default=None)

    time_field: ClassVar[str | None] = "at"
    time_bytes: ClassVar[int] = len(b',"at":1234567890')
