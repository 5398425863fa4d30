"""Recognising the events that somebody looks for, in entries of queues and in journal records.

Most entries are others'. Their bytes are looked at before any JSON is decoded: a part's entries
together, then each entry of a part that may have one.
"""

from __future__ import annotations

import base64
import heapq
import re
from collections.abc import Iterable, Iterator
from typing import Final

from postback._events.people import people_of
from postback.journal.query import Query
from postback.journal.records import Entry, key_hash
from postback.journal.traces import Live
from postback.operations.letters import read_letter
from postback.operations.messages import Message, text_of
from postback.operations.places import Part
from postback.wire import keys
from postback.wire.state import STATE_HEADER, DeliveryState
from postback.wire.time import moment

__all__ = ["Wanted"]

#: Most ids that are looked for in bytes; of more, every entry is decoded.
MOST_NEEDLES: Final = 64
#: A text that stands in JSON as it is.
_PLAIN: Final = re.compile(r"[^\x00-\x1f\"\\/\x7f-\U0010ffff]+")
#: When an event was enqueued, and when a dead letter died.
_ENQUEUED: Final = re.compile(rb'"postback_at"\s*:\s*(\d{1,15})')
_FAILED: Final = re.compile(rb'"failed_at"\s*:\s*"([^"]{1,40})"')
_DUE: Final = re.compile(r"(?:^| )due=(\d{1,17})(?: |$)")


class Latest:
    """The latest events of a walk. One that is met again counts where it was met last.

    Args:
        most: How many; None: all.

    Attributes:
        since_ms: What is not later is none of them.
    """

    def __init__(self, most: int | None) -> None:
        self._most = most
        self._events: dict[str, tuple[float, Live]] = {}
        self.since_ms = -1.0

    def add(self, at_ms: float, live: Live) -> None:
        """Add an event that was met.

        Args:
            at_ms: When something last happened to it.
            live: Where it is.
        """
        self._events[live.id] = (at_ms, live)
        if self._most is not None and len(self._events) >= 2 * self._most + MOST_NEEDLES:
            kept = heapq.nlargest(self._most, self._events.items(), key=lambda event: event[1][0])
            self._events, self.since_ms = dict(kept), kept[-1][1][0]

    def __iter__(self) -> Iterator[Live]:
        return (live for _, live in self._events.values())


