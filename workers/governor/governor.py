"""The governor of a process: TAKE, SETTLE and RECONCILE over the grants that it holds."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
import redis

from config.accounts import Account
from postback.wire.scripts import named
from tasks.envelopes import FOLLOWERS
from tasks.grants import Grant, Grants
from tasks.signatures import Followers
from workers.governor.identities import Identities
from workers.governor.recovery import Recovery
from workers.governor.scripts import State
from workers.governor.server import NO_WRITES, Call, Server
from workers.governor.settle import Settler
from workers.governor.take import Accounts, Taken, Taker

logger = logging.getLogger(__name__)

#: Seconds after its lease at which an unsettled grant is forgotten here. Redis has long re-queued it.
FORGET_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Look:
    """A look at a provider's schedule.

    Attributes:
        provider: Whose it is.
        passed: Places from the front that are passed by.
        most: Most queues that it brings.
    """

    provider: str
    passed: int
    most: int


@dataclass(frozen=True, slots=True)
class Seen:
    """What a look has brought.

    Attributes:
        due: Queues that may be asked now, those that wait longest first.
        wait_s: Seconds until the next one; None if there is none.
    """

    due: list[str]
    wait_s: float | None


@dataclass(slots=True)
class Round:
    """What a round trip brought.

    Attributes:
        taken: Queue -> what its TAKE brought.
        refused: Queue -> why Redis refuses its TAKE.
        seen: Each look, and what it has brought.
    """

    taken: dict[str, Taken] = field(default_factory=dict)
    refused: dict[str, redis.RedisError] = field(default_factory=dict)
    seen: list[tuple[Look, Seen]] = field(default_factory=list)


class Governor:
    """One per process, used in one thread.

    Attributes:
        grants: What it holds.
        identities: Whose keys and quotas its accounts have.
        server: Its Redis.
        settler: Settles, and keeps what Redis has not got yet.
        replay: See :meth:`~workers.governor.settle.Settler.replay`.
        recover_if_restarted: See :meth:`~workers.governor.recovery.Recovery.recover_if_restarted`.
    """

    def __init__(
        self,
        server: Server,
        accounts: Accounts,
        *,
        followers: Followers = FOLLOWERS,
        one_first: bool = True,
    ) -> None:
        """Nothing is sent yet.

        Args:
            server: Its Redis.
            accounts: The accounts of this process by queue; asked anew each time, since the file may change.
            followers: Checks what hangs on a message.
            one_first: An account at rest sends one request alone until a healthy answer (ADR 11).
        """
        self.grants = grants = Grants()
        self.server = server
        self.identities = identities = Identities()
        self.settler = settler = Settler(server, accounts, grants, identities)
        self._taker = Taker(server, accounts, grants, identities, followers, one_first=one_first)
        self.replay = settler.replay
        self.recover_if_restarted = Recovery(server, accounts, grants, settler, identities).recover_if_restarted
        self._pid = os.getpid()

    def round(
        self,
        settled: Iterable[Grant],
        wanted: Iterable[tuple[str, int]],
        meanwhile: Callable[[], None] = lambda: None,
        *,
        looks: Sequence[Look] = (),
        due: bool = False,
    ) -> Round:
        """Settle grants, take of accounts, and look at the schedule, in one round trip.

        Answers that Redis has not got are kept and repeated by :meth:`replay`.

        Args:
            settled: Grants with their settlements and rulings.
            wanted: Queues, and how many requests each may bring.
            meanwhile: Called while Redis is at work.
            looks: At the schedule, as it is after that.
            due: Take only of queues that the schedule lets ask.

        Raises:
            redis.RedisError: Redis is away, or takes no writes. Each TAKE is repeated at the next one of its queue.
        """
        wanted = list(wanted)
        if wanted and not self.identities.known:  # before the first TAKE of this process
            self.identities.learn(self.server.client)
        answers = self.settler.release(settled)
        wishes = [wish for queue, count in wanted if (wish := self._taker.wish(queue, count, due=due))]
        calls = [answer.call for answer in answers]
        calls += [wish.call for wish in wishes]
        calls += [Call("look", one.provider, orjson.dumps({"passed": one.passed, "most": one.most})) for one in looks]
        if not calls:
            return Round()
        try:
            replies = iter(self.server.run_many(calls, meanwhile))
        except redis.RedisError as error:
            self.server.suspicious = True
            for answer in answers:
                self.settler.heard(answer, error)
            for wish in wishes:
                self._taker.missed(wish)
            raise
        done = Round()
        for answer in answers:
            self.settler.heard(answer, next(replies))
        away: redis.RedisError | None = None
        for wish in wishes:
            reply = next(replies)
            if isinstance(reply, redis.RedisError):
                self._taker.missed(wish)
                self.server.suspicious = True
                if isinstance(reply, NO_WRITES):
                    away = reply
                else:
                    done.refused[wish.queue] = reply
            else:
                done.taken[wish.queue] = self._taker.heard(wish, reply)
        for look in looks:
            reply = next(replies)
            if isinstance(reply, redis.RedisError):
                self.server.suspicious = True
                away = away or reply
            else:
                done.seen.append((look, _seen(reply)))
        if away is not None and not done.taken:
            raise away
        self.server.succeeded()
        return done

    def take(self, queue: str, count: int) -> Taken:
        """Take up to ``count`` requests of one account.

        Raises:
            redis.RedisError: Redis is away, or refuses it.
        """
        done = self.round([], [(queue, count)])
        if queue in done.refused:
            raise done.refused[queue]
        return done.taken.get(queue, Taken([], State.EMPTY))

    def settle(self, grant: Grant) -> None:
        """Settle one grant. If Redis is away its answer is kept.

        Raises:
            ValueError: The grant has no settlement.
        """
        with contextlib.suppress(redis.RedisError):
            self.round([grant], [])

    @property
    def unsent(self) -> int:
        """Settlements that Redis has not got yet."""
        return self.settler.unsent

    def in_flight(self, queue: str | None = None) -> int:
        """Grants held in this process."""
        return len(self.grants) if queue is None else self.grants.of(queue)

    def is_current(self, grant: Grant, account: Account) -> bool:
        """Whether the account still has the key for which the grant was taken."""
        return self.identities.of_grant(grant, account).credential == self.identities.of(account).credential

    def forget_expired(self) -> int:
        """Forget grants whose lease is over: whatever lost them, Redis has queued their events again.

        Returns:
            How many.
        """
        now = self.server.clock()
        expired = [grant for grant in self.grants if grant.lease_end + FORGET_S < now]
        for grant in expired:
            if self.grants.pop(grant.id):
                logger.error("%s: a request was not settled within its lease; its events are queued again", grant.queue)
        return len(expired)

    def release_all(self) -> None:
        """At the end of the process: put back what was taken and never sent."""
        if os.getpid() != self._pid:
            return
        # Each goes to the very front: the latest first, so that they stand in order again.
        for grant in sorted(self.grants, key=lambda grant: grant.granted_us, reverse=True):
            if grant.settlement is None:
                if grant.sent:
                    # A hurried end (second SIGTERM): its answer is not known, so it comes back with its
                    # lease, and flagged.
                    continue
                grant.settlement = grant.put_back()
            self.settle(grant)
        try:
            self.settler.replay_last()
        except redis.RedisError:
            logger.error(
                "Redis is away at shutdown: %d settlements are lost, their events come back when their leases end",
                self.unsent,
            )


def _seen(reply: Any) -> Seen:
    values = named(reply)
    wait_ms = values.get("wait_ms")
    return Seen([queue.decode() for queue in values["due"]], None if wait_ms is None else wait_ms / 1000)
