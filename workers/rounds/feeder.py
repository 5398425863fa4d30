"""Runs on Celery's event loop: asks TAKE for the accounts that may have work and hands each grant to Celery as one ordinary message.

It is driven by the loop's timers and not by ``on_tick``: the loop computes how long it may sleep before it calls ``on_tick``, so what is armed
there waits up to a second. ``call_soon`` wakes the loop from any thread.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any, Final, Protocol

import redis

from tasks.grants import Grant
from workers.governor import NO_WRITES, Governor, State, Taken

logger = logging.getLogger(__name__)

#: Seconds between two looks for new events of idle accounts; half of it is the mean latency that it adds.
IDLE_S: Final = 0.02
#: Longest wait between two looks at a batch that is filling, seconds.
FILLING_S: Final = 0.1
#: Seconds after which an account is asked again whatever TAKE said: another worker may have died, an operator may have resumed it.
LONGEST_WAIT_S: Final = 1.0
#: Seconds between two tries while Redis is away, first and longest.
AWAY_S: Final = (0.1, 1.0)
#: Seconds by which a timer may come early or late.
PRECISION_S: Final = 3e-4
#: Requests taken at once where Celery sets no prefetch limit.
UNLIMITED: Final = 64


class Loop(Protocol):
    """What is used of kombu's event loop."""

    def call_soon(self, callback: Callable[..., Any], *args: Any) -> Any:
        """Run in the loop's thread, soon; may be called from any thread."""

    def call_later(self, delay: float, callback: Callable[..., Any], *args: Any) -> Any:
        """Run in the loop's thread after ``delay`` seconds; call in that thread only."""


class Subscription(Protocol):
    """A consumer of one queue."""

    def deliver(self, grant: Grant) -> None:
        """Hand a grant to Celery."""

    def free(self) -> int:
        """How many messages Celery would take now."""

    def threads(self) -> int:
        """How many it takes in all; 0 for no limit."""


