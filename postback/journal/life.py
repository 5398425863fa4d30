"""An event's life, as it is told to whoever looks for it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Literal, get_args

from postback.journal.records import Gap
from postback.wire.time import iso

__all__ = ["LIVE", "STATES", "Attempt", "Change", "EventRecord", "Found", "State"]

#: What an event can be.
State = Literal["waiting", "delayed", "in_flight", "held", "delivered", "duplicate", "dead", "cancelled", "unknown"]
#: What may be asked for.
STATES: Final = tuple(state for state in get_args(State) if state != "unknown")
#: States of an event that goes on. Redis alone knows them.
LIVE: Final = frozenset({"waiting", "delayed", "in_flight", "held"})


@dataclass(frozen=True, slots=True)
class Attempt:
    """One request that carried the event.

    Attributes:
        at: When it was granted; UTC.
        outcome: What its answer meant: ``delivered``, ``retry``, ``quota``, ``pending``,
            ``ambiguous``, ``rejected``, ``halved``, ``credentials``, ``expired``; or ``unknown``,
            if its worker died.
        status: HTTP status, or the provider's code; None: no answer came.
        detail: The provider's words, or ours.
        ms: How long it took, in milliseconds; None: not known.
        worker: Who sent it: Celery's node name; empty if its worker died.
        batch: How many events it carried.
    """

    at: datetime | None
    outcome: str
    status: int | None = None
    detail: str = ""
    ms: float | None = None
    worker: str = ""
    batch: int = 1

    def as_json(self) -> dict[str, Any]:
        """For machines; times in ISO 8601 UTC."""
        return _as_json(self)


@dataclass(frozen=True, slots=True)
class Change:
    """What became of the event without a request, or what an operator did to it.

    Attributes:
        at: When; UTC.
        what: ``dead``, ``duplicate``, ``cancelled``; or ``replayed``, ``dropped``.
        who: The operator, ``ann@ops1``; None: nobody.
        detail: A few words.
    """

    at: datetime | None
    what: str
    who: str | None = None
    detail: str = ""

    def as_json(self) -> dict[str, Any]:
        """For machines; times in ISO 8601 UTC."""
        return _as_json(self)


@dataclass(frozen=True, slots=True)
class EventRecord:
    """An event as it stands now, and all that is known of what happened to it.

    Times are aware datetimes in UTC, by Redis' clock; None where there is none. Its repr leaves out
    the person and the key.

    Attributes:
        id: The event's id.
        task: ``tgtrack.add_event``.
        provider: ``tgtrack``.
        account: The account's name, ``main``; empty if it is not known.
        user: The person whom it is about, as the provider knows him; None: nobody.
        key: The idempotency key; its SHA-256 if the message has no more; None: none.
        state: ``waiting``, ``delayed``, ``in_flight``, ``held`` (aside, in a run of failures),
            ``delivered``, ``duplicate``, ``dead``, ``cancelled``; or ``unknown``: it is nowhere in
            Redis, and its end is not in the journal.
        enqueued_at: When the producer enqueued it.
        due_at: Until when it is delayed or held.
        first_sent_at: When its first request was granted.
        ended_at: When it ended.
        possible_duplicate: An attempt may have been recorded before.
        reason: Of a dead event its reason code; of a duplicate the id of the first event.
        attempts: Its requests, the first one first.
        history: What else happened to it, the first first. A dead letter that an operator dropped
            is still ``dead``; that it was dropped stands here.
    """

    id: str
    task: str
    provider: str
    account: str
    user: str | None = field(repr=False)
    key: str | None = field(repr=False)
    state: State
    enqueued_at: datetime | None = None
    due_at: datetime | None = None
    first_sent_at: datetime | None = None
    ended_at: datetime | None = None
    possible_duplicate: bool = False
    reason: str | None = None
    attempts: tuple[Attempt, ...] = ()
    history: tuple[Change, ...] = ()

    @property
    def latest(self) -> datetime:
        """When something last happened to it."""
        happened = (self.enqueued_at, self.first_sent_at, self.ended_at)
        times = [*happened, *(each.at for each in self.attempts), *(each.at for each in self.history)]
        return max((at for at in times if at is not None), default=datetime.min.replace(tzinfo=UTC))

    def as_json(self) -> dict[str, Any]:
        """For machines; times in ISO 8601 UTC. It has people's ids and keys in full."""
        return _as_json(self)


class Found(list[EventRecord]):
    """Events that were found, the latest first.

    Attributes:
        gaps: Stretches of which the journal lacks records that may concern these events.
        missing: Ids that were asked for and are nowhere.
        more: There are more than the limit.
    """

    def __init__(
        self,
        records: Iterable[EventRecord] = (),
        *,
        gaps: Iterable[Gap] = (),
        missing: Iterable[str] = (),
        more: bool = False,
    ) -> None:
        super().__init__(records)
        self.gaps = tuple(gaps)
        self.missing = frozenset(missing)
        self.more = more


def _as_json(record: Any) -> dict[str, Any]:
    return {each.name: _json(getattr(record, each.name)) for each in dataclasses.fields(record)}


def _json(value: Any) -> Any:
    if isinstance(value, datetime):
        return iso(value.timestamp() * 1000)
    if isinstance(value, tuple):
        return [_as_json(each) for each in value]
    return value
