"""The governor of a process: TAKE, SETTLE and RECONCILE over the grants that it holds."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from typing import Final

import redis

from tasks.envelopes import FOLLOWERS
from tasks.grants import Grants
from tasks.signatures import Followers
from workers.governor.recovery import Recovery
from workers.governor.scripts import timed_keys, wake_keys
from workers.governor.server import Server
from workers.governor.settle import Settler
from workers.governor.take import Accounts, Taker

logger = logging.getLogger(__name__)

#: Seconds after its lease at which an unsettled grant is forgotten here. Redis has long re-queued it.
FORGET_S: Final = 1.0
#: Accounts that one call of a script looks at.
SCANNED: Final = 500


class Governor:
    """One per process. TAKE runs on the event loop; SETTLE runs in any thread.

    Attributes:
        grants: What it holds.
        server: Its Redis.
        take: See :meth:`~workers.governor.take.Taker.take`.
        settler: Settles, and keeps what Redis has not got yet.
        settle: See :meth:`~workers.governor.settle.Settler.settle`.
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
        self.settler = settler = Settler(server, accounts, grants)
        self.take = Taker(server, accounts, grants, followers, one_first=one_first).take
        self.settle, self.replay = settler.settle, settler.replay
        self.recover_if_restarted = Recovery(server, accounts, grants, settler).recover_if_restarted
        self._pid = os.getpid()

    @property
    def unsent(self) -> int:
        """Settlements that Redis has not got yet."""
        return self.settler.unsent

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
                found = self.server.scan([key for queue_keys in part for key in queue_keys], len(part[0]))
                with_work += [asked[first + number - 1] for number in found]
        except redis.RedisError:
            self.server.suspicious = True
            raise
        self.server.succeeded()
        return with_work

    def in_flight(self, queue: str | None = None) -> int:
        """Grants held in this process."""
        if queue is None:
            return len(self.grants)
        return sum(grant.queue == queue for grant in self.grants)

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
