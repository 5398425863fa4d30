"""What a provider's module defines: how to encode an event, build a request, read an answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import ClassVar, Final

from config.accounts import Account
from postback._events.event import EventData
from tasks.outcomes import Outcome, Verdict
from tasks.request import Answer, Asked, HttpRequest

#: Most characters of a provider's words in a verdict. ``Delivery`` masks and shortens them later.
MAX_WORDS: Final = 1000


def array(bodies: Sequence[bytes]) -> bytes:
    """The JSON array of several encoded events."""
    return b"[" + b",".join(bodies) + b"]"


def words(value: object) -> str:
    """An answer's field as a verdict's detail: its text; empty if it is no text."""
    return " ".join(value[:MAX_WORDS].split()) if isinstance(value, str) else ""


class Provider:
    """Base of all providers; each overrides :meth:`request` and :meth:`classify`."""

    name: ClassVar[str]

    def extra_bytes_for(self, account: Account) -> int:
        """Most bytes that :meth:`encode` adds to the producer's count.

        TAKE needs the number for the byte cap of a batch.
        """
        return 0

    def encode(self, account: Account, event: EventData) -> bytes:
        """The request body of one event, alone or as an item of a batch."""
        return event.encoded()

    def overdue(self, account: Account, method: str, age_s: float) -> str:
        """Why an event of this age is too old to be sent; empty if it is not."""
        return ""

    def request(self, account: Account, method: str, bodies: Sequence[bytes]) -> HttpRequest:
        """The request that carries ``bodies`` (1..``batch_max`` events of one method).

        Raises:
            NotImplementedError: In this base.
        """
        raise NotImplementedError

    def classify(self, answer: Answer, asked: Asked) -> Verdict:
        """The class of an answer. One that is not understood is ambiguous, never a success."""
        raise NotImplementedError


def by_status(
    answer: Answer,
    detail: str = "",
    *,
    outcomes: Mapping[int, Outcome] = MappingProxyType({}),
    most_attempts: int | None = None,
) -> Verdict:
    """The class of an answer by its HTTP status alone, where a provider's document says nothing.

    It never assumes a success.

    Args:
        answer: The answer.
        detail: The provider's words; empty: the start of the body.
        outcomes: Statuses that this provider uses differently.
        most_attempts: Attempts that an ambiguous answer is worth; None: ``max_attempts``.
    """
    status = answer.status
    outcome = outcomes.get(status) or _outcome(status)
    detail = detail or answer.text(MAX_WORDS)
    if outcome is Outcome.QUOTA:
        return Verdict(outcome, detail or "Too many requests", status, retry_after_s=answer.retry_after_s)
    if outcome is Outcome.AMBIGUOUS:
        return Verdict(outcome, detail or "unknown answer", status, most_attempts=most_attempts)
    return Verdict(outcome, detail, status)


def _outcome(status: int) -> Outcome:
    if status == 429:
        return Outcome.QUOTA
    if status in (401, 402, 403):
        return Outcome.CREDENTIALS
    if 500 <= status <= 599:
        return Outcome.RETRY
    # 408: the server stopped waiting for the request. That says nothing about the event.
    if 400 <= status <= 499 and status != 408:
        return Outcome.REJECTED
    return Outcome.AMBIGUOUS
