"""How events show themselves without showing people: summaries, reprs and names in messages."""

from __future__ import annotations

from typing import Any, Final, Literal

from postback._events.payload import check_text
from postback._events.values import Refused

__all__ = ["Shown", "field_name", "in_code", "in_summary", "shorten"]

#: Longest text of one plain field in a summary, in characters.
SUMMARY_CHARS: Final = 60

#: How a field is shown: as it is; as a shortened id (``98…21``), because it identifies a person; or
#: not at all.
Shown = Literal["plain", "personal", "hidden"]


def shorten(value: str) -> str:
    """A personal id, shortened but still comparable by eye: ``98…21``. Short ones vanish."""
    return f"{value[:2]}…{value[-2:]}" if len(value) >= 7 else "…"


def in_summary(value: Any, shown: Shown) -> str:
    """A value in a summary."""
    if shown == "personal":
        return shorten(str(value))
    text = str(value)[: SUMMARY_CHARS + 1]
    if not text.isprintable():
        text = "".join(char if char.isprintable() else " " for char in text)
    return text if len(text) <= SUMMARY_CHARS else f"{text[:SUMMARY_CHARS]}…"


def in_code(value: Any, shown: Shown) -> str:
    """A value in a repr. Hidden text and payloads vanish, ids are shortened."""
    if shown == "plain" or value is None:
        return repr(value)
    if shown == "personal":
        return repr(shorten(str(value)))
    return (
        "[…]"
        if isinstance(value, list)
        else "{…}"
        if isinstance(value, dict)
        else "'…'"
        if isinstance(value, str)
        else "…"
    )


def field_name(key: object) -> str:
    """An unknown field's name, safe for a message."""
    try:
        return check_text(str(key))[:SUMMARY_CHARS]
    except Refused:
        return "a field"
