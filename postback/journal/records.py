"""Records of the journal: what stands in a stream in Redis, and what is read from it.

A stream's entry has one field, ``record``: a JSON object. Scripts write it as it is; the script
TAKE writes those of dead workers. A record tells of one request (or of events that ended without
one), or of one action of an operator::

    {"grant": "postback:5f….12.1", "at": 1733011200123, "queue": "tgtrack.main",
     "outcome": "delivered", "status": 200, "ms": 12.3, "worker": "tgtrack-71@host", "batch": 2,
     "events": [{"id": "…", "task": "tgtrack.add_event", "user": "7000100", "end": "delivered"}, …]}
    {"grant": "action:77…", "at": …, "action": "pause", "who": "ann@ops1", "queue": "tgtrack.main",
     "detail": "campaign is over"}

What an event leaves out is what its record says; its ``place`` is then its number in the list, and
``first_at`` the time of this request.
``at`` is when the request was granted, or when the operator acted, in ms of Redis' clock.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from postback._events.people import people_of
from postback.wire.time import LAST_S

__all__ = [
    "FIELD",
    "UNKNOWN",
    "Action",
    "Entry",
    "Gap",
    "Record",
    "Unreadable",
    "about_people",
    "cut",
    "key_hash",
    "read_gap",
    "read_record",
]

#: The field of a stream's entry.
FIELD: Final = "record"
#: Outcome of a request whose worker died, or was cut off.
UNKNOWN: Final = "unknown"
#: Longest text by which events are found, in characters: PostgreSQL's indexes take no longer ones.
MAX_INDEXED: Final = 255
#: Most people of one event: a Telegram update may name a whole chat.
MOST_PEOPLE: Final = 16
#: Longest other text, in characters.
MAX_TEXT: Final = 2000


class Unreadable(ValueError):
    """A stream's entry is no record. Anybody who can write to Redis may have written it."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What one record says of one event.

    Attributes:
        grant: The grant, or the action. Together with ``place`` it is unique, so that a record that
            is written twice counts once.
        place: The event's number in its record, from 0.
        at_ms: When the request was granted, or the operator acted; Redis' clock.
        queue: ``tgtrack.main``.
        id: The event's id; empty where a message has none.
        task: ``tgtrack.add_event``.
        user: The person whom the event is about, as the provider knows him; empty: nobody.
        also: Further ids of that person, or further people.
        key: The idempotency key as its producer wrote it; else its hash; empty: none.
        key_hash: SHA-256 of the key, hex; empty: none.
        outcome: What the answer meant: ``delivered``, ``retry``, ``quota``, ``pending``,
            ``ambiguous``, ``rejected``, ``halved``, ``credentials``, ``expired``, or ``unknown``;
            empty: no request was made.
        status: HTTP status, or the provider's code; None: no answer.
        detail: The provider's words, or ours; masked.
        ms: How long the request took, in ms; None: not known.
        worker: Who sent it: Celery's node name.
        batch: How many events the request carried; 0: no request.
        end: What became of the event: ``delivered``, ``duplicate``, ``dead``, ``cancelled``; or
            what an operator did: ``replayed``, ``dropped``; empty: it goes on.
        reason: Of a dead letter its reason code; of a duplicate the id of the first event; of an
            action who did it.
        possible_duplicate: An attempt up to this one may have been recorded.
        enqueued_ms: When the producer enqueued it; 0: not known.
        first_ms: When its first request was granted; 0: none was.
    """

    grant: str
    place: int
    at_ms: int
    queue: str
    id: str = ""
    task: str = ""
    user: str = ""
    also: tuple[str, ...] = ()
    key: str = ""
    key_hash: str = ""
    outcome: str = ""
    status: int | None = None
    detail: str = ""
    ms: float | None = None
    worker: str = ""
    batch: int = 0
    end: str = ""
    reason: str = ""
    possible_duplicate: bool = False
    enqueued_ms: int = 0
    first_ms: int = 0


@dataclass(frozen=True, slots=True)
class Action:
    """What an operator did.

    Attributes:
        grant: Its name, ``action:…``; unique.
        at_ms: When; Redis' clock.
        action: ``pause``, ``resume``, ``replay``, ``drop``, ``erase``.
        who: ``ann@ops1``.
        place: An account's queue or a provider.
        detail: A few words: why, how many.
    """

    grant: str
    at_ms: int
    action: str
    who: str
    place: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Gap:
    """Records that are missing: the stream was full.

    Attributes:
        provider: Whose.
        since_ms: Time of the first.
        until_ms: Time of the last.
        lost: How many records.
    """

    provider: str
    since_ms: int
    until_ms: int
    lost: int


@dataclass(frozen=True, slots=True)
class Record:
    """One record.

    Attributes:
        entries: One for each event that it tells of.
        action: What an operator did; None for a request.
    """

    entries: list[Entry] = field(default_factory=list)
    action: Action | None = None


def cut(text: str) -> str:
    """A text by which events are found, as the database keeps it."""
    return text[:MAX_INDEXED]


def about_people(task: str, wire: Any) -> dict[str, Any]:
    """Whom an event is about, as fields of a record: ``user``, ``also``; what is empty is absent.

    Args:
        task: ``tgtrack.add_event``.
        wire: The event's wire form, valid or not.
    """
    people = [cut(person) for person in people_of(task, wire)[:MOST_PEOPLE]]
    if len(people) > 1:
        return {"user": people[0], "also": people[1:]}
    return {"user": people[0]} if people else {}


def key_hash(key: str) -> str:
    """The hash of an idempotency key, by which scripts and the journal compare it."""
    return hashlib.sha256(key.encode()).hexdigest()


def read_gap(provider: str, fields: Mapping[bytes, bytes]) -> Gap | None:
    """Read the hash that counts what a full stream has lost; None: nothing.

    Anybody who can write to Redis may have written it.
    """
    numbers = {name: int(text) for name, text in fields.items() if text.isdigit() and len(text) < 16}
    since, until, lost = (numbers.get(name, 0) for name in (b"since", b"until", b"lost"))
    return Gap(provider, since, max(since, until), lost) if lost else None


def read_record(raw: bytes | str) -> Record:
    """Read the field of a stream's entry.

    Raises:
        Unreadable: It is no record.
    """
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError):
        raise Unreadable("it is not JSON") from None
    if not isinstance(document, dict) or not _text(document, "grant"):
        raise Unreadable("it names no grant")
    at_ms, queue = _whole(document, "at"), _text(document, "queue")
    if not 0 < at_ms < LAST_S * 1000:
        raise Unreadable("it has no time")
    action = None
    if name := _text(document, "action"):
        who, detail = _text(document, "who"), _text(document, "detail")
        action = Action(_text(document, "grant"), at_ms, name, who, queue, detail)
    events = document.get("events")
    if not isinstance(events, list):
        return Record([], action)
    common = {"queue": "", **_values(document), "at_ms": at_ms}
    return Record(
        [
            _entry({"place": place, **common, **_values(event)})
            for place, event in enumerate(events)
            if isinstance(event, dict)
        ],
        action,
    )


def _entry(values: dict[str, Any]) -> Entry:
    """An entry of what was read; what is known in another way is filled in."""
    if not values.get("key"):
        values["key"] = values.get("key_hash", "")
    if not values.get("first_ms") and values.get("outcome"):
        values["first_ms"] = values["at_ms"]
    return Entry(**values)


def _values(document: dict[str, Any]) -> dict[str, Any]:
    """The fields of an entry that a record, or one of its events, says."""
    return {read[0]: read[1](value) for name, value in document.items() if (read := _FIELDS.get(name))}


def _text(values: dict[str, Any], name: str) -> str:
    return _clean(values.get(name))


def _clean(value: Any) -> str:
    """A text that every database takes: without NUL and lone surrogates; empty if it is none."""
    if value.__class__ is not str:
        return ""
    if len(value) <= MAX_TEXT and value.isascii() and value.isprintable():
        return value
    return value[:MAX_TEXT].encode("utf-8", "replace").decode().replace("\0", "\ufffd")


def _word(value: Any) -> str:
    return cut(_clean(value))


def _number(value: Any) -> int:
    return int(value) if isinstance(value, int | float) and 0 <= value < 1 << 53 else 0


def _whole(values: dict[str, Any], name: str) -> int:
    return _number(values.get(name))


def _status(value: Any) -> int | None:
    return value if isinstance(value, int) and abs(value) < 1 << 31 else None


def _duration(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and 0 <= value < 1e12 else None


def _people(value: Any) -> tuple[str, ...]:
    return tuple(_word(each) for each in value if isinstance(each, str)) if isinstance(value, list) else ()


#: Name in a record -> the entry's field, and how it is read. What is of another type, or out of
#: range, counts as absent.
_FIELDS: Final[dict[str, tuple[str, Callable[[Any], Any]]]] = {
    **{name: (name, _word) for name in ("grant", "queue", "id", "task", "user", "outcome", "worker", "end", "reason")},
    "place": ("place", lambda value: min(_number(value), (1 << 31) - 1)),
    "also": ("also", _people),
    "key": ("key", _clean),
    "key_hash": ("key_hash", lambda value: _clean(value)[:64]),
    "status": ("status", _status),
    "detail": ("detail", _clean),
    "ms": ("ms", _duration),
    "batch": ("batch", lambda value: min(_number(value), 1 << 30)),
    "duplicate": ("possible_duplicate", lambda value: value is True),
    "enqueued_at": ("enqueued_ms", _number),
    "first_at": ("first_ms", _number),
}
