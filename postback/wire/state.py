"""An event's delivery state: the header ``postback`` of its message (ADR 5).

The scripts read and write it by the same rule; see ``workers/governor/lua/include/state.lua``.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

__all__ = ["MAX_AGE_MS", "MAX_COUNTED", "STATE_HEADER", "UNTOUCHED", "DeliveryState"]

#: The header.
STATE_HEADER: Final = "postback"
#: Longest delivery state, in characters.
MAX_STATE: Final = 400
#: Most digits of a number in it: microseconds need so many until the year 5138.
MAX_DIGITS: Final = 17
#: Most requests, crashes or polls of one event.
MAX_COUNTED: Final = 100_000
#: Highest age of an event, in ms.
MAX_AGE_MS: Final = 400 * 86_400_000
#: How far a first grant may lie in the future, in microseconds, because clocks differ.
MAX_AHEAD_US: Final = 86_400_000_000


@dataclass(frozen=True, slots=True)
class DeliveryState:
    """What earlier deliveries left in a message."""

    #: Attempts used up so far.
    attempts: int = 0
    #: Failures in the current run of failures. They are given back if it turns out to be an outage.
    tries: int = 0
    #: Time of the first grant, microseconds of the Redis clock; 0 before it.
    first_us: int = 0
    #: Whether an earlier attempt may have been recorded.
    duplicate: bool = False
    #: Workers that died, or were cut off, with this message.
    crashes: int = 0
    #: Polls of an answer that was not final.
    polls: int = 0
    #: Answers after which only few attempts are made.
    odd: int = 0
    #: Milliseconds of back-off so far.
    age_ms: int = 0

    @classmethod
    def parse(cls, text: object) -> DeliveryState:
        """Read ``attempts=2 first=1732240000000000 duplicate=1``.

        Anything else counts as no state, as in the scripts. Anybody may write it, so a number
        outside its range is dropped.
        """
        if not isinstance(text, str) or not text or len(text) > MAX_STATE:
            return UNTOUCHED
        words = dict(word.partition("=")[::2] for word in text.split())

        def number(name: str, most: int = MAX_COUNTED) -> int:
            digits = words.get(name, "0")
            value = int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= MAX_DIGITS else 0
            return value if value <= most else 0

        return cls(
            number("attempts"),
            number("tries"),
            number("first", time.time_ns() // 1000 + MAX_AHEAD_US),
            number("duplicate", 1) > 0,
            number("crashes"),
            number("polls"),
            number("odd"),
            number("age", MAX_AGE_MS),
        )

    def text(self) -> str:
        """The header's text, without what is 0. The reverse of :meth:`parse`."""
        numbers = {
            "attempts": self.attempts,
            "tries": self.tries,
            "first": self.first_us,
            "duplicate": int(self.duplicate),
            "crashes": self.crashes,
            "polls": self.polls,
            "odd": self.odd,
            "age": self.age_ms,
        }
        return " ".join(f"{name}={number}" for name, number in numbers.items() if number)


#: The state of a message that was never delivered.
UNTOUCHED: Final = DeliveryState()
