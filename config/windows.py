"""Quota windows in the notation of the ``limits`` library: ``3/second; 500/hour`` or ``20 per 10 seconds``."""

from __future__ import annotations

from typing import Final

from limits import RateLimitItem, parse_many

from postback.operations.quota import Window, strictest

__all__ = ["MAX_LIMIT", "Window", "parse_windows"]

#: Requests; the quota log keeps 8 bytes for each request of the largest window, so this is 8 MB of Redis an account.
MAX_LIMIT: Final = 1_000_000

#: ``limits`` takes a month as 30 days and a year as 360. A provider's month has up to 31, and a shorter one here would
#: let a 429 through.
_NO_FIXED_LENGTH: Final = frozenset({"month", "year"})

_SECONDS: Final = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}


def parse_windows(notation: str) -> tuple[Window, ...]:
    """Read a limits notation.

    Of two windows with the same length the stricter stays: ``3/second; 5/second`` is ``3/second``, since both must
    hold.

    Args:
        notation: Limits separated by ``;`` (``limits`` also takes ``,`` and ``|``).

    Returns:
        Windows, 1 or more, the shortest first.

    Raises:
        ValueError: The notation cannot be read or means nothing, in words that follow the key's name.
    """
    try:
        items = parse_many(notation)
    except ValueError:
        raise ValueError('is not a limit; write for example "3/second; 500/hour" or "20 per 10 seconds"') from None
    # `limits` reads "1 per 0 seconds" as "1 per second": the parsed item cannot tell, the text can.
    if any(_has_zero(part) for part in notation.replace(",", ";").replace("|", ";").split(";")):
        raise ValueError("has a zero in it; to hold an account's events use `postback pause`")
    return strictest([map(_window, items)])


def _has_zero(part: str) -> bool:
    numbers = "".join(char if char.isdigit() else " " for char in part).split()
    return any(int(number) == 0 for number in numbers)


def _window(item: RateLimitItem) -> Window:
    unit = item.GRANULARITY.name
    if unit in _NO_FIXED_LENGTH:
        raise ValueError(f"counts by {unit}, which has no fixed length; write it in days")
    if item.amount > MAX_LIMIT:
        raise ValueError(f"allows more than {MAX_LIMIT:,} requests in a window; leave that window out")
    text = f"{item.amount}/{unit}" if item.multiples == 1 else f"{item.amount} per {item.multiples} {unit}s"
    return Window(limit=item.amount, window_s=float(_SECONDS[unit] * item.multiples), text=text)
