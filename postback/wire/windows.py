"""Quota windows and how people write them: ``3/second; 500/hour`` or ``20 per 10 seconds``."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

#: Requests; the quota log keeps 8 bytes for each request of the largest window, so this is 8 MB of
#: Redis an account.
MAX_LIMIT: Final = 1_000_000
#: A window is kept to for this share longer, for the drift between Redis' clock and the provider's.
DRIFT: Final = 1e-4
#: Milliseconds added to each window.
MARGIN_MS: Final = 1

#: A provider's month has up to 31 days: a shorter one here would let a 429 through.
_NO_FIXED_LENGTH: Final = frozenset({"month", "year"})
_SECONDS: Final = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400}
_ONE: Final = re.compile(r"\s*([0-9]+)\s*(?:/|per)\s*([0-9]{1,18})?\s*([a-z]+)\s*", re.IGNORECASE)


def padded_ms(window_s: float) -> int:
    """A window's length as it is kept to, in ms."""
    return int(window_s * 1000 * (1 + DRIFT)) + MARGIN_MS


@dataclass(frozen=True, slots=True)
class Window:
    """At most ``limit`` requests in any ``window_s`` seconds.

    ``text`` as people write it (``3/second``).
    """

    limit: int
    window_s: float
    text: str

    @property
    def padded_ms(self) -> int:
        """Its length as it is kept to, in ms."""
        return padded_ms(self.window_s)


def strictest(quotas: Iterable[Iterable[Window]]) -> tuple[Window, ...]:
    """The windows that must hold where several quotas do.

    Of each length the smallest limit, the shortest first.
    """
    by_length: dict[float, Window] = {}
    for window in sorted((window for quota in quotas for window in quota), key=lambda one: -one.limit):
        by_length[window.window_s] = window
    return tuple(by_length[length] for length in sorted(by_length))


def parse_windows(notation: str) -> tuple[Window, ...]:
    """Read limits such as ``3/second; 500/hour`` or ``20 per 10 seconds``.

    Of two windows with the same length the stricter stays: ``3/second; 5/second`` is ``3/second``,
    since both must hold.

    Args:
        notation: Limits separated by ``;``, ``,`` or ``|``.

    Returns:
        Windows, 1 or more, the shortest first.

    Raises:
        ValueError: The notation cannot be read or means nothing, in words that follow the key's
            name.
    """
    try:
        parsed = [_parse_one(part) for part in re.split("[;,|]", notation)]
    except ValueError:
        raise ValueError('is not a limit; write for example "3/second; 500/hour" or "20 per 10 seconds"') from None
    if any(0 in (limit, count) for limit, count, _ in parsed):
        raise ValueError("has a zero in it; to hold an account's events use `postback pause`")
    return strictest([[_window(*one) for one in parsed]])


def _parse_one(text: str) -> tuple[int, int, str]:
    """How many requests, in how many of which unit."""
    match = _ONE.fullmatch(text)
    unit = match[3].lower().removesuffix("s") if match else ""
    if match is None or unit not in _SECONDS.keys() | _NO_FIXED_LENGTH:
        raise ValueError(text)
    return int(match[1]), int(match[2] or 1), unit


def _window(limit: int, count: int, unit: str) -> Window:
    if unit in _NO_FIXED_LENGTH:
        raise ValueError(f"counts by {unit}, which has no fixed length; write it in days")
    if limit > MAX_LIMIT:
        raise ValueError(f"allows more than {MAX_LIMIT:,} requests in a window; leave that window out")
    text = f"{limit}/{unit}" if count == 1 else f"{limit} per {count} {unit}s"
    return Window(limit, float(_SECONDS[unit] * count), text)
