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
from postback.operations.places import PACKED_PART, Part, accounts, entries, of_account
from postback.wire import keys
from postback.wire.scripts import Script

__all__ = ["Erased", "erase"]

#: Messages removed at a time, and names of results read at a time.
PART: Final = 500
#: Results read at a time. One may be as long as a provider's longest answer.
RESULTS_PART: Final = 20
#: Passes over everything. Events move while they are looked for: a delayed one becomes due, a
#: failed one comes back.
PASSES: Final = 5

_erase = Script("postback.operations", "erase")
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
        for queue in accounts(client, names):
            begin(queue)
            result.by_place[queue] += search.account(queue)
        for name in names:
            for letters in (keys.dead(name), keys.dead_notices(name), keys.dead_notices_failed(name)):
                begin(letters)
                result.by_place[letters] += search.letters(letters, name)
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
        return sum(self._part(part) for part in of_account(self._client, queue))

    def letters(self, name: str, provider: str) -> int:
        """One list of dead letters, or of notices of them."""
        return sum(self._part(part) for part in entries(self._client, name, f"{provider}.", "dead"))

    def _part(self, part: Part) -> int:
        owned = [raw for raw in part.raws if self._person.owns(raw)]
        if part.state == "in_flight":
            self.result.in_flight += len(owned)
            return 0
        if self._dry_run or not owned:
            return len(owned)
        part.taken = self._halves(part, owned) if part.key == keys.groups(part.queue) else self._remove(part, owned)
        return part.taken

    def _halves(self, part: Part, raws: list[bytes]) -> int:
        """Remove messages from halves of refused batches.

        Others take halves out meanwhile, which moves the places. So a wider span is searched.
        """
        span = [max(0, part.first - PACKED_PART), part.first + 2 * PACKED_PART]
        args = [*span, f"postback:{uuid.uuid4().hex}", *raws]
        return int(_erase_packed(self._client, [part.key], args))

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

    def _remove(self, part: Part, raws: list[bytes]) -> int:
        """Remove exact entries from a sorted set, or from a list between two places."""
        removed, size, different = 0, len(part.raws), list(dict.fromkeys(raws))
        for start in range(0, len(different), PART):
            # Others move the places meanwhile.
            args: list[Any] = [max(0, part.first - size), part.first + 2 * size, f"postback:{uuid.uuid4().hex}"]
            for raw in different[start : start + PART]:
                message = read_message(raw)
                key = text_of(message.headers.get("postback_key"))
                # Anybody may have written the headers. Redis takes no lone surrogate, and none of
                # our keys has one.
                args += [raw, message.id.encode("utf-8", "replace"), key.encode("utf-8", "replace")]
            idem, ends = keys.idempotency(part.queue), keys.idempotency_ends(part.queue)
            removed += int(_erase(self._client, [part.key, idem, ends], args))
        return removed
