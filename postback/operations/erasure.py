"""Removing a person's events from everything that waits, and what was answered about them.

Events wait in queues, in delayed and held sets, in halves of batches, in dead letters and in
notices of them. Answers are Celery's results.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import redis

from postback.errors import PostbackError
from postback.operations import queues
from postback.operations.actions import note, record_text
from postback.operations.messages import read_message, text_of
from postback.operations.person import Person
from postback.wire import keys
from postback.wire.scripts import Script

__all__ = ["Erased", "erase"]

#: Messages, or names of results, read at a time.
PART: Final = 500
#: Results read at a time. One may be as long as a provider's longest answer.
RESULTS_PART: Final = 20
#: Grants and halves of batches unpacked at a time.
PACKED_PART: Final = 50
#: Passes over everything. Events move while they are looked for: a delayed one becomes due, a
#: failed one comes back.
PASSES: Final = 5

_erase = Script("postback.operations", "erase")
_packed = Script("postback.operations", "packed")
_erase_packed = Script("postback.operations", "erase_packed")


@dataclass(slots=True)
class Erased:
    """What was removed, or would be.

    Attributes:
        by_place: Queue, dead-letter list or list of notices -> its entries.
        in_flight: The person's events that are on the wire. They are not removed, and may come back
            to a queue.
        results: Answers that a caller might still read.
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

    def as_json(self) -> dict[str, Any]:
        """For machines. It does not say who the person is."""
        return {
            "events": self.total,
            "by_place": dict(sorted(self.by_place.items())),
            "results": self.results,
            "in_flight": self.in_flight,
        }


def erase(
    client: redis.Redis,
    user: str,
    providers: tuple[str, ...] | None = None,
    *,
    dry_run: bool = False,
    begin: Callable[[str], object] = lambda place: None,
    who: str | None = None,
) -> Erased:
    """Remove a person's events and results about the person from one Redis.

    Other events keep their bytes and their order. Idempotency keys of removed events are released.
    A result does not say whose it is, so all results in this database of Redis are read.

    Args:
        client: Replies as bytes.
        user: The id as the provider knows it.
        providers: Whose accounts are looked through; None for all.
        dry_run: Only count. An event that moves meanwhile may count twice or not at all.
        begin: Called with each place before it is looked through: a queue, a list of dead letters,
            the results.
        who: Who erases, for the journal; None: the user of this process. The journal gets counts
            only.

    Raises:
        PostbackError: There is no id to look for.
        redis.RedisError: As the client does. What was removed before stays removed; another call
            removes the rest.
    """
    if not user.strip():
        raise PostbackError("an id is needed to erase a person's events")
    names = queues.providers() if providers is None else providers
    search = _Search(client, Person(user.strip()), dry_run)
    result = search.result
    for _ in range(1 if dry_run else PASSES):
        before = result.total
        result.in_flight = 0
        for queue in sorted(set(queues.announced(client, names)) | queues.queues_with_events(client, names)):
            begin(queue)
            result.by_place[queue] += search.account(queue)
        for name in names:
            for letters in (keys.dead(name), keys.dead_notices(name), keys.dead_notices_failed(name)):
                begin(letters)
                result.by_place[letters] += search.entries(letters, f"{name}.")
        if result.total == before:
            break
    result.by_place = +result.by_place
    begin("results")
    result.results = search.results()
    if not dry_run:
        _note(client, result, names, who)
    return result


def _note(client: redis.Redis, result: Erased, names: tuple[str, ...], who: str | None) -> None:
    """Tell the journals how many entries were removed. A result does not say its provider."""
    for name in names:
        events = sum(count for place, count in result.by_place.items() if place.startswith(f"{name}."))
        if events or result.results:
            detail = f"events removed: {events:,}; results removed, of any provider: {result.results:,}"
            note(client, name, record_text("erase", name, who, detail=detail))


