"""An event's records in the journal, merged with what stands in Redis now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, get_args

from postback.journal.life import Attempt, Change, EventRecord, State
from postback.journal.records import Entry
from postback.wire.time import LAST_S

__all__ = ["Live", "Trace", "merge"]

#: How an event ends. Other words in an entry's ``end`` are what operators did.
_ENDS: Final = frozenset({"delivered", "duplicate", "dead", "cancelled"})


@dataclass(frozen=True, slots=True)
class Live:
    """An event where it stands in Redis.

    Attributes:
        state: A live state, or ``dead``.
        seen_ms: When the search began that has met it; Redis' clock.
        grant: The grant that carries it; empty: none.
        due_ms: Until when it is delayed or held; 0: not known.
        ended_ms: When it became a dead letter; 0: not known, or it is none.
        reason: Of a dead letter.

    The other attributes are those of an entry of the journal.
    """

    id: str
    state: State
    queue: str
    seen_ms: float
    task: str = ""
    user: str = ""
    key: str = ""
    key_hash: str = ""
    grant: str = ""
    enqueued_ms: float = 0
    due_ms: float = 0
    first_ms: float = 0
    ended_ms: float = 0
    possible_duplicate: bool = False
    reason: str = ""


@dataclass(slots=True)
class Trace:
    """All that is known of one event.

    Attributes:
        id: The event's id.
        live: Where it was met in Redis; None: nowhere.
        entries: Of the journal, in order.
    """

    id: str
    live: Live | None = None
    entries: Sequence[Entry] = field(default_factory=list)

    @property
    def end(self) -> Entry | None:
        """The entry that says how it ended; None if it goes on.

        What stands in Redis decides, unless the event ended after the search had begun: its grant
        is a later one, or the one in which it was met.
        """
        deciding = [entry for entry in self.entries if _decides(entry)] or list(self.entries)
        last = deciding[-1] if deciding else None
        if last is None or not last.end or last.end == "replayed":
            return None
        live = self.live
        if live is None or last.at_ms >= int(live.seen_ms) or last.grant == live.grant:
            return last
        return None

    @property
    def is_lost(self) -> bool:
        """Whether it goes on, but was not met in Redis: it has moved, or a record is missing."""
        return self.live is None and self.end is None


def _decides(entry: Entry) -> bool:
    """Whether it can say what the event has become.

    A dropped dead letter stays dead. A second message with the same id is a duplicate of itself.
    """
    return entry.end != "dropped" and not (entry.end == "duplicate" and entry.reason == entry.id)


def merge(trace: Trace) -> EventRecord:
    """What is known of an event, as one record."""
    entries, end = trace.entries, trace.end
    live = None if end else trace.live
    #: What has the event's names, the latest first.
    named: list[Live | Entry] = [*([trace.live] if trace.live else []), *reversed(entries)]

    def name(*attributes: str) -> str:
        return next((text for one in attributes for each in named if (text := getattr(each, one))), "")

    provider, _, account = name("queue").partition(".")
    sent = [entry for entry in entries if entry.outcome]
    firsts = [each.first_ms for each in named if each.first_ms] + [entry.at_ms for entry in sent]
    return EventRecord(
        id=trace.id,
        task=name("task"),
        provider=provider,
        account=account,
        user=name("user") or None,
        key=next((each.key for each in named if each.key and each.key != each.key_hash), name("key_hash", "key"))
        or None,
        state=_state(end, live),
        enqueued_at=_at(min((each.enqueued_ms for each in named if each.enqueued_ms), default=0)),
        due_at=_at(live.due_ms) if live else None,
        first_sent_at=_at(min(firsts, default=0)),
        ended_at=_at(end.at_ms + (end.ms or 0)) if end else _at(live.ended_ms) if live else None,
        possible_duplicate=any(each.possible_duplicate for each in named),
        reason=((end.reason if end.end in _ENDS else "") if end else live.reason if live else "") or None,
        attempts=tuple(
            Attempt(_at(each.at_ms), each.outcome, each.status, each.detail, each.ms, each.worker, each.batch)
            for each in sent
        ),
        history=tuple(_change(entry) for entry in entries if entry.end and not entry.outcome),
    )


def _state(end: Entry | None, live: Live | None) -> State:
    if end is None:
        return live.state if live else "unknown"
    if end.end == "dropped":  # the record of its death is missing
        return "dead"
    return next((state for state in get_args(State) if state == end.end), "unknown")


def _change(entry: Entry) -> Change:
    who = None if entry.end in _ENDS else entry.reason or None
    return Change(_at(entry.at_ms), entry.end, who, entry.detail)


def _at(epoch_ms: float) -> datetime | None:
    """A time; None for 0, and for what no calendar has: anybody may have written it."""
    return datetime.fromtimestamp(epoch_ms / 1000, UTC) if 0 < epoch_ms < LAST_S * 1000 else None
