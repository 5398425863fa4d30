"""What there is to see on one Redis: each account, the workers, Redis itself."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import redis

from postback.operations import queues
from postback.operations.account_status import AccountStatus, Pause
from postback.operations.dead_counts import DeadCount, count_dead, count_notices
from postback.operations.journal_status import JournalStatus, journal_status
from postback.operations.quota import Log, read_ring
from postback.operations.server import RedisStatus, redis_status
from postback.wire import keys
from postback.wire.scripts import Script
from postback.wire.time import iso, redis_now_ms
from postback.wire.windows import strictest

__all__ = ["Snapshot", "snapshot"]

#: Accounts whose state one pipeline asks for. A quota log may have 41 KB.
PIPELINED: Final = 50

_status = Script("postback.operations", "status")


@dataclass(frozen=True)
class Snapshot:
    """Everything at one moment, of one Redis or of several."""

    at_ms: float
    accounts: tuple[AccountStatus, ...]
    workers: tuple[queues.Worker, ...]
    redis: tuple[RedisStatus, ...]
    #: Provider -> all of its dead letters, also those that do not say their account.
    dead: Mapping[str, int]
    #: Provider -> dead letters that still wait for ``POSTBACK_ON_DEAD``, failed calls included.
    notices: Mapping[str, int] = field(default_factory=dict)
    journals: tuple[JournalStatus, ...] = ()

    def __add__(self, other: Snapshot) -> Snapshot:
        """Two Redis servers together: a provider may have its own."""
        return Snapshot(
            max(self.at_ms, other.at_ms),
            self.accounts + other.accounts,
            self.workers + other.workers,
            self.redis + other.redis,
            {**self.dead, **other.dead},
            {**self.notices, **other.notices},
            self.journals + other.journals,
        )

    def of(self, queue: str) -> AccountStatus | None:
        """One account; None if it is not announced and holds no events."""
        return next((account for account in self.accounts if account.queue == queue), None)

    def as_json(self) -> dict[str, Any]:
        """For machines."""
        return {
            "accounts": [account.as_json() for account in self.accounts],
            "at": iso(self.at_ms),
            "workers": [
                {"name": worker.name, "provider": worker.provider or None, "seen": iso(worker.at_ms)}
                for worker in self.workers
            ],
            "dead_letters": dict(self.dead),
            "dead_notices": dict(self.notices),
            "redis": [server.as_json() for server in self.redis],
            "journal": [journal.as_json() for journal in self.journals],
        }


def snapshot(client: redis.Redis, providers: Iterable[str] | None = None, *, url: str = "") -> Snapshot:
    """Look at the accounts on one Redis.

    Args:
        client: Replies as bytes.
        providers: Whose accounts; None for all.
        url: What to call this Redis, without a password.

    Raises:
        redis.RedisError: As the client does.
    """
    names = tuple(providers) if providers is not None else queues.providers()
    announced = queues.announced(client, names)
    orphans = sorted(queues.queues_with_events(client, names) - announced.keys())
    dead = {name: count_dead(client, name) for name in names}
    # An account that is gone may have left dead letters, and somebody must look after them.
    buried = {queue for counted in dead.values() for queue in counted.queues}
    shown = [*announced, *orphans, *sorted(buried - announced.keys() - set(orphans))]
    shown.sort(key=lambda queue: (names.index(queue.partition(".")[0]), queue not in announced))
    now_ms = redis_now_ms(client)
    alive = queues.workers(client, now_ms)
    served = queues.served(client, alive, announced, now_ms)
    accounts = []
    for queue, state in zip(shown, _states(client, shown), strict=True):
        counted = dead[queue.partition(".")[0]]
        accounts.append(_account(queue, announced.get(queue), state, counted, now_ms, queue in served))
    return Snapshot(
        now_ms,
        _together(accounts),
        tuple(alive),
        (redis_status(client, names, url=url),),
        {name: counted.total for name, counted in dead.items()},
        count_notices(client, names),
        (journal_status(client, names, now_ms, url=url),),
    )


def _together(accounts: Iterable[AccountStatus]) -> tuple[AccountStatus, ...]:
    """The accounts, each with what it shares: a quota whose accounts take turns, a key."""
    by_quota: dict[str, list[AccountStatus]] = {}
    every = list(accounts)
    for account in every:
        if account.quota:
            by_quota.setdefault(account.quota, []).append(account)
    return tuple(_shared(account, by_quota.get(account.quota, [account])) for account in every)


def _shared(account: AccountStatus, sharing: list[AccountStatus]) -> AccountStatus:
    others = [other for other in sharing if other.queue != account.queue]
    if not others:
        return account
    own = account.requests(account.queued + account.delayed)
    return replace(
        account,
        quota_with=tuple(other.queue for other in others),
        windows=strictest(member.windows for member in sharing),
        key_with=tuple(other.queue for other in others if other.credential == account.credential),
        before=sum(min(own, other.requests(other.queued)) for other in others),
    )


def _states(client: redis.Redis, shown: list[str]) -> list[Any]:
    states: list[Any] = []
    for start in range(0, len(shown), PIPELINED):
        pipeline = client.pipeline(transaction=False)
        sha = _status.load(client)
        for queue in shown[start : start + PIPELINED]:
            own = keys.account(queue)
            pipeline.evalsha(sha, len(own), *own)
        states += pipeline.execute()
    return states


def _account(
    queue: str,
    announced: queues.Announced | None,
    state: list[Any],
    counted: DeadCount,
    now_ms: float,
    is_served: bool,
) -> AccountStatus:
    at_us, queued, delayed, held, grouped, requests, flying, oldest, last_due, flat, flat_credential, logs = state
    meta, credential, quota = _texts(flat), _texts(flat_credential), _texts(logs[0])
    at_ms = int(at_us) / 1000
    return AccountStatus(
        queue=queue,
        announced=announced is not None,
        served=announced is not None and is_served,
        queued=queued + grouped,
        delayed=delayed + held,
        in_flight=flying,
        requests_in_flight=requests,
        dead=counted.of(queue),
        dead_reasons=counted.reasons(queue),
        paused=_pause(meta, quota, credential, at_ms),
        failures=int(_number(meta, "fails") or 0),
        windows=announced.windows if announced else (),
        batch_max=announced.batch_max if announced else 1,
        max_queued=announced.max_queued if announced else 0,
        logs=tuple(_log(at_ms, *logs[at : at + 3]) for at in range(0, len(logs), 3)),
        quota=meta.get("quota", ""),
        credential=meta.get("credential", ""),
        oldest_ms=int(oldest) or None,
        last_due_ms=int(last_due) or None,
        last_success_ms=_number(meta, "ok_at"),
        last_failure_ms=_number(meta, "fail_at"),
        last_failure=meta.get("fail_text", ""),
        delivered=int(_number(meta, "delivered") or 0),
        died=int(_number(meta, "dead") or 0),
        quota_answers=int(_number(meta, "quota_answers") or 0),
    )


def _log(now_ms: float, flat: list[bytes], ring: bytes, flying: int) -> Log:
    quota = _texts(flat)
    times = read_ring(ring, int(_number(quota, "seq") or 0), int(_number(quota, "size") or 0))
    return Log(now_ms, times, flying)


def _texts(flat: list[bytes]) -> dict[str, str]:
    return {name.decode(): value.decode("utf-8", "replace") for name, value in zip(flat[::2], flat[1::2], strict=True)}


def _pause(
    meta: Mapping[str, str], quota: Mapping[str, str], credential: Mapping[str, str], now_ms: float
) -> Pause | None:
    """The pause that lasts longest: the account's own, its credential's, or its quota's freeze."""
    standing = [
        (meta, meta.get("reason") or "unknown", _number(meta, "paused"), _number(meta, "since")),
        (credential, "credentials", _number(credential, "paused"), _number(credential, "since")),
        (quota, "quota", _number(quota, "frozen"), _number(quota, "frozen_at")),
    ]
    pauses = [
        Pause(reason, None if until_ms == -1 else until_ms, since_ms or 0.0, place.get("detail", ""))
        for place, reason, until_ms, since_ms in standing
        if until_ms and (until_ms == -1 or until_ms > now_ms)
    ]
    return max(pauses, key=lambda pause: math.inf if pause.until_ms is None else pause.until_ms, default=None)


def _number(meta: Mapping[str, str], name: str) -> float | None:
    try:
        return float(meta[name])
    except (KeyError, ValueError):
        return None
