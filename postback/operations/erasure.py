"""Removing a person's events from everything that waits, and what was answered about them.

Events wait in queues, in delayed and held sets, in halves of batches, in dead letters and in
notices of them. Answers are Celery's results. An event or an answer is a person's if one of its
fields says so: a field that its event class declares as personal (``user_id``, ``wallet_address``
…), the people of a Telegram update, and fields of the same meaning in an opaque payload or a linked
event. What cannot be read is a person's if it contains the id as a word.
"""

from __future__ import annotations

import json
import re
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import redis

from postback._events.event import EVENTS
from postback.errors import PostbackError
from postback.operations import queues
from postback.operations.messages import Message, read_message, text_of
from postback.wire import keys
from postback.wire.scripts import Script

__all__ = ["Erased", "Person", "erase"]

#: Messages, or names of results, read at a time.
PART: Final = 500
#: Results read at a time. One may be as long as a provider's longest answer.
RESULTS_PART: Final = 20
#: Grants and halves of batches unpacked at a time.
PACKED_PART: Final = 50
#: Passes over everything. Events move while they are looked for: a delayed one becomes due, a
#: failed one comes back.
PASSES: Final = 5
#: Shortest id that is looked for in text that is no JSON. A shorter one could be anything.
WORD_CHARS: Final = 6


def _comparable(name: str) -> str:
    """A field's name in lower case without ``_`` and ``-``."""
    return name.replace("_", "").replace("-", "").lower()


#: Fields that hold a person's id, as :func:`_comparable` writes them: those that events declare,
#: and names that other services use in opaque payloads.
_ID_FIELDS: Final = frozenset(
    {
        "telegramid", "tguserid", "tgid", "tgchatid", "chatid",
        "clientid", "contactid", "customerid", "subscriberid", "messengeruserid", "peerid", "fromid",
        *(_comparable(name) for event in EVENTS.values() for name in event.person_fields()),
    }
)  # fmt: skip
#: Objects whose ``id`` is a person's, as :func:`_comparable` writes them: names of Telegram and of
#: other services.
_PEOPLE: Final = frozenset(
    {
        "from", "user", "users", "chat", "senderchat", "contact", "client", "customer", "subscriber", "person", "forwardfrom",
        "newchatmember", "newchatmembers", "newchatparticipant", "leftchatmember", "leftchatparticipant", "viabot",
    }
)  # fmt: skip

_erase = Script("postback.operations", "erase")
_packed = Script("postback.operations", "packed")
_erase_packed = Script("postback.operations", "erase_packed")


@dataclass(slots=True)
class Erased:
    """What was removed.

    Attributes:
        by_place: Queue, dead-letter list or list of notices -> entries removed.
        in_flight: The person's events that are on the wire. They are not removed, and may come back
            to a queue.
        results: Removed answers that a caller might still have read.
    """

    by_place: Counter[str] = field(default_factory=Counter)
    in_flight: int = 0
    results: int = 0

    @property
    def total(self) -> int:
        """All events."""
        return self.by_place.total()

    def __add__(self, other: Erased) -> Erased:
        """Two Redis servers together."""
        return Erased(self.by_place + other.by_place, self.in_flight + other.in_flight, self.results + other.results)


def erase(
    client: redis.Redis,
    user: str,
    providers: tuple[str, ...] | None = None,
    *,
    begin: Callable[[str], object] = lambda place: None,
) -> Erased:
    """Remove a person's events and results about the person from one Redis.

    Other events keep their bytes and their order. Idempotency keys of removed events are released.
    A result does not say whose it is, so all results in this database of Redis are read.

    Args:
        client: Replies as bytes.
        user: The id as the provider knows it.
        providers: Whose accounts are looked through; None for all.
        begin: Called with each place before it is looked through: a queue, a list of dead letters,
            the results.

    Raises:
        PostbackError: There is no id to look for.
        redis.RedisError: As the client does. What was removed before stays removed; another call
            removes the rest.
    """
    if not user.strip():
        raise PostbackError("an id is needed to erase a person's events")
    person = Person(user.strip())
    names = queues.providers() if providers is None else providers
    result = Erased()
    for _ in range(PASSES):
        before = result.total
        result.in_flight = 0
        for queue in sorted(set(queues.announced(client, names)) | queues.queues_with_events(client, names)):
            begin(queue)
            _erase_account(client, queue, person, result)
        for name in names:
            for letters in (keys.dead(name), keys.dead_notices(name), keys.dead_notices_failed(name)):
                begin(letters)
                result.by_place[letters] += _erase_list(client, letters, f"{name}.", person)
        if result.total == before:
            break
    result.by_place = +result.by_place
    begin("results")
    result.results = _erase_results(client, person)
    return result


