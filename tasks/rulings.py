"""What becomes of one event: one small frozen object, its ruling.

SETTLE's argument, Flower's row, the log line and the metrics derive from it. Each ruling has

- ``kind``: ``delivered``, ``duplicate``, ``retry``, ``wait`` or ``dead``;
- ``text``: the same in a few words for people. The first word is a reason code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

Kind = Literal["delivered", "duplicate", "retry", "wait", "dead"]


@dataclass(frozen=True, slots=True)
class Delivered:
    """The provider has recorded it."""

    kind: ClassVar[Kind] = "delivered"
    #: Result of a look-up; None for other events.
    result: Any = None
    #: An earlier attempt may have been recorded, too.
    possible_duplicate: bool = False

    @property
    def text(self) -> str:
        """In a few words."""
        return "delivered, possible_duplicate" if self.possible_duplicate else "delivered"


@dataclass(frozen=True, slots=True)
class Duplicate:
    """Another event owns its idempotency key: it is dropped."""

    kind: ClassVar[Kind] = "duplicate"
    #: Id of the owner.
    of: str

    @property
    def text(self) -> str:
        """In a few words."""
        return f"duplicate of {self.of}"


@dataclass(frozen=True, slots=True)
class Again:
    """It failed and is tried again. That uses up an attempt."""

    kind: ClassVar[Kind] = "retry"
    after_s: float
    text: str
    #: The attempt may have been recorded.
    ambiguous: bool = False
    #: The answer is worth few attempts; these are counted apart.
    few: bool = False


@dataclass(frozen=True, slots=True)
class Poll:
    """It is looked up again later. That uses up no attempt."""

    kind: ClassVar[Kind] = "wait"
    after_s: float
    text: str


@dataclass(frozen=True, slots=True)
class Back:
    """It goes back to the front of its queue. That uses up no attempt."""

    kind: ClassVar[Kind] = "wait"
    text: str = "put back"
    #: Seconds that the provider asked to wait; None if it did not say.
    after_s: float | None = None
    #: It was sent with a time that the worker filled in. The time must not move.
    keeps_time: bool = False


@dataclass(frozen=True, slots=True)
class Halved:
    """Its batch was refused: it goes on in a half of the batch."""

    kind: ClassVar[Kind] = "wait"
    after_s: ClassVar[None] = None
    text: str


@dataclass(frozen=True, slots=True)
class Dead:
    """It is a dead letter."""

    kind: ClassVar[Kind] = "dead"
    #: Reason code and the provider's words.
    text: str
    #: JSON of the header ``postback_dead``.
    letter: str
    #: An attempt may have been recorded.
    possible_duplicate: bool = False
    #: A message around an entry that is no message. It becomes the dead letter in its place.
    wrapped: str | None = None


#: The event waits in Redis.
Waiting = Again | Poll | Back | Halved
Ruling = Delivered | Duplicate | Waiting | Dead
#: The most common ruling.
DELIVERED = Delivered()
#: It was not sent.
PUT_BACK = Back()
