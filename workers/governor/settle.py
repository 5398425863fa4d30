"""SETTLE: applies all consequences of one answer in one step (invariant I3)."""

from __future__ import annotations

import logging
import random
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import orjson
import redis

from config.accounts import Account
from tasks.grants import Grant, Grants, Settlement
from tasks.rulings import Again, Back, Dead, Delivered, Poll, Ruling
from workers.governor.identities import Identities, Identity
from workers.governor.server import NO_WRITES, Call, Server
from workers.governor.take import Accounts, quota_settings

logger = logging.getLogger(__name__)

#: Seconds for which settled grants are kept: more than Redis forgets with ``appendfsync everysec``.
REMEMBERED_S: Final = 3.0
#: Most grants that are kept: a process settles at most 10,000 a second.
RECENT_GRANTS: Final = 30_000
#: Seconds after which settlements that Redis refused are tried again.
REFUSED_S: Final = 1.0
#: The most common settlement.
HEALTHY: Final = Settlement("ok")
#: SETTLE's settings of an account that this process no longer serves.
DEPARTED: Final = {
    "backoff_ms": 1000,
    "outage_after": 5,
    "in_place": False,
    "longest_pause_ms": 300_000,
}


@dataclass(frozen=True, slots=True)
class GrantRecord:
    """The part of a grant that RECONCILE needs.

    The parsed messages are not kept: those of a busy worker's last seconds would take 100 MB.
    """

    id: str
    queue: str
    identity: Identity
    granted_us: int
    group: bool
    #: For each of its own messages, whether it was a duplicate of another event.
    duplicates: list[bool]
    #: Its own messages, then the siblings.
    raws: list[bytes]
    #: For the journal; empty: none.
    journal: bytes = b""

    @classmethod
    def of(cls, grant: Grant, identity: Identity) -> GrantRecord:
        """The record of a grant."""
        duplicates = [bool(envelope.duplicate_of) for envelope in grant.envelopes]
        raws = [envelope.raw for envelope in (*grant.envelopes, *grant.siblings)]
        return cls(grant.id, grant.queue, identity, grant.granted_us, grant.group, duplicates, raws, grant.record)


@dataclass(frozen=True, slots=True)
class SettleCall:
    """A call of SETTLE, with the record of its grant."""

    record: GrantRecord
    argument: bytes
    settings: bytes
    #: About how many messages SETTLE moves.
    work: int

    @property
    def call(self) -> Call:
        """The call of the script."""
        record = self.record
        return Call("settle", record.queue, self.argument, record.identity, self.settings, record.journal, self.work)


def encoded(grant: Grant, settlement: Settlement) -> dict[str, Any]:
    """SETTLE's argument for a settlement and its rulings; see ``workers/governor/lua/settle.lua``.

    In the most common case it is only a number: a healthy answer that delivered all events.
    """
    events = [*grant.envelopes, *grant.siblings]
    if settlement == HEALTHY and all(isinstance(envelope.ruling, Delivered) for envelope in events):
        return {"delivered": len(grant.envelopes)}
    at = {envelope: number for number, envelope in enumerate(events, 1)}
    halves = [[[at[envelope] for envelope in part] for part in half] for half in settlement.halves]
    halved = {number for half in halves for part in half for number in part}
    ruled = [(number, envelope.ruling) for envelope, number in at.items() if number not in halved]
    lines = [(number, _line(ruling)) for number, ruling in ruled]
    answer: dict[str, Any] = {
        "health": settlement.health,
        # Redis' JSON reader refuses a lone surrogate, which a provider's words may hold.
        "detail": settlement.detail.encode("utf-8", "replace").decode(),
        "delivered": sum(isinstance(ruling, Delivered) for _, ruling in ruled),
        "messages": [{"at": number, **line} for number, line in lines if line],
    }
    return {**answer, "groups": halves} if halves else answer


def _line(ruling: Ruling) -> dict[str, Any] | None:
    """SETTLE's line for one event; None if the event has ended."""
    match ruling:
        case Again():
            line = {"verb": "retry", "after_ms": round(ruling.after_s * 1000)}
            flags = {"duplicate": ruling.ambiguous, "few": ruling.few}
        case Poll():
            line, flags = {"verb": "poll", "after_ms": round(ruling.after_s * 1000)}, {}
        case Back():
            line, flags = {"verb": "back"}, {"keeps_time": ruling.keeps_time}
        case Dead():
            line, flags = {"verb": "dead", "letter": ruling.letter}, {"duplicate": ruling.possible_duplicate}
            if ruling.wrapped is not None:
                line["wrapped"] = ruling.wrapped
        case _:
            return None
    return {**line, **{name: True for name, flag in flags.items() if flag}}


def settings_of(account: Account | None) -> dict[str, Any]:
    """SETTLE's settings of an account."""
    if account is None:
        return DEPARTED
    return {
        "backoff_ms": int(account.backoff_s * 1000),
        "outage_after": account.outage_after,
        "in_place": account.retry_in_place,
        "longest_pause_ms": int(account.backoff_max_s * 1000),
    }


