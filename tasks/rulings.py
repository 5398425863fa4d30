"""What becomes of one event: one small frozen object, its ruling.

SETTLE's argument, Flower's row, the log line and the metrics derive from it. Each has

- ``kind``: ``delivered``, ``duplicate``, ``retry``, ``wait`` or ``dead``, as people read it;
- ``text``: the same in a few words. The first word is a reason code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

Kind = Literal["delivered", "duplicate", "retry", "wait", "dead"]


@dataclass(frozen=True, slots=True)
class Delivered:
    """The provider has recorded it."""

    kind: ClassVar[Kind] = "delivered"
    #: What a look-up found; None for everything else.
    result: Any = None
    #: An earlier attempt may have been recorded too.
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
    """It failed and is tried again; that uses up an attempt."""

    kind: ClassVar[Kind] = "retry"
    after_s: float
    text: str
    #: The attempt may have been recorded.
    ambiguous: bool = False
    #: The answer is worth few attempts, which are counted apart.
    few: bool = False


@dataclass(frozen=True, slots=True)
class Poll:
    """It is looked at again later; that uses up no attempt."""

    kind: ClassVar[Kind] = "wait"
    after_s: float
    text: str


@dataclass(frozen=True, slots=True)
class Back:
    """It goes back to the front of its queue; that uses up no attempt."""

    kind: ClassVar[Kind] = "wait"
    text: str = "put back"
    #: Seconds that the provider asked to wait, if it did.
    after_s: float | None = None
    #: It was sent, and its worker filled in its time: the time must not move.
    keeps_time: bool = False


@dataclass(frozen=True, slots=True)
class Halved:
    """It was refused together with others and goes on in a half of the batch."""

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
    #: What is buried in place of an entry that is no message: a message around it.
    wrapped: str | None = None


#: It is not at its end: it waits in Redis.
Waiting = Again | Poll | Back | Halved
Ruling = Delivered | Duplicate | Waiting | Dead
#: The most common ruling.
DELIVERED = Delivered()
#: Nobody has sent it.
PUT_BACK = Back()
