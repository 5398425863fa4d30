"""Which accounts there are: those that workers announce, and queues that hold events."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import redis

from postback._events.account_names import is_account_name
from postback._events.event import EVENTS
from postback._send.directory import read_announcement
from postback.errors import PostbackError
from postback.wire import keys
from postback.wire.windows import Window

__all__ = [
    "ALIVE_S",
    "Announced",
    "UnknownProvider",
    "Worker",
    "announced",
    "check_provider",
    "providers",
    "queues_with_events",
    "served",
    "workers",
]

#: Seconds of silence after which a worker counts as gone. It announces itself every 2.5 s.
ALIVE_S: Final = 9.0
#: Keys that one SCAN step looks at.
SCAN_COUNT: Final = 2000

#: Keys that hold an account's events, by suffix; the lists of priority steps have none.
_HOLDING: Final = frozenset({"delayed", "held", "groups", "unacked"})


class UnknownProvider(PostbackError, LookupError):
    """There is no such provider.

    Attributes:
        provider: The word in its place.
    """

    def __init__(self, provider: str) -> None:
        self.provider = provider
        super().__init__(f"{provider[:80]!r} is not a provider; providers are {', '.join(providers())}")

    def __str__(self) -> str:
        # LookupError would print the repr of its argument.
        return str(self.args[0])


@dataclass(frozen=True, slots=True)
class Announced:
    """What a provider's workers say of an account.

    Attributes:
        at_ms: When they said so, by Redis' clock; 0 if their heartbeat says that they serve it.
        windows: The account's quota; empty if none is known.
        batch_max: Most events in one request.
        max_queued: Most events that producers may let wait; 0: no cap.
        quota: Names its quota, see ``keys.quota``; empty from an older worker.
        credential: Names its credential: a keyed fingerprint (ADR 33); empty from an older worker.
    """

    queue: str
    at_ms: float
    windows: tuple[Window, ...]
    batch_max: int
    max_queued: int = 0
    quota: str = ""
    credential: str = ""


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker process that has announced itself within :data:`ALIVE_S`.

    Attributes:
        provider: Whose accounts it serves; empty for all.
        metrics: Where its metrics are, ``host:port``; empty if it serves none.
        serves: Names its accounts, see ``keys.served``; empty from an older worker.
    """

    name: str
    provider: str
    at_ms: float
    pid: int
    metrics: str = ""
    serves: str = ""


def providers() -> tuple[str, ...]:
    """All providers that have events."""
    return tuple(dict.fromkeys(event.provider for event in EVENTS.values()))


def check_provider(name: str) -> str:
    """Refuse a name that is no provider's; returns the name.

    Raises:
        UnknownProvider: There is no such provider.
    """
    if name not in providers():
        raise UnknownProvider(name)
    return name


def announced(client: redis.Redis, names: Iterable[str]) -> dict[str, Announced]:
    """Queue -> what its workers announced, in alphabetical order.

    Args:
        client: Replies as bytes.
        names: Providers.

    Raises:
        redis.RedisError: As the client does.
    """
    wanted = set(names)
    accounts = {}
    for queue, text in sorted(_hash(client, keys.ACCOUNTS)):
        provider, _, account = queue.partition(".")
        if provider in wanted and is_account_name(account):
            fields = read_announcement(text)
            windows = tuple(window for parts in fields.get("windows") or () if (window := _window(parts)))
            accounts[queue] = Announced(
                queue,
                _number(fields.get("at")),
                windows,
                max(1, int(_number(fields.get("batch_max")))),
                max(0, int(_number(fields.get("max_queued")))),
                str(fields.get("quota") or ""),
                str(fields.get("credential") or ""),
            )
    return accounts


def workers(client: redis.Redis, now_ms: float) -> list[Worker]:
    """Worker processes that are alive.

    Raises:
        redis.RedisError: As the client does.
    """
    alive = []
    for name, text in sorted(_hash(client, keys.WORKERS)):
        fields = read_announcement(text)
        at_ms = _number(fields.get("at"))
        if now_ms - at_ms <= ALIVE_S * 1000:
            provider, metrics, serves = (str(fields.get(field) or "") for field in ("provider", "metrics", "serves"))
            alive.append(Worker(name, provider, at_ms, int(_number(fields.get("pid"))), metrics, serves))
    return alive


def served(client: redis.Redis, alive: Iterable[Worker], accounts: Mapping[str, Announced], now_ms: float) -> set[str]:
    """Queues that some live worker serves.

    Args:
        client: Replies as bytes.
        alive: Live workers.
        accounts: What was announced. Workers of an older edition announce each account again and
            again.
        now_ms: Redis' clock.

    Raises:
        redis.RedisError: As the client does.
    """
    names = {queue for queue, account in accounts.items() if now_ms - account.at_ms <= ALIVE_S * 1000}
    for serves in sorted({worker.serves for worker in alive if worker.serves}):
        members: Any = client.smembers(keys.served(serves))
        names.update(member.decode("utf-8", "replace") for member in members)
    return names


def queues_with_events(client: redis.Redis, names: Iterable[str]) -> set[str]:
    """Queues of some providers that hold at least one event in Redis, announced or not.

    Raises:
        redis.RedisError: As the client does.
    """
    wanted = set(names)
    # One pass over the keys for all providers, because there may be many other keys: results, and
    # those of other applications.
    initials = "".join(sorted({name[0] for name in wanted}))
    holding = set()
    for key in client.scan_iter(match=f"[{initials}]*.*", count=SCAN_COUNT):
        name, step, _ = key.decode("utf-8", "replace").partition(keys.PRIORITY_SEPARATOR)
        provider, _, rest = name.partition(".")
        account, dot, suffix = rest.partition(".")
        if provider not in wanted or (dot and suffix not in _HOLDING):
            continue
        if is_account_name(account) and (dot or step or client.type(key) == b"list"):
            holding.add(f"{provider}.{account}")
    return holding


def _hash(client: redis.Redis, key: str) -> list[tuple[str, bytes]]:
    fields: Any = client.hgetall(key)
    return [(field.decode("utf-8", "replace"), text) for field, text in fields.items()]


def _window(parts: Any) -> Window | None:
    if not isinstance(parts, list) or len(parts) != 3:
        return None
    limit, window_s = int(_number(parts[0])), _number(parts[1])
    return Window(limit, window_s, str(parts[2])) if limit > 0 and window_s > 0 else None


def _number(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else 0.0
