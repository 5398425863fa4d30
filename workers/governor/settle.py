"""SETTLE: applies everything that one answer means, in one step (invariant I3)."""

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

#: Seconds that Redis may forget with ``appendfsync everysec``, and some more.
REMEMBERED_S: Final = 3.0
#: Most grants kept for that: more than a process settles in that time, at 10,000 a second.
RECENT_GRANTS: Final = 30_000
#: Seconds after which settlements that Redis refused are tried again.
REFUSED_S: Final = 1.0
#: The most common answer.
HEALTHY: Final = Settlement("ok")
#: SETTLE's settings of an account that this process no longer serves.
DEPARTED: Final = {
    "backoff_ms": 1000,
    "outage_after": 5,
    "in_place": False,
    "longest_pause_ms": 300_000,
}


@dataclass(frozen=True, slots=True)
class Known:
    """What RECONCILE is told of a grant.

    What was read in its messages is not kept: of a busy worker's last seconds that would be 100 MB.
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

    @classmethod
    def of(cls, grant: Grant, identity: Identity) -> Known:
        """What a grant's answer, or the grant itself, is known by."""
        duplicates = [bool(envelope.duplicate_of) for envelope in grant.envelopes]
        raws = [envelope.raw for envelope in (*grant.envelopes, *grant.siblings)]
        return cls(grant.id, grant.queue, identity, grant.granted_us, grant.group, duplicates, raws)


@dataclass(frozen=True, slots=True)
class Answer:
    """A settled grant with its call of SETTLE."""

    known: Known
    argument: bytes
    settings: bytes
    #: Messages that SETTLE moves, about.
    work: int

    @property
    def call(self) -> Call:
        """What tells Redis of it."""
        return Call("settle", self.known.queue, self.argument, self.known.identity, self.settings, self.work)


def encoded(grant: Grant, settlement: Settlement) -> dict[str, Any]:
    """A settlement and the rulings on its grant's events, as SETTLE is told; see ``workers/governor/lua/settle.lua``.

    No more than a number for the most common one: a healthy answer, and everything is delivered.
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
    """What SETTLE is told of one event; None of one that is done with."""
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
    """What SETTLE is told of an account."""
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
        #: Queue -> whose it is, and what SETTLE is told of it. With another account it is another's.
        self._settings: dict[str, tuple[Identity, bytes]] = {}
        #: Answers that Redis has not got yet, by grant.
        self._unsent: dict[str, Answer] = {}
        #: Answers settled lately, and when (monotonic), for a Redis that forgot its last second.
        self._recent: deque[tuple[float, Answer]] = deque(maxlen=RECENT_GRANTS)
        self._replay_at = 0.0

    @property
    def unsent(self) -> int:
        """Settlements that Redis has not got yet."""
        return len(self._unsent)

    def release(self, grants: Iterable[Grant]) -> list[Answer]:
        """What SETTLE is to be told of grants, which are held here no longer; nothing of those that were not.

        Raises:
            ValueError: A grant has no settlement.
        """
        answers = []
        for grant in grants:
            if grant.settlement is None:
                raise ValueError("the grant has no settlement")
            answer = self._answer(grant, grant.settlement)
            if self._grants.pop(grant.id) is not None:
                answers.append(answer)
        return answers

    def keep(self, answers: Iterable[Answer]) -> None:
        """Redis has not got these: :meth:`replay` tells it."""
        for answer in answers:
            self._unsent[answer.known.id] = answer

    def heard(self, answer: Answer, reply: Any) -> None:
        """What SETTLE replied."""
        if isinstance(reply, redis.RedisError):
            self.keep([answer])
            self._server.suspicious = True
            logger.warning("%s: cannot settle now, kept for later (%s)", answer.known.queue, type(reply).__name__)
            return
        self._remember(answer)

    def _answer(self, grant: Grant, settlement: Settlement) -> Answer:
        account = self._accounts().get(grant.queue)
        identity = self._identities.of_grant(grant, account)
        known = Known.of(grant, identity)
        told = {"grant": grant.id, "granted_us": grant.granted_us, **encoded(grant, settlement)}
        settings = b""
        if "health" in told:
            told["random"] = random.random()
            settings = self._settings_of(account, identity)
        if account is not None and settlement.retry_after_s is not None:
            told["retry_after_ms"] = int(settlement.retry_after_s * 1000)
        work = len(known.raws) if "health" in told else 1
        return Answer(known, orjson.dumps(told), settings, work)

    def _settings_of(self, account: Account | None, identity: Identity) -> bytes:
        """What SETTLE is told of an account, as JSON: made once for each."""
        queue = account.queue if account else ""
        known = self._settings.get(queue)
        if known is None or known[0] is not identity:
            told = {**settings_of(account), **quota_settings(identity), "notices": self._server.notices}
            known = self._settings[queue] = (identity, orjson.dumps(told))
        return known[1]

    def send(self, answer: Answer) -> Any:
        """Tell Redis of an answer. Safe to repeat: SETTLE knows a grant that it has settled.

        Raises:
            redis.RedisError: Redis is away, or refuses it.
        """
        return self._server.run(answer.call)

    def replay(self) -> None:
        """Send the settlements that failed.

        One that Redis refuses is kept and does not hold up the others; it ends with its grant's lease.

        Raises:
            redis.RedisError: Redis is still away, or takes no writes.
        """
        if self._server.clock() < self._replay_at:
            return
        for grant_id, answer in list(self._unsent.items()):
            try:
                self.send(answer)
            except redis.ResponseError as error:
                if isinstance(error, NO_WRITES):
                    raise
                self._replay_at = self._server.clock() + REFUSED_S
                logger.error("%s: Redis refuses a settlement: %s", answer.known.queue, error)
            except redis.RedisError:
                self._server.suspicious = True
                raise
            else:
                self._unsent.pop(grant_id, None)
                self._remember(answer)

    def replay_last(self) -> None:
        """At the end of the process: send them now, also those that were refused a moment ago.

        Raises:
            redis.RedisError: Redis is still away, or takes no writes.
        """
        self._replay_at = 0.0
        self.replay()

    def _remember(self, answer: Answer) -> None:
        self._server.succeeded()
        now = self._server.clock()
        if not self._server.suspicious:
            while self._recent and self._recent[0][0] < now - REMEMBERED_S:
                self._recent.popleft()
        self._recent.append((now, answer))

    def settled_since(self, moment_s: float) -> list[Answer]:
        """Answers settled since then (monotonic), as far as they are remembered; the oldest first."""
        return [answer for settled_s, answer in self._recent if settled_s >= moment_s]

    def unsettled(self) -> list[Answer]:
        """Answers that Redis may not have got: :meth:`replay` tells it."""
        return list(self._unsent.values())
