"""Rounds: settle what was answered, take what may be sent, send it; all in one thread (ADR 28).

A round is one round trip to Redis. It tells Redis of all answers of the last moment, and asks it for as many requests as
there is room on the wire.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Final

import redis

from tasks.delivery import Delivery, Prepared, Report
from tasks.envelopes import Envelope
from tasks.grants import Grant, Settlement
from tasks.judge import judge_failure, judge_undecided
from tasks.providers import PROVIDERS
from workers.http.wire import Exchange, Wire
from workers.rounds.schedule import LONGEST_WAIT_S, Schedule
from workers.worker import Worker

logger = logging.getLogger(__name__)

#: Seconds between two tries while Redis is away, first and longest.
AWAY_S: Final = (0.1, 1.0)
NOT_PUBLISHED: Final = "what hangs on it could not be published"
#: Seconds that an answer may wait for others, to be settled together with them.
MOMENT_S: Final = 0.001
#: Most requests that one TAKE is asked for: no script call is long.
MOST_AT_ONCE: Final = 64
#: So many events keep Redis at work for a millisecond at the next TAKE: they are started meanwhile. For
#: fewer it does not pay.
MANY_EVENTS: Final = 100


class Rounds:
    """The delivery of one process.

    Attributes:
        at_once: Most requests on the wire.
    """

    def __init__(
        self,
        worker: Worker,
        wire: Wire,
        at_once: int,
        follow_up: Callable[[Envelope], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Nothing runs yet.

        Args:
            worker: Its accounts are served.
            wire: Sends; used in the rounds' thread.
            at_once: Most requests on the wire.
            follow_up: Publishes what hangs on an event and its result; False if it could not.
            clock: Seconds that only move forward.
        """
        self._clock = clock
        self._worker, self._governor, self._wire = worker, worker.governor, wire
        self._follow_up = follow_up
        self.at_once = at_once
        self._schedule = Schedule()
        self._accounts: object = None
        #: Accounts whose last answer was healthy. All others together hold at most half of the wire.
        self._healthy: set[str] = set()
        #: Grants that are to be settled in the next round.
        self._answered: list[Grant] = []
        #: Grants that are still to be started, if the next round follows at once.
        self._taken: list[Grant] = []
        #: Somebody says that there is something to do.
        self._woken = False
        self._forget_at = 0.0
        self._away_s = self._away_until = 0.0
        self._away_for: type[Exception] | None = None
        self._ending = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Run from now on, if it does not yet."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="postback-rounds", daemon=True)
            self._thread.start()

    def finish(self) -> None:
        """Take nothing more, wait for what is on the wire, settle it, and end."""
        self._ending = True
        if self._thread is not None:
            self._wire.wake()
            self._thread.join()
            self._thread = None
            self._wire.close()

    def wake(self) -> None:
        """Look at the schedule at once. Any thread."""
        self._woken = True
        self._wire.wake()

    def _run(self) -> None:
        while not (self._ending and self._at_rest()):
            try:
                self.turn()
            except Exception:
                # It would end the delivery of this process.
                logger.exception("a round failed; the next one follows")
                time.sleep(LONGEST_WAIT_S)

    def turn(self) -> None:
        """One round, and what happens on the wire until the next."""
        self._wire.step(max(0.0, self.round()))
        if self._answered:
            # A round trip costs as much for one answer as for several: wait a moment for more.
            end = self._clock() + MOMENT_S
            while (
                2 * len(self._answered) < len(self._governor.grants) - len(self._taken)
                and (left := end - self._clock()) > 0
            ):
                self._wire.step(left)

    def _at_rest(self) -> bool:
        return not self._answered and not any(grant.sent for grant in self._governor.grants)

    def round(self) -> float:
        """Settle, take and start. Returns the seconds until the next is due if nothing comes in between."""
        now = self._clock()
        if now < self._away_until:
            return self._away_until - now
        try:
            delay = self._round(now)
        except redis.RedisError as error:
            if self._away_for is not type(error):
                self._away_for = type(error)
                logger.warning("Redis is away (%s); events wait in it, answers are kept", type(error).__name__)
            self._away_s = min(max(AWAY_S[0], self._away_s * 2), AWAY_S[1])
            self._away_until = self._clock() + self._away_s
            self._start_taken()
            return self._away_s
        self._away_s, self._away_for = 0.0, None
        return delay

    def _round(self, now: float) -> float:
        governor, schedule = self._governor, self._schedule
        self._hear_of_accounts()
        governor.recover_if_restarted()
        if governor.unsent:
            governor.replay()
        answered, self._answered = self._answered, []
        room = 0 if self._ending else self._room() + len(answered)
        wanted = self._wanted(now, room)
        if answered or wanted or self._woken:
            self._woken = False
            schedule.look_again()
        room -= sum(count for _, count in wanted)
        looks = schedule.looks(now, len(wanted)) if room > 0 else []
        if not (answered or wanted or looks):
            self._start_taken()
            return 0.0 if self._answered else self._delay(self._clock())
        done = governor.round(answered, wanted, self._meanwhile, looks=looks, due=True)
        self._start_taken()
        now = self._clock()
        for queue, error in done.refused.items():
            logger.error("%s: Redis refuses its TAKE: %s", queue, error)
            schedule.asked(queue, None, now)
        for queue, taken in done.taken.items():
            if taken.pause:
                logger.warning("%s", taken.pause)
            schedule.asked(queue, taken.state, now)
            self._taken += taken.grants
        for look, seen in done.seen:
            schedule.seen(look, seen, now)
        if sum(len(grant.envelopes) for grant in self._taken) < MANY_EVENTS:
            self._start_taken()
        return 0.0

    def _meanwhile(self) -> None:
        """Redis is at work: start what the round before has taken, and hear what came back in the last moment."""
        self._start_taken()
        self._wire.step(0.0)

    def _start_taken(self) -> None:
        taken, self._taken = self._taken, []
        for grant in taken:
            self._start(grant)

    def _delay(self, now: float) -> float:
        if self._ending:
            return LONGEST_WAIT_S
        if self._room() <= 0:
            # An answer ends the wait; the lease bounds an answer that never comes.
            if now >= self._forget_at:
                self._forget_at = now + LONGEST_WAIT_S
                self._governor.forget_expired()
            return LONGEST_WAIT_S
        return self._schedule.soonest(now)

    def _hear_of_accounts(self) -> None:
        if self._accounts is not self._worker.accounts:
            self._accounts = self._worker.accounts
            self._schedule.serve(self._worker.accounts)

    def _room(self) -> int:
        return self.at_once - len(self._governor.grants)

    def _wanted(self, now: float, room: int) -> list[tuple[str, int]]:
        """Which accounts are asked, and for how many requests: together no more than there is room."""
        if room <= 0:
            return []
        due = self._schedule.due(now)
        share = 1 if self._schedule.more_behind else max(1, room // max(1, len(due)))
        wanted: list[tuple[str, int]] = []
        unproven = self._room_of_unproven(due)
        for queue in due:
            proven = queue in self._healthy
            count = min(share, MOST_AT_ONCE, self._allowed(queue, room), room if proven else unproven)
            if count <= 0:
                continue  # only an answer can change that, or another round
            wanted.append((queue, count))
            room -= count
            unproven -= 0 if proven else count
            if room <= 0:
                break
        return wanted

    def _room_of_unproven(self, due: list[str]) -> int:
        """Room for accounts without a healthy last answer: together they hold at most half of the wire."""
        if self._healthy.issuperset(due):
            return 0
        counts = self._governor.grants.counts
        held = sum(count for queue, count in counts.items() if queue not in self._healthy)
        return max(1, self.at_once // 2) - held

    def _allowed(self, queue: str, room: int) -> int:
        """Where several accounts share the wire, none may hold its last place beside others of its own (invariant I6)."""
        if len(self._schedule.queues) == 1:
            return room
        return room - 1 if self._governor.in_flight(queue) else max(1, room - 1)

    def _start(self, grant: Grant) -> None:
        """Put a grant's request on the wire, or decide what becomes of it without one."""
        account = self._worker.account(grant.queue)
        if account is None or not self._governor.is_current(grant, account):
            self._settle(Report(grant, grant.put_back()))
            return
        delivery = Delivery(account, PROVIDERS[account.provider], scrub=self._worker.scrub)
        try:
            prepared = delivery.prepare(grant)
        except Exception as error:
            self._failed(grant, error)
            return
        if isinstance(prepared, Settlement):
            self._settle(Report(grant, prepared))
            return
        grant.sent = True
        self._wire.start(prepared.request, account, partial(self._landed, delivery, grant, prepared))

    def _landed(self, delivery: Delivery, grant: Grant, prepared: Prepared, exchange: Exchange) -> None:
        try:
            report = delivery.conclude(grant, prepared, exchange.answer, exchange.elapsed_s)
        except Exception as error:
            self._failed(grant, error)
            return
        if report.settlement.health == "ok":
            self._healthy.add(grant.queue)
        else:
            self._healthy.discard(grant.queue)
        self._settle(report)

    def _failed(self, grant: Grant, error: Exception) -> None:
        """Our own code failed. No traceback: it would show the message."""
        logger.error("%s: our own code failed (%s)", grant.queue, type(error).__name__)
        self._settle(Report(grant, judge_undecided(grant, self._worker.account(grant.queue), ran=grant.sent)))

    def _settle(self, report: Report) -> None:
        """Publish what hangs on the events, tell of them, and settle the grant in the next round (invariant I3)."""
        grant = report.grant
        for envelope in grant.envelopes:
            if not self._follow_up(envelope):
                # The provider has it, what hangs on it was not published: once more, and flagged.
                account = self._worker.account(grant.queue)
                envelope.ruling = judge_failure(envelope, grant.queue, account, NOT_PUBLISHED)
        grant.settlement = report.settlement
        self._answered.append(grant)
        try:
            self._worker.observe(report)
        except Exception:
            # It is settled all the same.
            logger.exception("%s: an outcome could not be told", grant.queue)
