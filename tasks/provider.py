"""What a provider's module must say: how an event is encoded, how a request is built, what an answer means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import ClassVar, Final

from config.accounts import Account
from postback._events.event import EventData
from tasks.outcomes import Outcome, Verdict
from tasks.request import Answer, Asked, HttpRequest

#: Characters of a provider's words that a verdict holds; ``Delivery`` masks and shortens them for people.
MAX_WORDS: Final = 1000


def array(bodies: Sequence[bytes]) -> bytes:
    """The JSON array of several encoded events."""
    return b"[" + b",".join(bodies) + b"]"


def words(value: object) -> str:
    """What an answer says in one of its fields, as a verdict's detail: the text, or nothing if it is none."""
    return " ".join(value[:MAX_WORDS].split()) if isinstance(value, str) else ""


class Provider:
    """Base of the providers; each overrides :meth:`request` and :meth:`classify`."""

    name: ClassVar[str]

    def extra_bytes_for(self, account: Account) -> int:
        """Bytes that :meth:`encode` adds to what the producer counted, at most.

        TAKE needs them for the byte cap of a batch.
        """
        return 0

    def encode(self, account: Account, event: EventData) -> bytes:
        """The request body of one event, alone or as an item of a batch."""
        return event.encoded()

    def overdue(self, account: Account, method: str, age_s: float) -> str:
        """Why an event of this age is not worth sending any more; empty if it is."""
        return ""

    def request(self, account: Account, method: str, bodies: Sequence[bytes]) -> HttpRequest:
        """The request that carries ``bodies`` (1..``batch_max`` events of one method).

        Raises:
            NotImplementedError: In this base.
        """
        raise NotImplementedError

    def classify(self, answer: Answer, asked: Asked) -> Verdict:
        """What the answer means; an answer that is not understood is ambiguous, never a success."""
        raise NotImplementedError


def by_status(
    answer: Answer,
    detail: str = "",
    *,
    outcomes: Mapping[int, Outcome] = MappingProxyType({}),
    most_attempts: int | None = None,
) -> Verdict:
    """The class of an answer by its HTTP status alone, for what a provider's document leaves open.

    A success is never assumed.

    Args:
        answer: The answer.
        detail: The provider's words, if it has any; else the start of the body.
        outcomes: Statuses whose class is another one at this provider.
        most_attempts: Attempts that an ambiguous answer is worth; None for the account's own number.
    """
    status = answer.status
    outcome = outcomes.get(status) or _outcome(status)
    told = detail or answer.text(MAX_WORDS)
    if outcome is Outcome.QUOTA:
        return Verdict(outcome, told or "Too many requests", status, retry_after_s=answer.retry_after_s)
    if outcome is Outcome.AMBIGUOUS:
        return Verdict(outcome, told or "unknown answer", status, most_attempts=most_attempts)
    return Verdict(outcome, told, status)


def _outcome(status: int) -> Outcome:
    if status == 429:
        return Outcome.QUOTA
    if status in (401, 402, 403):
        return Outcome.CREDENTIALS
    if 500 <= status <= 599:
        return Outcome.RETRY
    # 408: the server gave up waiting for the request, which says nothing about the event.
    if 400 <= status <= 499 and status != 408:
        return Outcome.REJECTED
    return Outcome.AMBIGUOUS