class Settler:
    """Settles grants. In the rounds' thread."""

    def __init__(self, server: Server, accounts: Accounts, grants: Grants, identities: Identities) -> None:
        """Nothing is sent yet; see :class:`~workers.governor.governor.Governor`."""
        self._server, self._accounts, self._grants, self._identities = server, accounts, grants, identities
        #: Queue -> SETTLE's settings of it as JSON, and the identity that they were made of.
        self._settings: dict[str, tuple[Identity, bytes]] = {}
        #: Grant -> its call, if Redis does not have it yet.
        self._unsent: dict[str, SettleCall] = {}
        #: Recent calls with their times (monotonic), for a Redis that forgot its last second.
        self._recent: deque[tuple[float, SettleCall]] = deque(maxlen=RECENT_GRANTS)
        self._replay_at = 0.0

    @property
    def unsent(self) -> int:
        """Settlements that Redis does not have yet."""
        return len(self._unsent)

    def release(self, grants: Iterable[Grant]) -> list[SettleCall]:
        """Hold grants no longer. Returns their calls of SETTLE; none for a grant that was not held.

        Raises:
            ValueError: A grant has no settlement.
        """
        calls = []
        for grant in grants:
            if grant.settlement is None:
                raise ValueError("the grant has no settlement")
            call = self._call(grant, grant.settlement)
            if self._grants.pop(grant.id) is not None:
                calls.append(call)
        return calls

    def receive(self, call: SettleCall, reply: Any) -> None:
        """Note SETTLE's reply. If it failed, :meth:`replay` repeats the call."""
        if isinstance(reply, redis.RedisError):
            self._unsent[call.record.id] = call
            self._server.suspicious = True
            logger.warning(
                "%s: an outcome is not in Redis yet, kept for later (%s)", call.record.queue, type(reply).__name__
            )
            return
        self._remember(call)

    def _call(self, grant: Grant, settlement: Settlement) -> SettleCall:
        account = self._accounts().get(grant.queue)
        identity = self._identities.of_grant(grant, account)
        record = GrantRecord.of(grant, identity)
        argument = {"grant": grant.id, "granted_us": grant.granted_us, **encoded(grant, settlement)}
        settings = b""
        if "health" in argument:
            argument["random"] = random.random()
            settings = self._settings_of(account, identity)
        if account is not None and settlement.retry_after_s is not None:
            argument["retry_after_ms"] = int(settlement.retry_after_s * 1000)
        work = len(record.raws) if "health" in argument else 1
        return SettleCall(record, orjson.dumps(argument), settings, work)

    def _settings_of(self, account: Account | None, identity: Identity) -> bytes:
        """SETTLE's settings of an account as JSON, made once for each."""
        queue = account.queue if account else ""
        cached = self._settings.get(queue)
        if cached is None or cached[0] is not identity:
            settings = {**settings_of(account), **quota_settings(identity), "notices": self._server.notices}
            cached = self._settings[queue] = (identity, orjson.dumps(settings))
        return cached[1]

    def send(self, call: SettleCall) -> Any:
        """Call SETTLE. It is safe to repeat: SETTLE recognises a settled grant.

        Raises:
            redis.RedisError: Redis is away, or refuses it.
        """
        return self._server.run(call.call)

    def replay(self) -> None:
        """Send the settlements that failed.

        A settlement that Redis refuses is kept until its grant's lease ends. It does not delay the
        others.

        Raises:
            redis.RedisError: Redis is still away, or takes no writes.
        """
        if self._server.clock() < self._replay_at:
            return
        for grant_id, call in list(self._unsent.items()):
            try:
                self.send(call)
            except redis.ResponseError as error:
                if isinstance(error, NO_WRITES):
                    raise
                self._replay_at = self._server.clock() + REFUSED_S
                logger.error("%s: Redis refuses an outcome: %s", call.record.queue, error)
            except redis.RedisError:
                self._server.suspicious = True
                raise
            else:
                self._unsent.pop(grant_id, None)
                self._remember(call)

    def replay_last(self) -> None:
        """At the end of the process: send all now, also those that were refused a moment ago.

        Raises:
            redis.RedisError: Redis is still away, or takes no writes.
        """
        self._replay_at = 0.0
        self.replay()

    def _remember(self, call: SettleCall) -> None:
        self._server.succeeded()
        now = self._server.clock()
        if not self._server.suspicious:
            while self._recent and self._recent[0][0] < now - REMEMBERED_S:
                self._recent.popleft()
        self._recent.append((now, call))

    def settled_since(self, moment_s: float) -> list[SettleCall]:
        """Remembered calls that succeeded since then (monotonic), the oldest first."""
        return [call for settled_s, call in self._recent if settled_s >= moment_s]

    def unsettled(self) -> list[SettleCall]:
        """Calls that Redis may not have got. :meth:`replay` repeats them."""
        return list(self._unsent.values())
