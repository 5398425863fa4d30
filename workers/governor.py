"""Grants: taken from Redis, settled in Redis, known to this process in between. No kombu names here.

All calls are made with redis-py's own retries off: TAKE is repeated under its call id, SETTLE under its grant, so a lost reply costs nothing.
"""

from __future__ import annotations

import json
import logging
import os
import random
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import redis

from config.accounts import Account
from postback.operations.quota import padded_ms
from tasks.grants import GRANT_PREFIX, REGISTRY, Envelope, Grant, Settlement, open_envelope
from tasks.letters import letter
from tasks.registry import PROVIDERS
from workers.scripts import Script, account_keys, timed_keys, wake_keys

logger = logging.getLogger(__name__)

#: Deliveries of a message that ended with the death of its worker; then it is a dead letter ``crashed``.
MAX_CRASHES: Final = 3
#: Seconds after its lease at which an unsettled grant is forgotten here. Redis has long re-queued it.
FORGET_S: Final = 1.0

#: Seconds that Redis may forget with ``appendfsync everysec``, and some more.
REMEMBERED_S: Final = 3.0
#: Most grants kept for that.
RECENT_GRANTS: Final = 2000

#: TAKE's answers in place of a wait.
EMPTY: Final = -1
BLOCKED: Final = -2
#: This and below: empty, and something becomes due in as many ms as it is below.
IDLE_UNTIL: Final = -10


@dataclass(frozen=True, slots=True)
class Taken:
    """What one TAKE brought.

    Attributes:
        grants: Each is one request to send.
        wait_ms: 0 if there may be more; else milliseconds before which there is nothing, or :data:`EMPTY`, or :data:`BLOCKED` until some
            answer is in.
        due_ms: With :data:`EMPTY`: milliseconds until something that waits becomes due; None if nothing does.
    """

    grants: list[Grant]
    wait_ms: int
    due_ms: int | None = None


