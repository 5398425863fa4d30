"""Dead letters: listed, filtered, replayed, dropped.

The list is read from its right end (the oldest) in parts of about a megabyte; workers add at the left, so places counted
from the right stay. What is to be moved is moved by ``move_dead.lua``, which checks each entry's bytes: whatever is killed
and whoever does the same at the same time, a letter is in the list or where it was moved to, never in both.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import redis

from postback._events.account_names import is_account_name
from postback.operations.letters import Filter, Letter, read_letter
from postback.operations.messages import for_replay, is_expired, text_of
from postback.operations.queues import announced, check_provider
from postback.wire import keys, schedule
from postback.wire.scripts import Script
from postback.wire.time import redis_now_ms

#: Bytes of a part; reading, checking and moving it keeps Redis for some milliseconds.
PART_BYTES: Final = 1_000_000
#: Most and fewest entries of a part.
PART_MOST: Final = 1000
PART_LEAST: Final = 16
#: Entries that one COUNT_DEAD looks at.
COUNT_PART: Final = 1000

#: Every dead letter.
ALL: Final = Filter()

_move = Script("postback.operations", "move_dead")
_count = Script("postback.operations", "count_dead")


def letters(client: redis.Redis, provider: str, chosen: Filter = ALL) -> Iterator[Letter]:
    """A provider's dead letters, the oldest first.

    Raises:
        UnknownProvider: There is no such provider.
        redis.RedisError: As the client does.
    """
    now_ms, found = redis_now_ms(client), 0
    for part in _parts(client, check_provider(provider)):
        for letter in part.letters:
            if chosen.limit is not None and found >= chosen.limit:
                return
            if chosen.takes(letter, now_ms):
                found += 1
                yield letter


@dataclass(frozen=True, slots=True)
class DeadCount:
    """How many dead letters a provider has, by ``(queue, reason)``; the queue is empty where a letter does not say it."""

    by_queue_and_reason: Counter[tuple[str, str]]

    @property
    def total(self) -> int:
        """All of them."""
        return self.by_queue_and_reason.total()

    def of(self, queue: str) -> int:
        """Those of one account."""
        return sum(count for (name, _), count in self.by_queue_and_reason.items() if name == queue)

    def reasons(self, queue: str | None = None) -> Counter[str]:
        """Reason -> how many, of one account or of all."""
        counts: Counter[str] = Counter()
        for (name, reason), count in self.by_queue_and_reason.items():
            if queue is None or name == queue:
                counts[reason] += count
        return counts


def count(client: redis.Redis, provider: str) -> DeadCount:
    """Count dead letters where they are: about 3 us each of Redis time, a thousand at a time.

    Raises:
        redis.RedisError: As the client does.
    """
    name = keys.dead(check_provider(provider))
    counts: Counter[tuple[str, str]] = Counter()
    for end in range(client.llen(name), 0, -COUNT_PART):
        reply = _count(client, [name], [-end, -max(1, end - COUNT_PART + 1)])
        for told, number in zip(reply[::2], reply[1::2], strict=True):
            queue, _, reason = told.decode("utf-8", "replace").partition(" ")
            account = queue.partition(".")[2]
            counts[queue if queue.startswith(f"{provider}.") and is_account_name(account) else "", reason] += number
    return DeadCount(counts)


def notices(client: redis.Redis, providers: Iterable[str]) -> dict[str, int]:
    """Provider -> dead letters of which ``POSTBACK_ON_DEAD`` has not been told yet.

    Raises:
        redis.RedisError: As the client does.
    """
    names = list(providers)
    pipeline = client.pipeline(transaction=False)
    for name in names:
        pipeline.llen(keys.dead_notices(name))
        pipeline.llen(keys.dead_notices_failed(name))
    lengths = pipeline.execute()
    return {name: new + failed for name, new, failed in zip(names, lengths[::2], lengths[1::2], strict=True)}


@dataclass(slots=True)
class Moved:
    """What a replay or a drop did, or would do.

    Attributes:
        by_queue: Queue -> letters, in the order in which they were met; a drop counts them by the queue they came from.
        expired: How many had an ``expires`` that has passed; a replay takes it off.
        missing: Ids that were asked for and not found.
    """

    by_queue: Counter[str] = field(default_factory=Counter)
    expired: int = 0
    missing: frozenset[str] = frozenset()

    @property
    def total(self) -> int:
        """All of them."""
        return self.by_queue.total()


def replay(
    client: redis.Redis,
    provider: str,
    chosen: Filter,
    *,
    dry_run: bool = False,
    progress: Callable[[int], object] = lambda count: None,
) -> Moved:
    """Put dead letters back into their accounts' queues, at the back, the oldest first; so the quota holds for them.

    Args:
        client: Replies as bytes.
        provider: Whose dead letters.
        chosen: Which of them.
        dry_run: Only count.
        progress: Called now and then with how many letters were looked at since the last call.

    Raises:
        UnknownProvider: There is no such provider.
        redis.RedisError: As the client does. What was moved before stays moved; doing it again moves the rest.
    """
    accounts = announced(client, [check_provider(provider)])
    now_ms = redis_now_ms(client)

    def moved_to(letter: Letter) -> tuple[str, str, bytes]:
        queue = _home(letter, accounts)
        raw = b"" if dry_run else for_replay(letter.message, now_ms, possible_duplicate=letter.possible_duplicate)
        return queue, letter.message.priority_list(queue), raw

    return _each(client, provider, chosen, now_ms, moved_to, dry_run, progress)


def drop(
    client: redis.Redis,
    provider: str,
    chosen: Filter,
    *,
    dry_run: bool = False,
    progress: Callable[[int], object] = lambda count: None,
) -> Moved:
    """Delete dead letters for good. Arguments are those of :func:`replay`.

    Raises:
        UnknownProvider: There is no such provider.
        redis.RedisError: As the client does. What was dropped before stays dropped.
    """
    now_ms = redis_now_ms(client)
    check_provider(provider)
    return _each(client, provider, chosen, now_ms, lambda letter: (_from(letter), "", b""), dry_run, progress)


def _home(letter: Letter, accounts: Iterable[str]) -> str:
    """The queue of the account that a letter belongs to."""
    named = keys.queue(letter.provider, text_of(letter.kwargs.get("account")))
    if letter.reason == "unknown_account" and named in accounts:
        return named  # it lay in another account's queue; its own exists by now
    if letter.account:
        return _from(letter)
    known = list(accounts)
    return known[0] if len(known) == 1 else keys.queue(letter.provider, "main")


def _from(letter: Letter) -> str:
    return keys.queue(letter.provider, letter.account) if letter.account else letter.provider


@dataclass(slots=True)
class _Part:
    """Entries read together: ``passed`` older ones are left in the list behind them."""

    passed: int
    letters: list[Letter]
    #: How many of them were taken out of the list, so that the next part begins there.
    taken: int = 0
    #: The list has changed on the right: begin anew.
    stale: bool = False


def _parts(client: redis.Redis, provider: str) -> Iterator[_Part]:
    """The dead letters that there are now, the oldest first; later ones are not met."""
    name = keys.dead(provider)
    left = client.llen(name)
    passed, size = 0, 64
    while left > 0:
        wanted = min(size, left)
        raws: Any = client.lrange(name, -(passed + wanted), -(passed + 1))
        if not raws:
            return
        part = _Part(passed, [read_letter(raw, provider) for raw in reversed(raws)])
        yield part
        if part.stale:
            passed, left = 0, client.llen(name)
            continue
        passed += len(raws) - part.taken
        left -= len(raws)
        size = max(PART_LEAST, min(PART_MOST, PART_BYTES * len(raws) // (sum(map(len, raws)) + 1)))


def _each(
    client: redis.Redis,
    provider: str,
    chosen: Filter,
    now_ms: float,
    moved_to: Callable[[Letter], tuple[str, str, bytes]],
    dry_run: bool,
    progress: Callable[[int], object],
) -> Moved:
    """Move what the filter takes; ``moved_to`` says the queue to count it under, the list to push to or "", and what."""
    done, found, begun_anew = set[object](), set[str](), False
    result = Moved()
    for part in _parts(client, provider):
        lists = [keys.dead(provider)]
        args: list[Any] = [part.passed, len(part.letters), f"postback:{uuid.uuid4().hex}"]
        taken: dict[int, tuple[Letter, str]] = {}
        for place, letter in enumerate(part.letters, 1):
            if chosen.limit is not None and result.total + len(taken) >= chosen.limit:
                break
            # Begun anew, it meets letters that it has replayed and that died again: they are not replayed twice.
            if not chosen.takes(letter, now_ms) or (begun_anew and letter.key in done):
                continue
            queue, target, raw = moved_to(letter)
            if target and target not in lists[1:]:
                lists.append(target)
            done.add(letter.key)
            taken[place] = (letter, queue)
            args += [place, letter.message.raw, lists.index(target, 1) + 1 if target else 0, raw]
        if taken:
            moved = list(taken) if dry_run else _move(client, lists, args)
            if moved and not dry_run:
                schedule.due(client, dict.fromkeys(keys.queue_of(name) for name in lists[1:]), "sent")
            part.stale = len(moved) < len(taken)
            begun_anew = begun_anew or part.stale
            part.taken = 0 if dry_run else len(moved)
            for place in moved:
                letter, queue = taken.pop(place)
                result.by_queue[queue] += 1
                result.expired += is_expired(letter.message, now_ms)
                found.add(letter.message.id)
            for letter, _ in taken.values():
                done.discard(letter.key)
        progress(len(part.letters))
        if chosen.limit is not None and result.total >= chosen.limit:
            break
        if chosen.ids and chosen.ids <= found:
            break
    result.missing = chosen.ids - found
    return result
