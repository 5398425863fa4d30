"""Everything in Redis that holds events, read in parts.

A part keeps Redis busy for a few milliseconds. Events move while they are read. A walk goes their
way: what is delayed first, then the queues, then what is in flight. So most are met where they were
or where they are now. One may be met twice; one that others move back may slip by.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import redis

from postback.journal.life import LIVE, State
from postback.operations.queues import announced, queues_with_events
from postback.wire import keys
from postback.wire.scripts import Script

__all__ = ["Part", "accounts", "entries", "fitting", "of_account"]

#: Bytes of a part.
PART_BYTES: Final = 1_000_000
#: Most and fewest entries of a part, and of the first one.
PART_MOST: Final = 1000
PART_LEAST: Final = 16
PART_FIRST: Final = 200
#: Grants and halves of batches unpacked at a time.
PACKED_PART: Final = 50

_packed = Script("postback.operations", "packed")


@dataclass(slots=True)
class Part:
    """Entries that were read together.

    Attributes:
        key: The Redis key that holds them.
        queue: Their account's; of dead letters the provider.
        state: What an event is that stands there.
        raws: The entries.
        first: Place of the first one in its list.
        due_ms: Of a sorted set: entry -> its score.
        grant: The grant that carries them; empty: none.
        granted_ms: When it was granted.
        taken: How many of them the reader has taken out.
    """

    key: str
    queue: str
    state: State
    raws: list[bytes]
    first: int = 0
    due_ms: dict[bytes, float] = field(default_factory=dict)
    grant: str = ""
    granted_ms: float = 0
    taken: int = 0


def accounts(client: redis.Redis, names: Iterable[str]) -> list[str]:
    """Queues of some providers' accounts that are announced or hold events, sorted.

    Raises:
        redis.RedisError: As the client does.
    """
    wanted = list(names)
    return sorted(set(announced(client, wanted)) | queues_with_events(client, wanted))


def of_account(client: redis.Redis, queue: str, states: Collection[str] = LIVE) -> Iterator[Part]:
    """Everything of one account that holds events in some of the live states.

    Raises:
        redis.RedisError: As the client does.
    """
    if "delayed" in states:
        yield from _members(client, keys.delayed(queue), queue, "delayed")
    if "held" in states:
        yield from _members(client, keys.held(queue), queue, "held")
    if "waiting" in states:
        for name in keys.priority_lists(queue):
            yield from entries(client, name, queue, "waiting")
    if not {"waiting", "in_flight"}.isdisjoint(states):
        yield from _unpacked(client, queue)


def entries(client: redis.Redis, name: str, queue: str, state: State) -> Iterator[Part]:
    """One list, which is read from the left.

    New entries arrive at the left, so one may be read twice but is not missed. If somebody takes
    entries out of the middle meanwhile, one may slip by.

    Raises:
        redis.RedisError: As the client does.
    """
    start, size = 0, PART_FIRST
    while True:
        raws: Any = client.lrange(name, start, start + size - 1)
        if not raws:
            return
        part = Part(name, queue, state, raws, first=start)
        yield part
        start += len(raws) - part.taken
        size = fitting(raws)


def _members(client: redis.Redis, name: str, queue: str, state: State) -> Iterator[Part]:
    """One sorted set, in no order."""
    cursor, size = 0, PART_FIRST
    while True:
        scanned: Any = client.zscan(name, cursor, count=size)
        cursor, members = scanned
        if members:
            scores = dict(members)
            yield Part(name, queue, state, list(scores), due_ms=scores)
            size = fitting(list(scores))
        if cursor == 0:
            return


def _unpacked(client: redis.Redis, queue: str) -> Iterator[Part]:
    """Halves of refused batches, and what is in flight. Redis unpacks both."""
    groups, unacked = keys.groups(queue), keys.unacked(queue)
    place, cursor = b"0", b"0"
    while place or cursor:
        halves, grants, next_place, cursor = _packed(client, [groups, unacked], [place, cursor, PACKED_PART])
        if halves:
            yield Part(groups, queue, "waiting", halves, first=int(place))
        for grant, granted_ms, *raws in grants:
            yield Part(unacked, queue, "in_flight", raws, grant=grant.decode(), granted_ms=float(granted_ms))
        place = next_place


def fitting(raws: list[bytes]) -> int:
    """How many entries the next part should have, if they are as long as these."""
    return max(PART_LEAST, min(PART_MOST, PART_BYTES * len(raws) // (sum(map(len, raws)) + 1)))
