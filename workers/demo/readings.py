"""One account's numbers.

Redis says what waits and what is dead, as ``postback status`` reads it. The sandbox says what
arrived.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import redis

from postback.operations import AccountStatus, letters, snapshot
from workers.demo.scenario import CAST, PROVIDERS, Cast


@dataclass(frozen=True)
class Reading:
    """What is known of an account now.

    Attributes:
        delivered: Events that the provider has recorded or answered.
        waiting: Events in Redis that are not on the wire.
        in_flight: Events on the wire.
        dead: What its dead letters say.
        until: When the next waiting event may go, seconds of the epoch; None if that is up to an
            operator.
        reason: Why they wait: ``quota``, ``credentials``, ``outage`` …; empty if nothing holds
            them.
        requests: Requests that the provider has seen.
        recording: Those of them that recorded something.
        recorded: Events that the provider has recorded.
        too_many: Answers with 429.
    """

    delivered: int
    waiting: int
    in_flight: int
    dead: tuple[str, ...]
    until: float | None
    reason: str
    requests: int
    recording: int
    recorded: int
    too_many: int


def read_all(client: redis.Redis, stats: Mapping[str, Any]) -> dict[str, Reading]:
    """Read all accounts.

    Args:
        client: Replies as bytes.
        stats: The sandbox's counts.

    Returns:
        Queue -> its reading.
    """
    seen = snapshot(client, PROVIDERS)
    dead: dict[str, list[str]] = {}
    for provider in PROVIDERS:
        for letter in letters(client, provider):
            words = (letter.reason, letter.header.get("status"), letter.header.get("detail"))
            dead.setdefault(f"{provider}.{letter.account}", []).append(" ".join(str(part) for part in words if part))
    return {cast.queue: _reading(cast, seen.of(cast.queue), dead.get(cast.queue, []), stats) for cast in CAST}


def _reading(cast: Cast, status: AccountStatus | None, dead: list[str], stats: Mapping[str, Any]) -> Reading:
    counts = stats["providers"].get(cast.provider, {"keys": {}})["keys"].get(cast.fingerprint, {})
    until, reason = _held(status) if status else (0.0, "")
    return Reading(
        delivered=status.delivered if status else 0,
        waiting=status.queued + status.delayed if status else 0,
        in_flight=status.in_flight if status else 0,
        dead=tuple(dead),
        until=until,
        reason=reason,
        requests=counts.get("requests", 0),
        recording=counts.get("recorded", 0),
        recorded=counts.get("events", 0),
        too_many=counts.get("429", 0),
    )


def _held(status: AccountStatus) -> tuple[float | None, str]:
    """When the account may send again, and what holds it."""
    now_s = status.log.now_ms / 1000
    if status.paused:
        return (None if status.paused.until_ms is None else status.paused.until_ms / 1000), status.paused.reason
    spent = list(_waits_s(status))
    return (now_s + max(spent), "quota") if spent else (now_s, "")


def _waits_s(status: AccountStatus) -> Iterator[float]:
    return (usage.resets_in_s for usage in status.usage if not usage.remaining)