class Person:
    """Recognises the events of one person."""

    def __init__(self, user: str) -> None:
        self._user = user
        # Most messages are somebody else's. A look at the bytes spares their decoding.
        self._plain = user.encode() if re.fullmatch(r"[\x21-\x7e]+", user) and not set(user) & set('"\\/') else None
        word = rf"(?<![0-9A-Za-z]){re.escape(user)}(?![0-9A-Za-z])"
        self._word = re.compile(word.encode()) if len(user) >= WORD_CHARS else None

    def owns(self, raw: bytes) -> bool:
        """Whether an entry of a queue or a dead-letter list is about this person."""
        return self.owns_message(read_message(raw))

    def owns_message(self, message: Message) -> bool:
        """Whether an entry that was read is about this person."""
        original = message.original
        if original is not None:
            return self.owns(original)
        if not message.document:
            return self._stands_in(message.raw)
        body = message.body()
        if body is None:
            return self._stands_in(message.raw)
        compressed = message.headers.get("compression")
        if self._plain is not None and not compressed and self._plain not in body:
            return False
        parts = message.parts()
        return self._is_in(parts) if parts else self._stands_in(body)

    def owns_result(self, raw: bytes) -> bool:
        """Whether a Celery result is about this person."""
        if self._plain is not None and self._plain not in raw:
            return False
        try:
            return self._is_in(json.loads(raw))
        except (ValueError, RecursionError):
            return self._stands_in(raw)

    def _stands_in(self, text: bytes) -> bool:
        return self._word is not None and self._word.search(text) is not None

    def _is_in(self, value: Any, parent: str = "", depth: int = 0) -> bool:
        if depth > 200:
            return False
        if isinstance(value, dict):
            for key, item in value.items():
                name = _comparable(key)
                if isinstance(item, (str, int)) and str(item) == self._user:
                    if name in _ID_FIELDS or (name == "id" and parent in _PEOPLE):
                        return True
                elif self._is_in(item, name, depth + 1):
                    return True
            return False
        if isinstance(value, list):
            return any(self._is_in(item, parent, depth + 1) for item in value)
        if isinstance(value, str) and value[:1] in "{[" and self._user in value:
            # An update that is sent as text, byte for byte.
            try:
                return self._is_in(json.loads(value), parent, depth + 1)
            except (ValueError, RecursionError):
                return False
        return False


def _erase_account(client: redis.Redis, queue: str, person: Person, result: Erased) -> None:
    removed = 0
    for name in keys.priority_lists(queue):
        removed += _erase_list(client, name, queue, person)
    for name in (keys.delayed(queue), keys.held(queue)):
        owned = [raw for raw, _ in client.zscan_iter(name, count=PART) if person.owns(raw)]
        removed += _remove(client, name, queue, owned)
    result.by_place[queue] += removed + _erase_halves(client, queue, person, result)


def _erase_halves(client: redis.Redis, queue: str, person: Person, result: Erased) -> int:
    """Remove from halves of refused batches, and count what is in flight.

    Redis unpacks both in parts.
    """
    removed = 0
    place, cursor = b"0", b"0"
    while place or cursor:
        args = [place, cursor, PACKED_PART]
        grouped, flying, next_place, cursor = _packed(client, [keys.groups(queue), keys.unacked(queue)], args)
        owned = [raw for raw in grouped if person.owns(raw)]
        if owned:
            first = int(place)
            # Others take halves out meanwhile, which moves the places. So a wider span is searched.
            span = [max(0, first - PACKED_PART), first + 2 * PACKED_PART]
            removed += _erase_packed(client, [keys.groups(queue)], [*span, f"postback:{uuid.uuid4().hex}", *owned])
        result.in_flight += sum(person.owns(raw) for raw in flying)
        place = next_place
    return removed


def _erase_results(client: redis.Redis, person: Person) -> int:
    """Remove results. One that is written meanwhile stays; it expires in ten minutes."""
    removed = cursor = 0
    while True:
        scanned: Any = client.scan(cursor, match=f"{keys.RESULT_PREFIX}*", count=PART)
        cursor, names = scanned
        for start in range(0, len(names), RESULTS_PART):
            part = names[start : start + RESULTS_PART]
            values: Any = client.mget(part)
            owned = [name for name, raw in zip(part, values, strict=True) if raw and person.owns_result(raw)]
            removed += int(client.delete(*owned)) if owned else 0
        if cursor == 0:
            return removed


def _erase_list(client: redis.Redis, name: str, queue: str, person: Person) -> int:
    """Remove from one list, which is read from the left.

    New events arrive at the left, so an event may be read twice but is not missed. If a worker
    takes events out of the middle meanwhile, an event may slip by; the next pass meets it.
    """
    start = removed = 0
    while True:
        part: Any = client.lrange(name, start, start + PART - 1)
        if not part:
            return removed
        owned = dict.fromkeys(raw for raw in part if person.owns(raw))
        count = _remove(client, name, queue, list(owned), max(0, start - PART), start + 2 * PART) if owned else 0
        removed += count
        start += len(part) - count


def _remove(client: redis.Redis, name: str, queue: str, raws: list[bytes], first: int = 0, last: int = 0) -> int:
    """Remove exact entries from a sorted set, or from a list between two places."""
    removed = 0
    for start in range(0, len(raws), PART):
        args: list[Any] = [first, last, f"postback:{uuid.uuid4().hex}"]
        for raw in raws[start : start + PART]:
            message = read_message(raw)
            key = text_of(message.headers.get("postback_key"))
            # Anybody may have written the headers. Redis takes no lone surrogate, and none of our
            # keys has one.
            args += [raw, message.id.encode("utf-8", "replace"), key.encode("utf-8", "replace")]
        removed += _erase(client, [name, keys.idempotency(queue), keys.idempotency_ends(queue)], args)
    return removed