class Governor:
    """One per process. TAKE runs on the event loop; SETTLE runs in any thread."""

    def __init__(self, connect: Callable[[], redis.Redis], accounts: Callable[[], Mapping[str, Account]]) -> None:
        """Nothing is sent yet.

        Args:
            connect: Makes a client with one connection of its own, for one thread: replies as bytes, retries off, short time-outs.
            accounts: The accounts of this process by queue; asked anew each time, since the file may change.
        """
        self._connect = connect
        self._local = threading.local()
        self._accounts = accounts
        self._take = Script("take")
        self._settle = Script("settle")
        self._scan = Script("scan")
        self._calls = 0
        self._name = f"{GRANT_PREFIX}{uuid.uuid4().hex[:12]}"
        self._lost_calls: dict[str, tuple[str, int, float]] = {}
        self._unsent: dict[str, tuple[list[str], list[Any]]] = {}
        self._unsent_lock = threading.Lock()
        self._reconciled = Script("reconcile")
        #: Grants settled lately, for a Redis that forgot its last second.
        self._recent: deque[tuple[float, Grant]] = deque(maxlen=RECENT_GRANTS)
        self._run_id = ""
        self._suspicious = True
        self._pid = os.getpid()
        self._arguments: dict[int, tuple[Account, list[Any]]] = {}
        #: Called in any thread when a grant is no longer held here.
        self.on_released: Callable[[], None] = lambda: None

    @property
    def _client(self) -> redis.Redis:
        """The current thread's client. A pool would look at its connection's socket before each command."""
        client: redis.Redis | None = getattr(self._local, "client", None)
        if client is None:
            client = self._local.client = self._connect()
        return client

    # TAKE

    def take(self, queue: str, count: int) -> Taken:
        """Take up to ``count`` requests of an account.

        Raises:
            redis.RedisError: Redis is away. The same call is repeated at the next ``take`` of this queue.
        """
        account = self._accounts().get(queue)
        if account is None:
            return Taken([], EMPTY)
        lost = self._lost_calls.pop(queue, None)
        if lost:
            call_id, count, begun = lost
        else:
            self._calls += 1
            call_id, begun = f"{self._name}.{self._calls}", time.monotonic()
        args = [call_id, count, int(bool(lost)), *self._take_arguments(account)]
        try:
            reply = self._take(self._client, list(account_keys(queue)), args)
        except redis.RedisError:
            self._lost_calls[queue] = (call_id, count, begun)
            self._suspicious = True
            raise
        grants = []
        for at in range(2, len(reply), 4):
            grant = self._opened(queue, account, reply[at : at + 4], begun)
            grant.outage = bool(reply[1])
            REGISTRY[grant.id] = grant
            grants.append(grant)
        wait_ms = int(reply[0])
        if wait_ms <= IDLE_UNTIL:
            return Taken(grants, EMPTY, IDLE_UNTIL - wait_ms)
        return Taken(grants, wait_ms)

    def _opened(self, queue: str, account: Account, parts: list[Any], begun: float) -> Grant:
        grant_id, raws, owners, more = parts
        envelopes = [open_envelope(raw, owner.decode()) for raw, owner in zip(raws, owners, strict=True)]
        return Grant(
            id=grant_id.decode(),
            queue=queue,
            envelopes=envelopes,
            siblings=[Envelope(raw=raw) for raw in more[2:]],
            group=bool(more[1]),
            granted_us=int(more[0]),
            lease_end=begun + account.lease_s,
        )

    def _take_arguments(self, account: Account) -> list[Any]:
        known = self._arguments.get(id(account))
        if known is None or known[0] is not account:
            provider = PROVIDERS.get(account.provider)
            windows: list[int] = []
            for window in account.windows:
                windows += [window.limit, padded_ms(window.window_s)]
            fixed = [
                int(account.lease_s * 1000), account.batch_max, account.max_bytes, int(account.linger_s * 1000),
                provider.extra_bytes_for(account) if provider else 0, int(account.dedup_s * 1000), account.outage_after,
                letter(None, "crashed", f"its worker died {MAX_CRASHES} times with it", attempts=MAX_CRASHES, duplicate=True),
                MAX_CRASHES, len(account.windows), *windows,
            ]  # fmt: skip
            known = self._arguments[id(account)] = (account, fixed)
        return known[1]

    def scan(self, queues: Iterable[str], *, timed: bool = False) -> list[str]:
        """Which of these queues may have work; with ``timed``, also those that hold something for later.

        Raises:
            redis.RedisError: Redis is away.
        """
        named = list(queues)
        if not named:
            return []
        looked_at: list[str] = []
        each = 0
        for queue in named:
            some = wake_keys(queue) + timed_keys(queue) if timed else wake_keys(queue)
            each = len(some)
            looked_at += some
        return [named[int(number) - 1] for number in self._scan(self._client, looked_at, [each])]

    # SETTLE

    def settle(self, grant: Grant) -> None:
        """Apply a grant's settlement. If Redis is away it is kept and repeated by :meth:`replay`. Never raises."""
        settlement = grant.settlement
        if settlement is None:
            raise ValueError("the grant has no settlement")
        self._apply(grant, settlement)

    def _apply(self, grant: Grant, settlement: Settlement) -> None:
        if REGISTRY.pop(grant.id, None) is None:
            return
        call = self._settle_call(grant, settlement)
        try:
            self._settle(self._client, *call)
        except redis.RedisError as error:
            with self._unsent_lock:
                self._unsent[grant.id] = call
            self._suspicious = True
            logger.warning("%s: cannot settle now, kept for later (%s)", grant.queue, type(error).__name__)
        else:
            self._recent.append((time.monotonic(), grant))
        self.on_released()

    def _settle_call(self, grant: Grant, settlement: Settlement) -> tuple[list[str], list[Any]]:
        account = self._accounts().get(grant.queue)
        retry_after_s = settlement.retry_after_s
        args: list[Any] = [grant.id, settlement.encode()]
        if account is None:
            args += [1000, 5, 0, 300_000, random.random(), -1]
        else:
            args += [
                int(account.backoff_s * 1000), account.outage_after, int(account.retry_in_place), int(account.backoff_max_s * 1000),
                random.random(), -1 if retry_after_s is None else int(retry_after_s * 1000),
                *(padded_ms(window.window_s) for window in account.windows),
            ]  # fmt: skip
        return list(account_keys(grant.queue)), args

    @property
    def unsent(self) -> int:
        """Settlements that Redis has not got yet."""
        return len(self._unsent)

    def replay(self) -> None:
        """Send the settlements that failed. Safe to repeat: SETTLE knows a grant that it has settled.

        Raises:
            redis.RedisError: Redis is still away.
        """
        for grant_id, call in list(self._unsent.items()):
            self._settle(self._client, *call)
            with self._unsent_lock:
                self._unsent.pop(grant_id, None)

    # Redis was away

    def recover_if_restarted(self) -> None:
        """After an error: if this is another Redis than before, tell it what this process knows, before any new TAKE (invariant I5).

        Raises:
            redis.RedisError: Redis is still away.
        """
        if not self._suspicious:
            return
        run_id = str(self._client.info("server")["run_id"])
        if self._run_id not in ("", run_id):
            logger.warning("Redis was restarted or failed over: telling it the requests of the last seconds")
            self._reconcile()
        self._run_id = run_id
        self._suspicious = False

    def _reconcile(self) -> None:
        horizon = time.monotonic() - REMEMBERED_S
        settled = {grant.id for _, grant in self._recent}
        for settled_at, grant in list(self._recent):
            if settled_at >= horizon:
                self._report(grant, settled=True)
        for grant in list(REGISTRY.values()):
            if grant.id not in settled:
                self._report(grant, settled=False)

    def _report(self, grant: Grant, *, settled: bool) -> None:
        account = self._accounts().get(grant.queue)
        if account is None:
            return
        raws = [envelope.raw for envelope in grant.envelopes]
        siblings = [envelope.raw for envelope in grant.siblings]
        args: list[Any] = [
            grant.id, int(settled), int(account.lease_s * 1000), grant.granted_us, int(grant.group), len(raws), *raws, *siblings
        ]  # fmt: skip
        self._reconciled(self._client, list(account_keys(grant.queue)), args)

    # Grants held here

    def in_flight(self, queue: str | None = None) -> int:
        """Grants held in this process."""
        if queue is None:
            return len(REGISTRY)
        return sum(1 for grant in list(REGISTRY.values()) if grant.queue == queue)

    def forget_expired(self) -> int:
        """Forget grants whose lease is over: whatever lost them, Redis has queued their events again. Returns how many."""
        now = time.monotonic()
        expired = [grant for grant in list(REGISTRY.values()) if grant.lease_end + FORGET_S < now]
        for grant in expired:
            if REGISTRY.pop(grant.id, None):
                logger.error("%s: a request was not settled within its lease; its events are queued again", grant.queue)
        return len(expired)

    def release_all(self) -> None:
        """At the end of the process: put back what was taken and never sent."""
        if os.getpid() != self._pid:
            return
        for grant in list(REGISTRY.values()):
            if grant.settlement is None:
                grant.settlement = grant.put_back()
            self._apply(grant, grant.settlement)
        try:
            self.replay()
        except redis.RedisError:
            logger.error(
                "Redis is away at shutdown: %d settlements are lost, their events come back when their leases end",
                self.unsent,
            )

    # What others may know

    def announce(self, worker: str, provider: str, accounts_key: str, workers_key: str) -> None:
        """Tell producers and operators which accounts this worker serves, with their limits; no credential is in it.

        Raises:
            redis.RedisError: Redis is away.
        """
        now_ms = int(time.time() * 1000)
        pipeline = self._client.pipeline(transaction=False)
        for queue, account in self._accounts().items():
            told = {
                "at": now_ms,
                "windows": [[window.limit, window.window_s, window.text] for window in account.windows],
                "batch_max": account.batch_max,
                "lease_s": account.lease_s,
            }
            pipeline.hset(accounts_key, queue, json.dumps(told))
        pipeline.hset(
            workers_key,
            worker,
            json.dumps({"at": now_ms, "provider": provider, "pid": os.getpid(), "held": len(REGISTRY)}),
        )
        pipeline.execute()
