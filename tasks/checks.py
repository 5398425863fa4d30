"""Rules for the parts of a message, so that Celery, kombu and we can read it.

A rule returns the end of a sentence, or an empty text. An absent or null part always passes:
Celery writes null for most parts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from postback.wire.formats import MESSAGE_FORMAT
from postback.wire.time import moment

#: Longest id or name, longest other text, in characters.
MAX_SHORT: Final = 255
MAX_TEXT: Final = 10_000
#: Largest number in Celery's headers: retries, seconds, places in a group.
MAX_NUMBER: Final = 10**9

#: The end of the sentence "its header `expires` …", or "".
Rule = Callable[[Any], str]


def broken(rule: Rule, value: Any) -> str:
    """What is wrong with a value; empty if nothing is, or if it is null."""
    return "" if value is None else rule(value)


def is_short(value: Any) -> str:
    """An id or a name, which may become a part of a Redis key: UTF-8 must carry it."""
    if isinstance(value, str) and len(value) <= MAX_SHORT and (value.isascii() or is_utf8(value)):
        return ""
    return f"must be a text of at most {MAX_SHORT} characters"


def is_utf8(text: str) -> bool:
    """Whether UTF-8 can carry a text: it has no lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def is_nested(value: Any, most: int) -> bool:
    """Whether lists and objects are nested deeper than ``most`` levels.

    It does not recurse, so the value may have any depth.
    """
    level = [value]
    for _ in range(most + 1):
        level = [
            item
            for holder in level
            if isinstance(holder, list | dict)
            for item in (holder.values() if isinstance(holder, dict) else holder)
        ]
        if not level:
            return False
    return True


def is_text(value: Any) -> str:
    """A text that people read."""
    return (
        "" if isinstance(value, str) and len(value) <= MAX_TEXT else f"must be a text of at most {MAX_TEXT} characters"
    )


def is_moment(value: Any) -> str:
    """A time as Celery writes it."""
    return "" if moment(value) is not None else "must be a time in ISO 8601"


def is_number(value: Any) -> str:
    """Seconds."""
    fits = value.__class__ in (int, float) and 0 <= value <= MAX_NUMBER
    return "" if fits else "must be a number, 0 or more"


def is_count(value: Any) -> str:
    """A whole number."""
    return "" if value.__class__ is int and 0 <= value <= MAX_NUMBER else "must be a whole number, 0 or more"


def is_priority(value: Any) -> str:
    """A priority; 0 is the first."""
    return (
        "" if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 255 else "must be from 0 to 255"
    )


def is_flag(value: Any) -> str:
    """True or false."""
    return "" if value is True or value is False else "must be true or false"


def is_object(value: Any) -> str:
    """A JSON object."""
    return "" if isinstance(value, dict) else "must be an object"


def is_list(value: Any) -> str:
    """A list of texts."""
    return "" if isinstance(value, list) and all(isinstance(item, str) for item in value) else "must be a list of texts"


def is_pair_of_seconds(value: Any) -> str:
    """Celery's two time limits, each of which may be null."""
    if isinstance(value, list) and len(value) == 2:
        hard, soft = value
        if not broken(is_number, hard) and not broken(is_number, soft):
            return ""
    return "must be two numbers of seconds"


def is_known_format(value: Any) -> str:
    """A format of messages that this worker reads."""
    fits = isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MESSAGE_FORMAT
    return "" if fits else f"must be from 1 to {MESSAGE_FORMAT}, the newest format that this worker reads"


def nothing_but(*allowed: str) -> Rule:
    """A rule: one of these texts, or null."""
    words = f"must be {' or '.join(map(repr, allowed))}" if allowed else "must be null"
    return lambda value: "" if isinstance(value, str) and value in allowed else words
