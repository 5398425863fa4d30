"""Which accounts there are: those that workers have announced, and those of which only a queue is left in Redis."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import redis

from postback._events.account_names import is_account_name
from postback._events.event import EVENTS
from postback._send.directory import read_announcement
from postback.errors import PostbackError, UnknownAccount
from postback.wire import keys
from postback.wire.windows import Window

#: Seconds of silence after which a worker counts as gone; it announces itself every 2.5 s.
ALIVE_S: Final = 9.0
#: Keys that one SCAN step looks at.
SCAN_COUNT: Final = 2000

#: Keys that hold an account's events, by suffix; the lists of priority steps have none.
_HOLDING: Final = frozenset({"delayed", "held", "groups", "unacked"})


class UnknownProvider(PostbackError, LookupError):
    """There is no such provider.

    Attributes:
        provider: The word that was given.
    """

    def __init__(self, provider: str) -> None:
        self.provider = provider
        super().__init__(f"{provider[:80]!r} is not a provider; providers are {', '.join(providers())}")

    def __str__(self) -> str:
        # LookupError's family prints the repr of its argument.
        return str(self.args[0])


@dataclass(frozen=True, slots=True)
class Announced:
    """What a provider's workers say of an account.

    Attributes:
        at_ms: When they said so, by Redis' clock; 0 where their heartbeat says that they serve it.
        windows: The account's quota; empty if none is known.
        batch_max: Most events in one request.
        max_queued: Most events that producers may let wait; 0: no cap.
        quota: Names its quota, see ``keys.quota``; empty: an older worker's.
        credential: Names its credential: a keyed fingerprint (ADR 33); empty: an older worker's.
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
        serves: Names its accounts, see ``keys.served``; empty for a worker of an older edition.
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
    """The name itself.

    Raises:
        UnknownProvider: It is none.
    """
    if name not in providers():
        raise UnknownProvider(name)
    return name


def announced(client: redis.Redis, names: Iterable[str]) -> dict[str, Announced]:
    """Queue -> what its workers announced, for some providers, in the order of their names.

    Raises:
        redis.RedisError: As the client does.
    """
    wanted = set(names)
    found = {}
    for field, text in sorted(_hash(client, keys.ACCOUNTS)):
        provider, _, account = field.partition(".")
        if provider in wanted and is_account_name(account):
            told = read_announcement(text)
            windows = tuple(window for given in told.get("windows") or () if (window := _window(given)))
            found[field] = Announced(
                field,
                _number(told.get("at")),
                windows,
                max(1, int(_number(told.get("batch_max")))),
                max(0, int(_number(told.get("max_queued")))),
                str(told.get("quota") or ""),
                str(told.get("credential") or ""),
            )
    return found


def workers(client: redis.Redis, now_ms: float) -> list[Worker]:
    """Worker processes that are alive.

    Raises:
        redis.RedisError: As the client does.
    """
    alive = []
    for name, text in sorted(_hash(client, keys.WORKERS)):
        told = read_announcement(text)
        at_ms = _number(told.get("at"))
        if now_ms - at_ms <= ALIVE_S * 1000:
            provider, metrics, serves = (str(told.get(field) or "") for field in ("provider", "metrics", "serves"))
            alive.append(Worker(name, provider, at_ms, int(_number(told.get("pid"))), metrics, serves))
    return alive


def served(client: redis.Redis, alive: Iterable[Worker], told: Mapping[str, Announced], now_ms: float) -> set[str]:
    """Queues that some live worker serves.

    Args:
        client: Replies as bytes.
        alive: Live workers.
        told: What was announced: an older edition's workers announce each account anew all the time.
        now_ms: Redis' clock.

    Raises:
        redis.RedisError: As the client does.
    """
    found = {queue for queue, one in told.items() if now_ms - one.at_ms <= ALIVE_S * 1000}
    for serves in sorted({worker.serves for worker in alive if worker.serves}):
        members: Any = client.smembers(keys.served(serves))
        found.update(member.decode("utf-8", "replace") for member in members)
    return found


def queues_with_events(client: redis.Redis, names: Iterable[str]) -> set[str]:
    """Queues of some providers that hold at least one event in Redis, announced or not.

    Raises:
        redis.RedisError: As the client does.
    """
    wanted = set(names)
    # One pass over the keys for all providers: a keyspace may hold many results and other applications' keys.
    initials = "".join(sorted({name[0] for name in wanted}))
    found = set()
    for key in client.scan_iter(match=f"[{initials}]*.*", count=SCAN_COUNT):
        name, step, _ = key.decode("utf-8", "replace").partition(keys.PRIORITY_SEPARATOR)
        provider, _, rest = name.partition(".")
        account, dot, suffix = rest.partition(".")
        if provider not in wanted or (dot and suffix not in _HOLDING):
            continue
        if is_account_name(account) and (dot or step or client.type(key) == b"list"):
            found.add(f"{provider}.{account}")
    return found


def select(client: redis.Redis, target: str) -> list[str]:
    """The queues that ``tgtrack.main`` (one) or ``tgtrack`` (all of the provider) names.

    An account is refused only where its provider's accounts are known: one may be paused before its worker has ever run.

    Raises:
        UnknownProvider: There is no such provider.
        UnknownAccount: The provider has no such account, or none at all.
        redis.RedisError: As the client does.
    """
    provider, dot, account = target.partition(".")
    check_provider(provider)
    announced_ones = announced(client, [provider])
    known = sorted(set(announced_ones) | queues_with_events(client, [provider]))
    names = [queue.partition(".")[2] for queue in known]
    if not dot:
        if not known:
            raise PostbackError(f"{provider} has no account yet: no worker has announced one and no queue holds events")
        return known
    if not is_account_name(account) or (announced_ones and target not in known):
        raise UnknownAccount(provider, account, names)
    return [target]


def _hash(client: redis.Redis, key: str) -> list[tuple[str, bytes]]:
    fields: Any = client.hgetall(key)
    return [(field.decode("utf-8", "replace"), text) for field, text in fields.items()]


def _window(given: Any) -> Window | None:
    if not isinstance(given, list) or len(given) != 3:
        return None
    limit, window_s = int(_number(given[0])), _number(given[1])
    return Window(limit, window_s, str(given[2])) if limit > 0 and window_s > 0 else None


def _number(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else 0.0
