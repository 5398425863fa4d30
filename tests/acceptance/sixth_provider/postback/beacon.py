"""Visits for Beacon. Source of every field: Beacon, "Reporting visits"."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar

from postback._events.fields import ID_CHARS, TEXT_CHARS, integer, text
from postback._events.values import Id, Kept, Text
from postback._send.event import Event

__all__ = ["Visit"]


class Visit(Event, method="visit", provider="beacon"):
    """Somebody has opened a page.

    Args:
        visitor: The visitor's id.
        page: The page's address.
        at: When it happened, in unix seconds. Left out: when it is sent.
    """

    visitor: Kept[Id, str] = text(min_chars=1, max_chars=ID_CHARS, whole_numbers=True, personal=True)
    page: Kept[Text, str] = text(min_chars=1, max_chars=TEXT_CHARS)
    at: Kept[int | datetime | None, int | None] = integer(low=0, high=4_294_967_295, default=None)

    time_field: ClassVar[str | None] = "at"
    time_bytes: ClassVar[int] = len(b',"at":1234567890')
