"""What there is to see: every account's queue, quota and pause at one moment, workers, orphans, Redis itself."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import redis

from postback.operations import deadletters, queues
from postback.operations.quota import Log, Usage, read_ring, share_s
from postback.operations.server import RedisStatus, redis_status
from postback.wire import keys
from postback.wire.scripts import Script
from postback.wire.time import iso, redis_now_ms
from postback.wire.windows import Window, strictest

#: Accounts whose state is asked for in one pipeline: a quota log may have 41 KB.
PIPELINED: Final = 50

_status = Script("postback.operations", "status")


@dataclass(frozen=True, slots=True)
class Pause:
    """Why and until when an account waits.

    Attributes:
        reason: ``operator`` and ``credentials`` end by a resume; ``quota``, ``outage`` and ``retrying`` by themselves.
        until_ms: None: until somebody resumes it.
        since_ms: 0 if that is not known.
    """

    reason: str
    until_ms: float | None
    since_ms: float
    detail: str


@dataclass(frozen=True, kw_only=True)
class AccountStatus:
    """One account at one moment. Counts are events, except ``requests_in_flight``; times are Redis time in ms."""

    queue: str
    #: Some worker has announced it, ever. Otherwise its queue is an orphan.
    announced: bool
    #: A worker that is alive serves it.
    served: bool
    queued: int
    #: Waiting for a due time or a back-off, and held aside in a run of failures.
    delayed: int
    in_flight: int
    requests_in_flight: int
    dead: int
    dead_reasons: Mapping[str, int] = field(default_factory=dict)
    paused: Pause | None = None
    #: Failures in a row.
    failures: int = 0
    windows: tuple[Window, ...] = ()
    batch_max: int = 1
    #: Most events that producers may let wait; 0: no cap.
    max_queued: int = 0
    #: The log of its quota first, then those that it has left and that still bind it (ADR 33).
    logs: tuple[Log, ...]
    #: Names its quota and its credential (ADR 33); empty before its first request.
    quota: str = ""
    credential: str = ""
    #: Accounts that share its quota, and of these the ones that have its key; without itself.
    quota_with: tuple[str, ...] = ()
    key_with: tuple[str, ...] = ()
    #: Requests of those that go before its last waiting event, since they take turns.
    before: int = 0
    #: When the longest waiting event was enqueued; None if none waits or says it.
    oldest_ms: float | None = None
    #: When the last delayed event is due.
    last_due_ms: float | None = None
    last_success_ms: float | None = None
    last_failure_ms: float | None = None
    last_failure: str = ""
    #: Since the account exists: events delivered, events that became dead letters, answers 429.
    delivered: int = 0
    died: int = 0
    quota_answers: int = 0

    @property
    def provider(self) -> str:
        """``tgtrack``."""
        return self.queue.partition(".")[0]

    @property
    def account(self) -> str:
        """``main``."""
        return self.queue.partition(".")[2]

    @property
    def log(self) -> Log:
        """That of its quota."""
        return self.logs[0]

    @property
    def usage(self) -> list[Usage]:
        """Its quota, window by window; where several logs bind, by the fullest."""
        return [
            max((log.usage(window) for log in self.logs), key=lambda usage: (usage.used, usage.resets_in_s))
            for window in self.windows
        ]

    @property
    def is_orphan(self) -> bool:
        """It holds events and no worker has ever announced it."""
        return not self.announced

    def requests(self, events: int) -> int:
        """Requests that so many events take, if their batches are full."""
        return -(-events // self.batch_max)

    def eta_s(self, more: int = 0) -> float | None:
        """Seconds until the last waiting event, and ``more``, can have gone out; None if a pause has no end.

        As the quota allows, with full batches and immediate answers; not before the last delayed event is due.
        """
        events = self.queued + self.delayed + more
        if not events:
            return 0.0
        begin_s = 0.0
        if self.paused:
            if self.paused.until_ms is None:
                return None
            begin_s = max(0.0, (self.paused.until_ms - self.log.now_ms) / 1000)
        requests = self.requests(events) + self.before
        drained_s = max(log.drain_s(self.windows, requests, begin_s=begin_s) for log in self.logs)
        due_s = (self.last_due_ms - self.log.now_ms) / 1000 if self.last_due_ms else 0.0
        return max(drained_s, due_s)

    def share_s(self, events: int) -> float:
        """How many seconds' worth of quota so many events are."""
        return share_s(self.windows, self.requests(events))

    def as_json(self) -> dict[str, Any]:
        """For machines; times are ISO 8601 in UTC."""
        eta_s = self.eta_s()
        return {
            "provider": self.provider,
            "account": self.account,
            "queued": self.queued,
            "delayed": self.delayed,
            "max_queued": self.max_queued,
            "in_flight": self.in_flight,
            "dead": self.dead,
            "paused": self.paused
            and {
                "reason": self.paused.reason,
                "until": _iso(self.paused.until_ms),
                "since": _iso(self.paused.since_ms),
                "detail": self.paused.detail,
            },
            "quota": [
                {
                    "limit": usage.window.limit,
                    "window_s": usage.window.window_s,
                    "used": usage.used,
                    "remaining": usage.remaining,
                    "resets_in_s": round(usage.resets_in_s, 3),
                    "all_back_in_s": round(usage.all_back_in_s, 3),
                    "text": usage.window.text,
                }
                for usage in self.usage
            ],
            "quota_shared_with": list(self.quota_with),
            "key_shared_with": list(self.key_with),
            "backlog_eta_s": None if eta_s is None else round(eta_s, 3),
            "backlog_quota_s": round(self.share_s(self.queued + self.delayed), 3),
            "oldest_waiting": _iso(self.oldest_ms),
            "last_success": _iso(self.last_success_ms),
            "last_failure": _iso(self.last_failure_ms),
            "last_failure_text": self.last_failure,
            "failures_in_a_row": self.failures,
            "requests_in_flight": self.requests_in_flight,
            "delivered": self.delivered,
            "dead_reasons": dict(self.dead_reasons),
            "announced": self.announced,
            "served": self.served,
        }