class Feeder:
    """Feeds the consumers of one connection."""

    def __init__(self, governor: Governor, refused: Callable[[Grant, Exception], None]) -> None:
        """It sleeps until it has a loop and a subscription.

        Args:
            governor: Takes grants.
            refused: Settles a grant that could not be handed to Celery.
        """
        self._governor = governor
        self._refused = refused
        self._subscriptions: dict[str, Subscription] = {}
        #: Queue -> when it is worth asking (monotonic). Queues that are not in it are idle and only scanned.
        self._next: dict[str, float] = {}
        #: Idle queue -> when something that waits in it becomes due, as far as this process knows.
        self._due: dict[str, float] = {}
        #: Queue that waits for an answer to a request on its way -> seconds until it is asked again without one.
        self._blocked: dict[str, float] = {}
        #: Idle queues to ask anew at the next kick; added to by any thread.
        self._changed: set[str] = set()
        self._loop: Loop | None = None
        self._kick_pending = False
        self._timer: Any = None
        self._armed_for = 0.0
        self._turn = 0
        self._scan_at = 0.0
        self._timed_scan_at = 0.0
        self._away_s = 0.0

    def add(self, queue: str, subscription: Subscription) -> None:
        """Feed a queue from now on."""
        self._subscriptions[queue] = subscription
        self._next[queue] = 0.0
        self.kick()

    def remove(self, queue: str) -> None:
        """Feed a queue no longer; what was taken is finished."""
        self._subscriptions.pop(queue, None)
        self._next.pop(queue, None)
        self._due.pop(queue, None)
        self._blocked.pop(queue, None)

    def ask(self, queue: str) -> None:
        """Look at one account at once, whatever TAKE said before: somebody resumed it, or its limits have changed. In the loop's thread."""
        if queue in self._subscriptions:
            self._next[queue] = 0.0
            self._due.pop(queue, None)
            self.kick()

    def look_again(self, queue: str) -> None:
        """At the next kick ask an idle queue when what an answer has left in it becomes due. Any thread."""
        self._changed.add(queue)

    def start(self, loop: Loop) -> None:
        """Run on this loop. A reconnect makes a new feeder on the same loop; the old one must be stopped."""
        self._loop = loop
        self._kick_pending = False
        self.kick()

    def stop(self) -> None:
        """Never run again."""
        self._loop = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def kick(self) -> None:
        """Look again soon: an answer is in, or a queue was added. Any thread."""
        loop = self._loop
        if loop is not None and not self._kick_pending:
            self._kick_pending = True
            loop.call_soon(self._kicked)

    def _kicked(self) -> None:
        # Cleared first: an answer that comes in during this round asks for another.
        self._kick_pending = False
        now = time.monotonic()
        for queue in self._blocked:
            if queue in self._next:
                self._next[queue] = now
        self._blocked.clear()
        while self._changed:
            queue = self._changed.pop()
            if queue in self._subscriptions:
                self._next.setdefault(queue, now)
        if not self._away_s:
            self._run()

    def _arm(self, delay: float) -> None:
        """Run within ``delay`` seconds. There is one timer at a time: a backlog of stale ones would stall kombu's loop, which fires ten a round."""
        loop = self._loop
        if loop is None:
            return
        at = time.monotonic() + delay
        if self._timer is not None:
            if self._armed_for <= at + PRECISION_S:
                return
            self._timer.cancel()
        self._armed_for = at
        self._timer = loop.call_later(delay, self._fired)

    def _fired(self) -> None:
        self._timer = None
        self._run()

    def _run(self) -> None:
        if self._loop is None or not self._subscriptions:
            return
        try:
            delay = self._pump()
            self._away_s = 0.0
        except redis.RedisError as error:
            if not self._away_s:
                logger.warning("Redis is away (%s); events wait in it, answers are kept", type(error).__name__)
            self._away_s = min(max(AWAY_S[0], self._away_s * 2), AWAY_S[1])
            delay = self._away_s
        except Exception:
            # Raised into the loop it would end the worker.
            logger.exception("a round of the feeder failed; it goes on")
            delay = LONGEST_WAIT_S
        self._arm(max(delay, 0.0005))

    def _pump(self) -> float:
        """One round over the accounts. Returns seconds until the next."""
        governor = self._governor
        governor.recover_if_restarted()
        if governor.unsent:
            governor.replay()
        room = self._room()
        if room <= 0:
            # An answer kicks; the lease bounds an answer that never comes.
            if not governor.forget_expired():
                return LONGEST_WAIT_S
            room = self._room()
        now = time.monotonic()
        self._wake_idle(now)
        due = [queue for queue, at in self._next.items() if at <= now + PRECISION_S]
        if due:
            self._turn += 1
            start = self._turn % len(due)
            for queue in due[start:] + due[:start]:
                if room <= 0:
                    break
                room -= self._feed(queue, room)
        now = time.monotonic()
        soonest = min((*self._next.values(), *self._due.values()), default=now + LONGEST_WAIT_S) - now
        if soonest <= 0 and self._room() <= 0:
            return LONGEST_WAIT_S
        return min(soonest, self._scan_at - now) if len(self._next) < len(self._subscriptions) else soonest

    def _wake_idle(self, now: float) -> None:
        for queue, at in list(self._due.items()):
            if at <= now + PRECISION_S:
                del self._due[queue]
                self._next[queue] = 0.0
        idle = [queue for queue in self._subscriptions if queue not in self._next]
        if not idle or now < self._scan_at:
            return
        self._scan_at = now + IDLE_S
        timed = now >= self._timed_scan_at
        if timed:
            self._timed_scan_at = now + LONGEST_WAIT_S
        for queue in self._governor.scan(idle, timed=timed):
            self._next[queue] = 0.0

    def _feed(self, queue: str, room: int) -> int:
        """Take what one account may have. Returns how many grants."""
        subscription = self._subscriptions[queue]
        allowed = self._allowance(queue, room)
        if allowed <= 0:
            # Only an answer can change that, and an answer kicks.
            self._next[queue] = time.monotonic() + LONGEST_WAIT_S
            self._blocked.setdefault(queue, IDLE_S)
            return 0
        try:
            taken = self._governor.take(queue, allowed)
        except redis.ResponseError as error:
            if isinstance(error, NO_WRITES):
                raise
            # Something is wrong with this account's keys; the others go on.
            logger.error("%s: Redis refuses its TAKE: %s", queue, error)
            self._next[queue] = time.monotonic() + LONGEST_WAIT_S
            return 0
        if taken.pause:
            logger.warning("%s", taken.pause)
        self._schedule(queue, taken)
        for grant in taken.grants:
            self._deliver(subscription, grant)
        return len(taken.grants)

    def _schedule(self, queue: str, taken: Taken) -> None:
        """When the account is asked again."""
        now = time.monotonic()
        self._due.pop(queue, None)
        if taken.state is State.BLOCKED or (taken.state is State.PAUSED and taken.wait_ms is None):
            wait_s = self._blocked.get(queue, IDLE_S)
            self._next[queue] = now + wait_s
            self._blocked[queue] = min(wait_s * 2, LONGEST_WAIT_S)
            return
        self._blocked.pop(queue, None)
        if taken.state is State.EMPTY:
            self._next.pop(queue, None)
            if taken.due_ms is not None:
                self._due[queue] = now + taken.due_ms / 1000
        else:
            longest_s = FILLING_S if taken.state is State.FILLING else LONGEST_WAIT_S
            self._next[queue] = now + min((taken.wait_ms or 0) / 1000, longest_s)

    def _deliver(self, subscription: Subscription, grant: Grant) -> None:
        try:
            subscription.deliver(grant)
        except redis.RedisError:
            raise
        except Exception as error:
            # Whatever it was: nobody waits for it, and its lease is not waited for. No traceback: it would show the message.
            logger.error("%s: cannot hand a message to Celery (%s)", grant.queue, type(error).__name__)
            self._refused(grant, error)

    def _allowance(self, queue: str, room: int) -> int:
        """Where several accounts share the threads, none may hold the last free one beside others of its own (invariant I6)."""
        if len(self._subscriptions) == 1:
            return room
        if self._governor.in_flight(queue):
            return room - 1
        return max(1, room - 1)

    def _room(self) -> int:
        subscription = next(iter(self._subscriptions.values()))
        if not subscription.threads():
            return UNLIMITED - self._governor.in_flight()
        return subscription.free() - self._governor.in_flight()
