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
from functools import partial
from typing import Any, Final

import orjson
import redis

from config.accounts import Account
from postback.operations.quota import padded_ms
from postback.wire.scripts import Observer, Script, named
from tasks.envelopes import FOLLOWERS, Envelope, open_envelope
from tasks.grants import GRANT_PREFIX, REGISTRY, Grant, Settlement
from tasks.letters import iso, letter
from tasks.registry import PROVIDERS
from tasks.signatures import Followers
from workers.scripts import State, TakenGrant, account_keys, take_reply, timed_keys, wake_keys

logger = logging.getLogger(__name__)

#: Deliveries of a message that ended with the death of its worker; then it is a dead letter ``crashed``.
MAX_CRASHES: Final = 3
#: Seconds after its lease at which an unsettled grant is forgotten here. Redis has long re-queued it.
FORGET_S: Final = 1.0

#: Seconds that Redis may forget with ``appendfsync everysec``, and some more.
REMEMBERED_S: Final = 3.0
#: Most grants kept for that: more than a process settles in that time.
RECENT_GRANTS: Final = 10_000

#: Seconds after which settlements that Redis refused are tried again.
REFUSED_S: Final = 1.0
#: Accounts that one call of a script looks at.
SCANNED: Final = 500
#: Accounts that one HSET announces.
ANNOUNCED: Final = 500
#: Redis as a whole takes no writes now. Other refusals concern one account, and must not hold up the others.
NO_WRITES: Final = (redis.exceptions.OutOfMemoryError, redis.exceptions.ReadOnlyError)
#: Seconds after which the scripts' own letter is dated anew.
LETTER_S: Final = 1.0
#: SETTLE's settings of an account that this process no longer serves.
DEPARTED: Final = {
    "backoff_ms": 1000,
    "outage_after": 5,
    "in_place": False,
    "longest_pause_ms": 300_000,
    "windows": [],
}


@dataclass(frozen=True, slots=True)
class PauseNews:
    """An account has paused, or goes on. One worker is told of each."""

    queue: str
    #: ``credentials``, ``quota``, ``outage``, ``operator``; empty when it goes on.
    reason: str
    #: A few words of the provider, or of the operator.
    detail: str
    #: When it ends by itself, ms of the epoch; None: somebody must resume it.
    until_ms: int | None

    def __str__(self) -> str:
        """One line for operators: what, why, until when, what to do."""
        if not self.reason:
            return f"{self.queue} goes on"
        words = f"{self.queue} is paused: {_PAUSES.get(self.reason, self.reason)}"
        words += f" ({self.detail})" if self.detail else ""
        if self.until_ms is not None:
            return f"{words}; its events wait, and it goes on by itself at {iso(self.until_ms)}"
        mend = "correct its key in the accounts file, then " if self.reason == "credentials" else ""
        return f"{words}; its events wait: {mend}`postback resume {self.queue}`"


_PAUSES: Final = {
    "credentials": "the provider refuses its key",
    "quota": "the provider says that its quota is spent",
    "outage": "the provider fails",
    "operator": "an operator has paused it",
}


@dataclass(frozen=True, slots=True)
class Taken:
    """What one TAKE brought.

    Attributes:
        grants: Each is one request to send.
        state: Why it brought no more.
        wait_ms: How long that lasts: of a pause that ends by itself, of a spent quota, of a batch that fills; else None.
        due_ms: Where it is empty: milliseconds until something that waits becomes due; None if nothing does.
        pause: What became of the account's pause, if this call is the one that is told.
    """

    grants: list[Grant]
    state: State
    wait_ms: int | None = None
    due_ms: int | None = None
    pause: PauseNews | None = None


@dataclass(frozen=True, slots=True)
class _Known:
    """What RECONCILE is told of a grant. What was read in its messages is not kept: of a busy worker's last seconds that would be 100 MB."""

    id: str
    queue: str
    granted_us: int
    group: bool
    #: For each of its own messages, whether it was a duplicate of another event.
    duplicates: list[bool]
    #: Its own messages, then the siblings.
    raws: list[bytes]

    @classmethod
    def of(cls, grant: Grant) -> _Known:
        """What a grant's answer, or the grant itself, is known by."""
        duplicates = [bool(envelope.duplicate_of) for envelope in grant.envelopes]
        raws = [envelope.raw for envelope in (*grant.envelopes, *grant.siblings)]
        return cls(grant.id, grant.queue, grant.granted_us, grant.group, duplicates, raws)


@dataclass(frozen=True, slots=True)
class _Answer:
    """A settled grant with its call of SETTLE."""

    known: _Known
    script_keys: tuple[str, ...]
    argument: bytes