@dataclass(frozen=True)
class Snapshot:
    """Everything at one moment, of one Redis or of several."""

    at_ms: float
    accounts: tuple[AccountStatus, ...]
    workers: tuple[queues.Worker, ...]
    redis: tuple[RedisStatus, ...]
    #: Provider -> all of its dead letters, also those that do not say their account.
    dead: Mapping[str, int]
    #: Provider -> dead letters of which ``POSTBACK_ON_DEAD`` has not been told yet, failed calls included.
    notices: Mapping[str, int] = field(default_factory=dict)

    def __add__(self, other: Snapshot) -> Snapshot:
        """Both together: providers may have a Redis each."""
        return Snapshot(
            max(self.at_ms, other.at_ms),
            self.accounts + other.accounts,
            self.workers + other.workers,
            self.redis + other.redis,
            {**self.dead, **other.dead},
            {**self.notices, **other.notices},
        )

    def of(self, queue: str) -> AccountStatus | None:
        """One account, if it is known or holds events."""
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
            "redis": [one.as_json() for one in self.redis],
        }


def snapshot(client: redis.Redis, providers: Iterable[str] | None = None, *, url: str = "") -> Snapshot:
    """Look at the accounts of some providers (all by default) on one Redis.

    Raises:
        redis.RedisError: As the client does.
    """
    names = tuple(providers) if providers is not None else queues.providers()
    announced = queues.announced(client, names)
    orphans = sorted(queues.queues_with_events(client, names) - announced.keys())
    dead = {name: deadletters.count(client, name) for name in names}
    # Dead letters of an account that is gone are still somebody's to look after.
    buried = {queue for counted in dead.values() for queue, _ in counted.by_queue_and_reason if queue}
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
        deadletters.notices(client, names),
    )


def _together(accounts: Iterable[AccountStatus]) -> tuple[AccountStatus, ...]:
    """What they share: a quota whose accounts take turns, a key."""
    of_quota: dict[str, list[AccountStatus]] = {}
    every = list(accounts)
    for account in every:
        if account.quota:
            of_quota.setdefault(account.quota, []).append(account)
    return tuple(_shared(account, of_quota.get(account.quota, [account])) for account in every)


def _shared(account: AccountStatus, together: list[AccountStatus]) -> AccountStatus:
    others = [one for one in together if one.queue != account.queue]
    if not others:
        return account
    own = account.requests(account.queued + account.delayed)
    return replace(
        account,
        quota_with=tuple(one.queue for one in others),
        windows=strictest(one.windows for one in together),
        key_with=tuple(one.queue for one in others if one.credential == account.credential),
        before=sum(min(own, one.requests(one.queued)) for one in others),
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
    told: queues.Announced | None,
    state: list[Any],
    counted: deadletters.DeadCount,
    now_ms: float,
    is_served: bool,
) -> AccountStatus:
    at_us, queued, delayed, held, grouped, requests, flying, oldest, last_due, flat, flat_credential, logs = state
    meta, credential, quota = _texts(flat), _texts(flat_credential), _texts(logs[0])
    at_ms = int(at_us) / 1000
    return AccountStatus(
        queue=queue,
        announced=told is not None,
        served=told is not None and is_served,
        queued=queued + grouped,
        delayed=delayed + held,
        in_flight=flying,
        requests_in_flight=requests,
        dead=counted.of(queue),
        dead_reasons=counted.reasons(queue),
        paused=_pause(meta, quota, credential, at_ms),
        failures=int(_number(meta, "fails") or 0),
        windows=told.windows if told else (),
        batch_max=told.batch_max if told else 1,
        max_queued=told.max_queued if told else 0,
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
    """The pause that lasts longest: its own, or that of its credential, or the freeze of its quota."""
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


def _iso(epoch_ms: float | None) -> str | None:
    return iso(epoch_ms) if epoch_ms else None