class _Search:
    """Looks for one person in one Redis. Each method returns how many entries it has removed.

    Args:
        client: Replies as bytes.
        person: Whose entries.
        dry_run: Remove none, and return how many there are.
    """

    def __init__(self, client: redis.Redis, person: Person, dry_run: bool) -> None:
        self._client = client
        self._person = person
        self._dry_run = dry_run
        self.result = Erased()

    def account(self, queue: str) -> int:
        """Everything of one account; counts what is in flight."""
        removed = sum(self.entries(name, queue) for name in keys.priority_lists(queue))
        for name in (keys.delayed(queue), keys.held(queue)):
            members = self._client.zscan_iter(name, count=PART)
            removed += self._remove(name, queue, list({raw for raw, _ in members if self._person.owns(raw)}))
        return removed + self._halves(queue)

    def _halves(self, queue: str) -> int:
        """Halves of refused batches, and what is in flight. Redis unpacks both in parts."""
        removed = 0
        place, cursor = b"0", b"0"
        while place or cursor:
            args = [place, cursor, PACKED_PART]
            grouped, flying, next_place, cursor = _packed(self._client, [keys.groups(queue), keys.unacked(queue)], args)
            owned = [raw for raw in grouped if self._person.owns(raw)]
            if self._dry_run:
                removed += len(owned)
            elif owned:
                first = int(place)
                # Others take halves out meanwhile, which moves the places. So a wider span is
                # searched.
                span = [max(0, first - PACKED_PART), first + 2 * PACKED_PART]
                args = [*span, f"postback:{uuid.uuid4().hex}", *owned]
                removed += _erase_packed(self._client, [keys.groups(queue)], args)
            self.result.in_flight += sum(self._person.owns(raw) for raw in flying)
            place = next_place
        return removed

    def results(self) -> int:
        """Results. One that is written meanwhile stays; it expires in ten minutes."""
        removed = cursor = 0
        while True:
            scanned: Any = self._client.scan(cursor, match=f"{keys.RESULT_PREFIX}*", count=PART)
            cursor, names = scanned
            for start in range(0, len(names), RESULTS_PART):
                part = names[start : start + RESULTS_PART]
                values: Any = self._client.mget(part)
                owned = [name for name, raw in zip(part, values, strict=True) if raw and self._person.owns_result(raw)]
                if owned:
                    removed += len(owned) if self._dry_run else int(self._client.delete(*owned))
            if cursor == 0:
                return removed

    def entries(self, name: str, queue: str) -> int:
        """One list, which is read from the left.

        New events arrive at the left, so an event may be read twice but is not missed. If a worker
        takes events out of the middle meanwhile, an event may slip by; the next pass meets it.
        """
        start = removed = 0
        while True:
            part: Any = self._client.lrange(name, start, start + PART - 1)
            if not part:
                return removed
            owned = [raw for raw in part if self._person.owns(raw)]
            count = self._remove(name, queue, owned, max(0, start - PART), start + 2 * PART)
            removed += count
            start += len(part) - (0 if self._dry_run else count)

    def _remove(self, name: str, queue: str, raws: list[bytes], first: int = 0, last: int = 0) -> int:
        """Remove exact entries from a sorted set, or from a list between two places."""
        if self._dry_run:
            return len(raws)
        removed = 0
        different = list(dict.fromkeys(raws))
        for start in range(0, len(different), PART):
            args: list[Any] = [first, last, f"postback:{uuid.uuid4().hex}"]
            for raw in different[start : start + PART]:
                message = read_message(raw)
                key = text_of(message.headers.get("postback_key"))
                # Anybody may have written the headers. Redis takes no lone surrogate, and none of
                # our keys has one.
                args += [raw, message.id.encode("utf-8", "replace"), key.encode("utf-8", "replace")]
            removed += _erase(self._client, [name, keys.idempotency(queue), keys.idempotency_ends(queue)], args)
        return removed