def _pause_news(queue: str, pause: dict[str, Any] | None) -> PauseNews | None:
    if pause is None:
        return None
    reason, detail = (pause[name].decode("utf-8", "replace") for name in ("reason", "detail"))
    return PauseNews(queue, reason, detail, pause.get("until_ms"))


def _windows(account: Account) -> list[dict[str, int]]:
    """An account's windows for the scripts, the shortest first."""
    return [{"limit": window.limit, "length_ms": padded_ms(window.window_s)} for window in account.windows]


class Governor:
    """One per process. TAKE runs on the event loop; SETTLE runs in any thread."""

    def __init__(
        self,
        connect: Callable[[], redis.Redis],
        accounts: Callable[[], Mapping[str, Account]],
        *,
        notices: bool = False,
        followers: Followers = FOLLOWERS,
        one_first: bool = True,
        observe: Observer | None = None,
    ) -> None:
        """Nothing is sent yet.

        Args:
            connect: Makes a client with one connection of its own, for one thread: replies as bytes, retries off, short time-outs.
            accounts: The accounts of this process by queue; asked anew each time, since the file may change.
            notices: A hook hears of dead letters.
            followers: Checks what hangs on a message.
            one_first: An account at rest sends one request alone until a healthy answer (ADR 11).
            observe: Told of each run of a script. Any thread.
        """
        self._connect = connect
        self._one_first = one_first
        self._followers = followers
        self._keys = partial(account_keys, notices=notices)
        self._local = threading.local()
        self._accounts = accounts
        self._take, self._settle, self._scan, self._reconciled = (
            Script("workers", name, observe) for name in ("take", "settle", "scan", "reconcile")
        )
        self._calls = 0
        self._name = f"{GRANT_PREFIX}{uuid.uuid4().hex[:12]}"
        self._lost_calls: dict[str, tuple[str, int, float]] = {}
        #: Answers that Redis has not got yet.
        self._unsent: dict[str, _Answer] = {}
        #: Answers that a thread is telling it now.
        self._sending: dict[str, _Answer] = {}
        self._replay_at = 0.0
        #: Answers settled lately, and when (monotonic), for a Redis that forgot its last second.
        self._recent: deque[tuple[float, _Answer]] = deque(maxlen=RECENT_GRANTS)
        self._run_id = ""
        self._suspicious = True
        #: When Redis last did what it was told (monotonic); kept as it is from the first failure until Redis is back.
        self._good_s = time.monotonic()
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._options: dict[str, tuple[Account, float, dict[str, Any]]] = {}
        #: Called in any thread when a grant is no longer held here.
        self.on_released: Callable[[], None] = lambda: None
        #: Called before it, in any thread, with the queue of a grant of which something waits for a later time.
        self.on_delayed: Callable[[str], None] = lambda queue: None

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
            return Taken([], State.EMPTY)
        lost = self._lost_calls.pop(queue, None)
        if lost:
            call_id, count, begun = lost
        else:
            self._calls += 1
            call_id, begun = f"{self._name}.{self._calls}", time.monotonic()
        wish = {
            "call": call_id,
            "count": count,
            "repeated": lost is not None,
            "one_first": self._one_first,
            "run": self._run_id,
            "account": self._take_options(account),
        }
        try:
            reply = take_reply(self._take(self._client, self._keys(queue), [orjson.dumps(wish)]))
        except redis.RedisError:
            self._lost_calls[queue] = (call_id, count, begun)
            self._suspicious = True
            raise
        self._succeeded()
        grants = []
        for taken in reply.grants:
            grant = self._opened(queue, account, taken, begun)
            grant.outage = reply.outage
            REGISTRY[grant.id] = grant
            grants.append(grant)
        return Taken(grants, reply.state, reply.wait_ms, reply.due_ms, _pause_news(queue, reply.pause))

    def _succeeded(self) -> None:
        if not self._suspicious:
            self._good_s = time.monotonic()

    def _opened(self, queue: str, account: Account, taken: TakenGrant, begun: float) -> Grant:
        envelopes = [
            open_envelope(raw, owner.decode(errors="replace"), self._followers)
            for raw, owner in zip(taken.raws, taken.owners, strict=True)
        ]
        for number in taken.revoked:
            envelopes[number - 1].revoked = True
        return Grant(
            id=taken.id,
            queue=queue,
            envelopes=envelopes,
            siblings=[Envelope(raw=raw) for raw in taken.siblings],
            group=taken.group,
            granted_us=taken.granted_us,
            lease_end=begun + account.lease_s,
        )

    def _take_options(self, account: Account) -> dict[str, Any]:
        cached = self._options.get(account.queue)
        now = time.monotonic()
        if cached is None or cached[0] is not account or cached[1] + LETTER_S < now:
            provider = PROVIDERS.get(account.provider)
            detail = f"its worker died {MAX_CRASHES} times with it"
            options = {
                "lease_ms": int(account.lease_s * 1000),
                "batch_max": account.batch_max,
                "max_bytes": account.max_bytes,
                "linger_ms": int(account.linger_s * 1000),
                "extra_bytes": provider.extra_bytes_for(account) if provider else 0,
                "dedup_ms": int(account.dedup_s * 1000),
                "outage_after": account.outage_after,
                "max_crashes": MAX_CRASHES,
                "crashed_letter": letter(None, "crashed", detail, attempts=MAX_CRASHES, duplicate=True),
                "windows": _windows(account),
            }
            cached = self._options[account.queue] = (account, now, options)
        return cached[2]

    def scan(self, queues: Iterable[str], *, timed: bool = False) -> list[str]:
        """Which of these queues may have work; with ``timed``, also those that hold something for later.

        Raises:
            redis.RedisError: Redis is away.
        """
        asked = list(queues)
        with_work = []
        try:
            for first in range(0, len(asked), SCANNED):
                part = [
                    wake_keys(queue) + (timed_keys(queue) if timed else ()) for queue in asked[first : first + SCANNED]
                ]
                numbers = self._scan(self._client, [key for queue_keys in part for key in queue_keys], [len(part[0])])
                with_work += [asked[first + int(number) - 1] for number in numbers]
        except redis.RedisError:
            self._suspicious = True
            raise
        self._succeeded()
        return with_work

    # SETTLE

    def settle(self, grant: Grant) -> None:
        """Apply a grant's settlement. If Redis is away it is kept and repeated by :meth:`replay`. Never raises."""
        settlement = grant.settlement
        if settlement is None:
            raise ValueError("the grant has no settlement")
        self._apply(grant, settlement)

    def _apply(self, grant: Grant, settlement: Settlement) -> None:
        answer = self._answer(grant, settlement)
        if REGISTRY.pop(grant.id, None) is None:
            return
        self._sending[grant.id] = answer
        leaves_something = settlement.leaves_something
        try:
            reply = named(self._settle(self._client, answer.script_keys, [answer.argument]))
        except redis.RedisError as error:
            self._unsent[grant.id] = answer
            self._suspicious = True
            logger.warning("%s: cannot settle now, kept for later (%s)", grant.queue, type(error).__name__)
        else:
            leaves_something = leaves_something or "releasing" in reply
            self._remember(answer)
        finally:
            self._sending.pop(grant.id, None)
        if leaves_something:
            self.on_delayed(grant.queue)
        self.on_released()

    def _remember(self, answer: _Answer) -> None:
        self._succeeded()
        now = time.monotonic()
        with self._lock:
            if not self._suspicious:
                while self._recent and self._recent[0][0] < now - REMEMBERED_S:
                    self._recent.popleft()
            self._recent.append((now, answer))

    def _answer(self, grant: Grant, settlement: Settlement) -> _Answer:
        account = self._accounts().get(grant.queue)
        retry_after_s = settlement.retry_after_s
        if not settlement.detail.isascii():
            # Redis' JSON reader refuses a lone surrogate, which a provider's words may hold.
            settlement.detail = settlement.detail.encode("utf-8", "replace").decode()
        answer = {"grant": grant.id, **settlement.named(), "random": random.random()}
        if account is None:
            answer["account"] = DEPARTED
        else:
            answer["account"] = {
                "backoff_ms": int(account.backoff_s * 1000),
                "outage_after": account.outage_after,
                "in_place": account.retry_in_place,
                "longest_pause_ms": int(account.backoff_max_s * 1000),
                "windows": _windows(account),
            }
            if retry_after_s is not None:
                answer["retry_after_ms"] = int(retry_after_s * 1000)
        return _Answer(_Known.of(grant), self._keys(grant.queue), json.dumps(answer, separators=(",", ":")).encode())

    @property
    def unsent(self) -> int:
        """Settlements that Redis has not got yet."""
        return len(self._unsent)

    def replay(self) -> None:
        """Send the settlements that failed. Safe to repeat: SETTLE knows a grant that it has settled.

        One that Redis refuses is kept and does not hold up the others; it ends with its grant's lease.

        Raises:
            redis.RedisError: Redis is still away, or takes no writes.
        """
        if time.monotonic() < self._replay_at:
            return
        for grant_id, answer in list(self._unsent.items()):
            try:
                self._settle(self._client, answer.script_keys, [answer.argument])
            except redis.ResponseError as error:
                if isinstance(error, NO_WRITES):
                    raise
                self._replay_at = time.monotonic() + REFUSED_S
                logger.error("%s: Redis refuses a settlement: %s", answer.known.queue, error)
            except redis.RedisError:
                self._suspicious = True
                raise
            else:
                self._unsent.pop(grant_id, None)
                self._remember(answer)

    # Redis was away

    def recover_if_restarted(self) -> None:
        """After an error: if this is another Redis than before, tell it what this process knows, before any new TAKE (invariant I5).

        Raises:
            redis.RedisError: Redis is still away.
        """
        if not self._suspicious:
            return
        # Cleared first: a thread whose settle fails meanwhile asks for another look.
        self._suspicious = False
        try:
            run_id = str(self._client.info("server")["run_id"])
            if self._run_id not in ("", run_id):
                logger.warning("Redis was restarted or failed over: telling it the requests of the last seconds")
                self._reconcile()
        except redis.RedisError:
            self._suspicious = True
            raise
        self._run_id = run_id
        self._succeeded()

    def _reconcile(self) -> None:
        """Everything settled in the seconds before Redis went away, or since, is registered and settled again; what is on its way is registered."""
        with self._lock:
            recent = list(self._recent)
        for settled_s, answer in recent:
            if settled_s >= self._good_s - REMEMBERED_S and self._report(answer.known, settled=True):
                self._settle(self._client, answer.script_keys, [answer.argument])
        # These are settled by their own thread, or by `replay`.
        for answer in [*self._sending.values(), *self._unsent.values()]:
            self._report(answer.known, settled=True)
        for grant in list(REGISTRY.values()):
            self._report(_Known.of(grant), settled=False)

    def _report(self, known: _Known, *, settled: bool) -> bool:
        """Returns whether the grant is in flight now, so that its answer can be applied."""
        account = self._accounts().get(known.queue)
        if account is None:
            return False
        report = {
            "grant": known.id,
            "granted_us": known.granted_us,
            "settled": settled,
            "half": known.group,
            "duplicates": known.duplicates,
            "account": {
                "lease_ms": int(account.lease_s * 1000),
                "dedup_ms": int(account.dedup_s * 1000),
                "windows": _windows(account),
            },
        }
        reply = self._reconciled(self._client, self._keys(known.queue), [orjson.dumps(report), *known.raws])
        return "in_flight" in named(reply)

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
        # Each goes to the very front: the latest first, so that they stand in order again.
        held = list(REGISTRY.values())
        for grant in sorted(held, key=lambda grant: grant.granted_us, reverse=True):
            if grant.settlement is None:
                if grant.sent:
                    continue  # a hurried end (second SIGTERM): its answer is not known, so it comes back with its lease, and flagged
                grant.settlement = grant.put_back()
            self._apply(grant, grant.settlement)
        self._replay_at = 0.0
        try:
            self.replay()
        except redis.RedisError:
            logger.error(
                "Redis is away at shutdown: %d settlements are lost, their events come back when their leases end",
                self.unsent,
            )

    # What others may know

    def announce(self, worker: str, provider: str, accounts_key: str, workers_key: str, metrics: str = "") -> None:
        """Tell producers and operators which accounts this worker serves, with their limits; no credential is in it.

        Args:
            worker: Its node name.
            provider: Whose accounts it serves; "" for all.
            accounts_key: Hash of the accounts.
            workers_key: Hash of the workers.
            metrics: Where its metrics are, ``host:port``.

        Raises:
            redis.RedisError: Redis is away.
        """
        now_ms = int(time.time() * 1000)
        pipeline = self._client.pipeline(transaction=False)
        accounts = list(self._accounts().items())
        for first in range(0, len(accounts), ANNOUNCED):
            announcements: dict[Any, Any] = {
                queue: json.dumps(
                    {
                        "at": now_ms,
                        "windows": [[window.limit, window.window_s, window.text] for window in account.windows],
                        "batch_max": account.batch_max,
                        "lease_s": account.lease_s,
                        "max_queued": account.max_queued,
                    }
                )
                for queue, account in accounts[first : first + ANNOUNCED]
            }
            pipeline.hset(accounts_key, mapping=announcements)
        pipeline.hset(
            workers_key,
            worker,
            json.dumps(
                {"at": now_ms, "provider": provider, "pid": os.getpid(), "held": len(REGISTRY), "metrics": metrics}
            ),
        )
        pipeline.execute()
