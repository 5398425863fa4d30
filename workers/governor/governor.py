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
from tasks.envelopes import DEFAULT_LINK_RULES
from tasks.grants import Grant, Grants
from tasks.links import LinkRules
from workers.governor.identities import Identities
from workers.governor.recovery import Recovery
from workers.governor.server import NO_WRITES, Call, Server
from workers.governor.settle import Settler
from workers.governor.take import Accounts, State, Taken, Taker

logger = logging.getLogger(__name__)

#: Seconds after the end of its lease at which an unsettled grant is forgotten. Redis has long
#: queued its events again.
FORGET_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Look:
    """A read of a provider's schedule.

    Attributes:
        provider: The provider.
        passed: Queues at the front that are skipped.
        most: Most queues in the reply.
    """

    provider: str
    passed: int
    most: int


@dataclass(frozen=True, slots=True)
class LookReply:
    """The reply to a look.

    Attributes:
        due: Queues that may be asked now; the one that waits longest is the first.
        wait_s: Seconds until the next queue is due; None if there is none.
    """

    due: list[str]
    wait_s: float | None


@dataclass(slots=True)
class RoundReply:
    """The result of a round trip.

    Attributes:
        taken: Queue -> result of its TAKE.
        refused: Queue -> why Redis refuses its TAKE.
        looks: Each look with its reply.
    """

    taken: dict[str, Taken] = field(default_factory=dict)
    refused: dict[str, redis.RedisError] = field(default_factory=dict)
    looks: list[tuple[Look, LookReply]] = field(default_factory=list)


class Governor:
    """One per process, used in one thread.

    Attributes:
        grants: The grants that it holds.
        identities: The keys and quotas of its accounts.
        server: Its Redis.
        settler: Settles, and keeps the settlements that Redis does not have yet.
        replay: See :meth:`~workers.governor.settle.Settler.replay`.
    """

    def __init__(
        self,
        server: Server,
        accounts: Accounts,
        *,
        link_rules: LinkRules = DEFAULT_LINK_RULES,
        one_first: bool = True,
    ) -> None:
        """Nothing is sent yet.

        Args:
            server: Its Redis.
            accounts: Returns the accounts of this process by queue. The file may change.
            link_rules: Check a message's links.
            one_first: An account at rest sends a single request until a healthy answer (ADR 11).
        """
        self.grants = grants = Grants()
        self.server = server
        self.identities = identities = Identities()
        self.settler = settler = Settler(server, accounts, grants, identities)
        self._taker = Taker(server, accounts, grants, identities, link_rules, one_first=one_first)
        self.replay = settler.replay
        self._recovery = Recovery(server, accounts, grants, settler, identities)
        self._pid = os.getpid()

    def recover_if_restarted(self) -> None:
        """After a failed call: recover from a restart or a failover, before any new TAKE.

        Raises:
            redis.RedisError: Redis is still away.
        """
        if self.server.suspicious:
            self._recovery.recover()

    def round(
        self,
        settled: Iterable[Grant],
        wanted: Iterable[tuple[str, int]],
        meanwhile: Callable[[], None] = lambda: None,
        *,
        looks: Sequence[Look] = (),
        due: bool = False,
    ) -> RoundReply:
        """Settle grants, take for accounts, and look at the schedule, in one round trip.

        Settlements that Redis did not get are kept. :meth:`replay` repeats them.

        Args:
            settled: Grants with their settlements and rulings.
            wanted: Queues, each with the most requests to take.
            meanwhile: Called while Redis works.
            looks: Looks at the schedule after all that.
            due: Take only for queues that are due in the schedule.

        Raises:
            redis.RedisError: Redis is away or takes no writes. The next TAKE of a queue repeats
                the lost one.
        """
        wanted = list(wanted)
        if wanted and not self.identities.has_key:  # before the first TAKE of this process
            self.identities.learn(self.server.client)
        settle_calls = self.settler.release(settled)
        take_calls = [call for queue, count in wanted if (call := self._taker.call(queue, count, due=due))]
        calls = [settle.call for settle in settle_calls]
        calls += [take.call for take in take_calls]
        calls += [
            Call("look", look.provider, orjson.dumps({"passed": look.passed, "most": look.most})) for look in looks
        ]
        if not calls:
            return RoundReply()
        try:
            replies = iter(self.server.run_many(calls, meanwhile))
        except redis.RedisError as error:
            self.server.suspicious = True
            for settle in settle_calls:
                self.settler.receive(settle, error)
            for take in take_calls:
                self._taker.lose(take)
            raise
        done = RoundReply()
        for settle in settle_calls:
            self.settler.receive(settle, next(replies))
        away: redis.RedisError | None = None
        for take in take_calls:
            reply = next(replies)
            if isinstance(reply, redis.RedisError):
                self._taker.lose(take)
                self.server.suspicious = True
                if isinstance(reply, NO_WRITES):
                    away = reply
                else:
                    done.refused[take.queue] = reply
            else:
                done.taken[take.queue] = self._taker.receive(take, reply)
        for look in looks:
            reply = next(replies)
            if isinstance(reply, redis.RedisError):
                self.server.suspicious = True
                away = away or reply
            else:
                done.looks.append((look, _look_reply(reply)))
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
        """Settle one grant. If Redis is away, the settlement is kept.

        Raises:
            ValueError: The grant has no settlement.
        """
        with contextlib.suppress(redis.RedisError):
            self.round([grant], [])

    @property
    def unsent(self) -> int:
        """Settlements that Redis does not have yet."""
        return self.settler.unsent

    def in_flight(self, queue: str | None = None) -> int:
        """The number of grants that this process holds, of one account or of all."""
        return len(self.grants) if queue is None else self.grants.of(queue)

    def is_current(self, grant: Grant, account: Account) -> bool:
        """Whether the account still has the key that the grant was taken for."""
        return self.identities.of_grant(grant, account).credential == self.identities.of(account).credential

    def forget_expired(self) -> int:
        """Forget grants whose lease is over. Redis has queued their events again.

        Returns:
            The number of grants.
        """
        now = self.server.clock()
        expired = [grant for grant in self.grants if grant.lease_end + FORGET_S < now]
        for grant in expired:
            if self.grants.pop(grant.id):
                logger.error("%s: a request was not settled within its lease; its events are queued again", grant.queue)
        return len(expired)

    def release_all(self) -> None:
        """At the end of the process: put back grants that were not sent."""
        if os.getpid() != self._pid:
            return
        # Each goes to the very front. The latest goes first, so that their order is kept.
        for grant in sorted(self.grants, key=lambda grant: grant.granted_us, reverse=True):
            if grant.settlement is None:
                if grant.sent:
                    # A hurried end (second SIGTERM): its answer is not known. Its events come back
                    # flagged when the lease ends.
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


def _look_reply(reply: Any) -> LookReply:
    values = named(reply)
    wait_ms = values.get("wait_ms")
    return LookReply([queue.decode() for queue in values["due"]], None if wait_ms is None else wait_ms / 1000)
