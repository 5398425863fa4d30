"""What an answer means. Its class, not its HTTP status, decides what happens to the event."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

#: Longest detail of a provider's words, in characters.
MAX_BRIEF: Final = 160

#: What looks like a person's data: addresses, names after an @, ids and phone numbers, wallets
#: and device identifiers.
_PERSONAL: Final = re.compile(r"[^\s\"'<>]+@[^\s\"'<>]+|@\w+|\d{5,}|[\w:-]{32,}")
_TAG: Final = re.compile(r"<[^<>]*>")


class Outcome(StrEnum):
    """Every answer of every provider falls into exactly one of these."""

    #: The provider has recorded the event.
    DELIVERED = "delivered"
    #: Not recorded; may work later. Counts as an attempt.
    RETRY = "retry"
    #: A quota signal (429): the account waits, no attempt is used up.
    QUOTA = "quota"
    #: Not finished yet: the event waits, no attempt is used up.
    PENDING = "pending"
    #: It may or may not have been recorded.
    AMBIGUOUS = "ambiguous"
    #: The provider refuses this event for good; of a batch, at least one event. It must not have
    #: recorded the others: the batch is halved, and each half is sent again.
    REJECTED = "rejected"
    #: The key or token is refused: nothing is wrong with the event.
    CREDENTIALS = "credentials"
    #: Its time window has passed.
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Verdict:
    """An answer, understood.

    Attributes:
        outcome: Its class.
        detail: The provider's words, if it says something. They may hold anything: ``Delivery``
            masks secrets and shortens them before a person sees them.
        status: HTTP status or the provider's error code; None if there was no answer.
        retry_after_s: Seconds that a 429 asks to wait; None if it does not say.
        data: Result of a look-up.
        most_attempts: Attempts that this answer is worth, if fewer than ``max_attempts``.
    """

    outcome: Outcome
    detail: str = ""
    status: int | None = None
    retry_after_s: float | None = None
    data: Any = None
    most_attempts: int | None = None

    @property
    def words(self) -> str:
        """Status and detail for one line."""
        return " ".join(str(part) for part in (self.status, self.detail) if part)


def brief(text: str) -> str:
    """A provider's words for Flower and the log: one short line, no markup, no personal data.

    Secrets must be masked before. A key that was cut in half would not be recognised.
    """
    line = _PERSONAL.sub("…", _TAG.sub(" ", text))
    line = " ".join(line.split())
    return line if len(line) <= MAX_BRIEF else f"{line[: MAX_BRIEF - 1]}…"


class Delayed(Exception):
    """The event waits and will be sent later. The text says why."""
