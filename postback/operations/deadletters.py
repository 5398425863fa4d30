"""Dead letters: listed, replayed, dropped.

The list is read from its right end (the oldest) in parts of about a megabyte. Workers add at the
left, so places that are counted from the right stay. ``move_dead.lua`` moves letters, and checks
the bytes of each first. So a letter is in the list or where it was moved to, never in both, even if
a process is killed or two operators do the same at the same time.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import redis

from postback.operations.actions import event_text, operator, record_text
from postback.operations.letters import Filter, Letter, read_letter
from postback.operations.messages import for_replay, is_expired, text_of
from postback.operations.queues import announced, check_provider
from postback.wire import keys, schedule
from postback.wire.scripts import Script
from postback.wire.time import redis_now_ms

__all__ = ["Moved", "drop", "letters", "replay"]

#: Bytes of a part. Reading, checking and moving it keeps Redis busy for a few milliseconds.
PART_BYTES: Final = 1_000_000
#: Most and fewest entries of a part.
PART_MOST: Final = 1000
PART_LEAST: Final = 16

#: Every dead letter.
ALL: Final = Filter()

_move = Script("postback.operations", "move_dead")


def letters(client: redis.Redis, provider: str, chosen: Filter = ALL) -> Iterator[Letter]:
    """A provider's dead letters, the oldest first.

    Raises:
        UnknownProvider: There is no such provider.
        redis.RedisError: As the client does.
    """
    now_ms, taken = redis_now_ms(client), 0
    for part in _parts(client, check_provider(provider)):
        for letter in part.letters:
            if chosen.limit is not None and taken >= chosen.limit:
                return
            if chosen.takes(letter, now_ms):
                taken += 1
                yield letter


@dataclass(slots=True)
class Moved:
    """What a replay or a drop did, or would do.

    Attributes:
        by_queue: Queue -> how many letters. A replay counts the queue they go to, a drop the one
            they came from.
        expired: How many had an ``expires`` that has passed; a replay takes it off.
        missing: Ids of the filter that were in no letter.
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
    who: str | None = None,
) -> Moved:
    """Put dead letters back into their accounts' queues, at the back, the oldest first.

    The quota holds for them as for any event.

    Args:
        client: Replies as bytes.
        provider: Whose dead letters.
        chosen: Which of them.
        dry_run: Only count.
        progress: Called now and then with how many letters were looked at since the last call.
        who: Who does it, for the journal; None: the user of this process.

    Raises:
        UnknownProvider: There is no such provider.
        redis.RedisError: As the client does. What was moved before stays moved; doing it again
            moves the rest.
    """
    accounts = announced(client, [check_provider(provider)])
    now_ms = redis_now_ms(client)

    def moved_to(letter: Letter) -> tuple[str, str, bytes]:
        queue = _home(letter, accounts)
        raw = b"" if dry_run else for_replay(letter.message, now_ms, possible_duplicate=letter.possible_duplicate)
        return queue, letter.message.priority_list(queue), raw

    record = _recording("replay", "replayed", provider, chosen, who)
    return _each(client, provider, chosen, now_ms, moved_to, record, dry_run, progress)


def drop(
    client: redis.Redis,
    provider: str,
    chosen: Filter,
    *,
    dry_run: bool = False,
    progress: Callable[[int], object] = lambda count: None,
    who: str | None = None,
) -> Moved:
    """Delete dead letters for good. Arguments are those of :func:`replay`.

    Raises:
        UnknownProvider: There is no such provider.
        redis.RedisError: As the client does. What was dropped before stays dropped.
    """
    now_ms = redis_now_ms(client)
    check_provider(provider)
    record = _recording("drop", "dropped", provider, chosen, who)
    return _each(client, provider, chosen, now_ms, lambda letter: (_from(letter), "", b""), record, dry_run, progress)


def _recording(action: str, end: str, provider: str, chosen: Filter, who: str | None) -> Callable[[], str]:
    """Makes the record of one call of the script. All its events have this end, and who did it."""
    by = who or operator()
    place = keys.queue(provider, chosen.account) if chosen.account else provider
    return lambda: record_text(action, place, by, end=end, reason=by)


def _home(letter: Letter, accounts: Iterable[str]) -> str:
    """The queue of the account that a letter belongs to."""
    named = keys.queue(letter.provider, text_of(letter.kwargs.get("account")))
    if letter.reason == "unknown_account" and named in accounts:
        return named  # it was in another account's queue; its own exists by now
    if letter.account:
        return _from(letter)
    names = list(accounts)
    return names[0] if len(names) == 1 else keys.queue(letter.provider, "main")


def _from(letter: Letter) -> str:
    return keys.queue(letter.provider, letter.account) if letter.account else letter.provider


@dataclass(slots=True)
class _Part:
    """Entries that are read together.

    Attributes:
        passed: How many older entries stay in the list behind them.
        taken: How many of these were taken out; the next part begins that much earlier.
        stale: The list has changed at its right end, so reading begins anew.
    """

    passed: int
    letters: list[Letter]
    taken: int = 0
    stale: bool = False


def _parts(client: redis.Redis, provider: str) -> Iterator[_Part]:
    """The dead letters that are in the list now, the oldest first. Later ones are not read."""
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
    record: Callable[[], str],
    dry_run: bool,
    progress: Callable[[int], object],
) -> Moved:
    """Move the letters that pass the filter.

    Args:
        client: Replies as bytes.
        provider: Whose dead letters.
        chosen: The filter.
        now_ms: Redis' clock.
        moved_to: For a letter the queue to count it under, the list to push to ("" for none), and
            what to push.
        record: Makes a record for the journal.
        dry_run: Only count.
        progress: Called with how many letters were looked at since the last call.
    """
    done, moved_ids, begun_anew = set[object](), set[str](), False
    result = Moved()
    for part in _parts(client, provider):
        lists = [keys.dead(provider), keys.journal(provider)]
        args: list[Any] = [part.passed, len(part.letters), f"postback:{uuid.uuid4().hex}", record()]
        taken: dict[int, tuple[Letter, str]] = {}
        for place, letter in enumerate(part.letters, 1):
            if chosen.limit is not None and result.total + len(taken) >= chosen.limit:
                break
            # A replayed letter may have died again. After a new beginning it is met once more, and
            # must not be replayed twice.
            if not chosen.takes(letter, now_ms) or (begun_anew and letter.key in done):
                continue
            queue, target, raw = moved_to(letter)
            if target and target not in lists[2:]:
                lists.append(target)
            done.add(letter.key)
            taken[place] = (letter, queue)
            number = lists.index(target, 2) + 1 if target else 0
            args += [place, letter.message.raw, number, raw, b"" if dry_run else event_text(letter, queue)]
        if taken:
            moved = list(taken) if dry_run else _move(client, lists, args)
            if moved and not dry_run:
                schedule.due(client, dict.fromkeys(keys.queue_of(name) for name in lists[2:]), "sent")
            part.stale = len(moved) < len(taken)
            begun_anew = begun_anew or part.stale
            part.taken = 0 if dry_run else len(moved)
            for place in moved:
                letter, queue = taken.pop(place)
                result.by_queue[queue] += 1
                result.expired += is_expired(letter.message, now_ms)
                moved_ids.add(letter.message.id)
            for letter, _ in taken.values():
                done.discard(letter.key)
        progress(len(part.letters))
        if chosen.limit is not None and result.total >= chosen.limit:
            break
        if chosen.ids and chosen.ids <= moved_ids:
            break
    result.missing = chosen.ids - moved_ids
    return result