class Wanted:
    """Recognises events.

    Args:
        query: Which. Its ``since_ms`` and ``limit`` are the caller's business.
    """

    def __init__(self, query: Query) -> None:
        self._query = query
        self._key_hash = None if query.key is None else key_hash(query.key)
        ids = [each.encode() for each in query.ids if _PLAIN.fullmatch(each)]
        names = [ids] if 0 < len(query.ids) == len(ids) <= MOST_NEEDLES else []
        names += [[self._key_hash.encode()]] if self._key_hash else []
        plain = query.user is not None and _PLAIN.fullmatch(query.user) is not None
        user = query.user.encode() if plain and query.user else b""
        encoded = _in_base64(user)
        #: One text of each group stands in an entry that is wanted.
        self._in_messages = [*names, *([[*encoded, user, b'"compression"']] if encoded else [])]
        self._in_messages += [[query.task.encode()]] if query.task else []
        self._in_records = [*names[:1]] if ids else []
        self._in_records += [[user]] if user else []

    def meet(self, part: Part, seen_ms: float, latest: Latest) -> None:
        """Add the wanted events of a part to the latest ones.

        Args:
            part: Entries of a queue, or dead letters.
            seen_ms: When the search began.
            latest: What is older than these is not decoded.
        """
        for raw in self._candidates(part.raws, self._in_messages):
            at_ms = _latest_ms(raw, part)
            if at_ms > latest.since_ms and (live := self._live(raw, part, seen_ms)) is not None:
                latest.add(at_ms, live)

    def may_tell(self, raws: list[bytes]) -> Iterable[bytes]:
        """Journal records that may tell of a wanted event."""
        return self._candidates(raws, self._in_records)

    def takes(self, entry: Entry) -> bool:
        """Whether an entry of the journal tells of a wanted event."""
        query = self._query
        provider, _, account = entry.queue.partition(".")
        return (
            bool(entry.id)
            and (not query.ids or entry.id in query.ids)
            and (query.key is None or self._key_hash == entry.key_hash or query.key == entry.key)
            and (query.user is None or query.user == entry.user or query.user in entry.also)
            and query.provider in (None, provider)
            and query.account in (None, account)
            and query.task in (None, entry.task)
            and query.outcome in (None, entry.end)
            and (query.since_ms is None or entry.at_ms >= query.since_ms)
        )

    @staticmethod
    def _candidates(raws: list[bytes], groups: list[list[bytes]]) -> list[bytes]:
        """Entries that have one text of each group."""
        for group in groups:
            together = b"\n".join(raws)
            if not any(needle in together for needle in group):
                return []
            raws = [raw for raw in raws if any(needle in raw for needle in group)]
        return raws

    def _live(self, raw: bytes, part: Part, seen_ms: float) -> Live | None:
        """An entry as an event; None if it is none that is wanted. Without an id, nobody asks."""
        query, letter = self._query, read_letter(raw, part.queue.partition(".")[0])
        message = letter.message
        queue = keys.queue(letter.provider, letter.account) if part.state == "dead" else part.queue
        if not message.id or (query.ids and message.id not in query.ids) or query.task not in (None, message.task):
            return None
        if self._key_hash is not None and message.headers.get("postback_key") != self._key_hash:
            return None
        if query.account is not None and queue.partition(".")[2] != query.account:
            return None
        people = people_of(message.task, letter.kwargs.get("event"))
        if query.user is not None and query.user not in people:
            return None
        before = DeliveryState.parse(message.headers.get(STATE_HEADER))
        due_ms = _due_ms(message, part)
        is_delayed = part.state == "waiting" and due_ms > seen_ms
        return Live(
            id=message.id,
            state="delayed" if is_delayed else part.state,
            queue=queue,
            seen_ms=seen_ms,
            task=message.task,
            user=people[0] if people else "",
            key=text_of(message.headers.get("postback_key_text")),
            key_hash=text_of(message.headers.get("postback_key")),
            grant=part.grant,
            enqueued_ms=(moment(letter.enqueued_at) or 0) * 1000,
            due_ms=due_ms if is_delayed or part.state != "waiting" else 0,
            first_ms=before.first_us / 1000 or part.granted_ms,
            ended_ms=(moment(letter.failed_at) or 0) * 1000,
            possible_duplicate=letter.possible_duplicate,
            reason=letter.reason if part.state == "dead" else "",
        )


def _due_ms(message: Message, part: Part) -> float:
    """Until when it is delayed, or held. Just sent, it is in its queue's list."""
    if part.state == "waiting":
        return (moment(message.headers.get("eta")) or 0) * 1000
    if part.state == "held":
        match = _DUE.search(text_of(message.headers.get(STATE_HEADER)))
        return float(match[1]) if match else 0
    return part.due_ms.get(message.raw, 0)


def _latest_ms(raw: bytes, part: Part) -> float:
    """When something last happened to an event, as far as its bytes say so in one look."""
    if part.state == "dead" and (match := _FAILED.search(raw)):
        return (moment(match[1].decode("ascii", "replace")) or 0) * 1000
    match = _ENQUEUED.search(raw)
    return float(match[1]) if match else 0


def _in_base64(text: bytes) -> list[bytes]:
    """The text in base64, wherever it begins in a longer one.

    Of each of the three ways, the characters that do not depend on what stands around it. Empty if
    one of them has none: then no look at base64 can rule the text out.
    """
    ways = []
    for before in range(3):
        encoded = base64.b64encode(b"\0" * before + text)
        ways.append(encoded[(8 * before + 5) // 6 : (8 * (before + len(text))) // 6])
    return ways if text and all(ways) else []
