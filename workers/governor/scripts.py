"""What the governor's scripts are given and what they reply: the order of their keys, and their replies by name."""

from __future__ import annotations

from enum import StrEnum
from functools import cache
from itertools import accumulate
from typing import Any, NamedTuple

from postback.wire import keys
from postback.wire.scripts import named


class State(StrEnum):
    """Why a TAKE brought no more."""

    #: Nothing stands against it: ask again.
    MORE = "more"
    #: Nothing is there to take.
    EMPTY = "empty"
    #: The account pauses.
    PAUSED = "paused"
    #: Nothing until some answer is in.
    BLOCKED = "blocked"
    #: A quota window is full.
    SPENT = "spent"
    #: A batch is filling; new events may end the wait.
    FILLING = "filling"
    #: The schedule says otherwise: another worker has just asked.
    CLOSED = "closed"


class TakenGrant(NamedTuple):
    """One grant in TAKE's reply."""

    id: str
    #: Microseconds of the Redis clock.
    granted_us: int
    #: A half of a refused batch.
    group: bool
    raws: list[bytes]
    #: Messages of the other half.
    siblings: list[bytes]
    #: For each of its own messages the id of the event that owns its idempotency key, or ''.
    owners: list[bytes]
    #: Which of its own messages somebody has revoked, from 1.
    revoked: list[int]


class TakeReply(NamedTuple):
    """TAKE's reply; see ``workers/governor/lua/take.lua``."""

    state: State
    grants: list[TakenGrant]
    #: How long the state lasts; None where it is not known.
    wait_ms: int | None = None
    #: With :attr:`State.EMPTY`: until something that waits becomes due; None if nothing does.
    due_ms: int | None = None
    #: The account is in outage.
    outage: bool = False
    #: Reason, detail and end of a pause that is to be told of.
    pause: dict[str, Any] | None = None


def take_reply(reply: list[Any]) -> TakeReply:
    """Read TAKE's reply."""
    values = named(reply)
    pause = values.get("pause")
    return TakeReply(
        State(values["state"].decode()),
        [_taken_grant(named(grant)) for grant in values["grants"]],
        values.get("wait_ms"),
        values.get("due_ms"),
        "outage" in values,
        named(pause) if pause else None,
    )


def _taken_grant(values: dict[str, Any]) -> TakenGrant:
    text = values["messages"]
    own = values.get("bytes", b"%d" % len(text)).split()
    lengths = [int(length) for length in (*own, *values.get("sibling_bytes", b"").split())]
    raws = [text[end - length : end] for length, end in zip(lengths, accumulate(lengths), strict=True)]
    return TakenGrant(
        values["id"].decode(),
        values["granted_us"],
        "half" in values,
        raws[: len(own)],
        raws[len(own) :],
        values.get("owners") or [b""] * len(own),
        values.get("revoked") or [],
    )


def provider_of(queue: str) -> str:
    """Whose an account is."""
    return queue.partition(".")[0]


@cache
def provider_keys(provider: str) -> tuple[str, ...]:
    """The first KEYS of every account script, in the order of ``workers/governor/lua/include/keys.lua``."""
    return (
        keys.dead(provider),
        keys.REVOKED,
        keys.schedule(provider),
        keys.timers(provider),
        keys.buried(provider),
        keys.dead_notices(provider),
    )


@cache
def account_keys(queue: str, quota: str, credential: str) -> tuple[str, ...]:
    """An account's KEYS, which follow those.

    Args:
        queue: The account's.
        quota: Names its quota.
        credential: Names its credential.
    """
    provider = provider_of(queue)
    return (
        *keys.account(queue),
        keys.idempotency(queue),
        keys.idempotency_ends(queue),
        keys.quota(provider, quota),
        keys.credential(provider, credential),
    )


def look_keys(provider: str) -> tuple[str, ...]:
    """KEYS of the script ``look``."""
    return keys.schedule(provider), keys.timers(provider)


def script_keys(queue: str, quota: str, credential: str) -> tuple[str, ...]:
    """KEYS of a script that works for one account."""
    return (*provider_keys(provider_of(queue)), *account_keys(queue, quota, credential))
