"""Rounds: settle the answered grants, take new ones, send them; all in one thread (ADR 28).

A round is one round trip to Redis. It settles all answers of the last moment, and takes as many
requests as there is room on the wire.
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
from workers.http.engine import Engine, Exchange
from workers.rounds.due_queues import LONGEST_WAIT_S, DueQueues
from workers.worker import Worker

logger = logging.getLogger(__name__)

#: Seconds between two tries while Redis is away: the first and the longest.
AWAY_S: Final = (0.1, 1.0)
NOT_PUBLISHED: Final = "what hangs on it could not be published"
#: Seconds that an answer may wait for others, to be settled together.
MOMENT_S: Final = 0.001
#: Most requests of one TAKE, so that no script call takes long.
MOST_AT_ONCE: Final = 64
#: The next TAKE of so many events takes Redis a millisecond: the taken ones are started meanwhile.
#: With fewer events it does not pay.
MANY_EVENTS: Final = 100


class Rounds:
    """The delivery of one process.

    Attributes:
        at_once: Most requests on the wire.
    """

    def __init__(
        self,
        worker: Worker,
        engine: Engine,
        at_once: int,
        follow_up: Callable[[Envelope], bool],
        clock: Callable[[], float] = time.monotonic,
        *,
        record: Callable[[Report], bytes] = lambda report: b"",
    ) -> None:
        """Nothing runs yet.

        Args:
            worker: Its accounts are served.
            engine: Sends; used in the rounds' thread.
            at_once: Most requests on the wire.
            follow_up: Publishes an event's followers and result; False if it failed.
            clock: Seconds that only move forward.
            record: Makes a grant's record for the journal; empty: none.
        """
        self._clock, self._record = clock, record
        self._worker, self._governor, self._engine = worker, worker.governor, engine
        self._follow_up = follow_up
        self.at_once = at_once
        self._queues = DueQueues()
        self._accounts: object = None
        #: Accounts whose last answer was healthy. All others together get at most half of the wire.
        self._healthy: set[str] = set()
        #: Grants to settle in the next round.
        self._answered: list[Grant] = []
        #: Grants to start, if the next round follows at once.
        self._taken: list[Grant] = []
        #: :meth:`wake` was called.
        self._woken = False
        self._forget_at = 0.0
        self._away_s = self._away_until = 0.0
        self._away_for: type[Exception] | None = None
        self._ending = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread, if it does not run yet."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="postback-rounds", daemon=True)
            self._thread.start()

    def finish(self) -> None:
        """Take nothing more, wait for the requests on the wire, settle them, and end."""
        self._ending = True
        if self._thread is not None:
            self._engine.wake()
            self._thread.join()
            self._thread = None
            self._engine.close()

    def wake(self) -> None:
        """Look at the schedule at once. Any thread."""
        self._woken = True
        self._engine.wake()

    def _run(self) -> None:
        while not (self._ending and self._at_rest()):
            try:
                self.turn()
            except Exception:
                # The error would end this process's delivery.
                logger.exception("a round failed; the next one follows")
                time.sleep(LONGEST_WAIT_S)

    def turn(self) -> None:
        """One round, and the work of the engine until the next."""
        self._engine.step(max(0.0, self.round()))
        if self._answered:
            # A round trip costs the same for one answer as for several: wait a moment for more.
            end = self._clock() + MOMENT_S
            while (
                2 * len(self._answered) < len(self._governor.grants) - len(self._taken)
                and (left := end - self._clock()) > 0
            ):
                self._engine.step(left)

    def _at_rest(self) -> bool:
        return not self._answered and not any(grant.sent for grant in self._governor.grants)

    def round(self) -> float:
        """Settle, take and start. Returns seconds until the next round if nothing happens first."""
        now = self._clock()
        if now < self._away_until:
            return self._away_until - now
        try:
            delay = self._round(now)
        except redis.RedisError as error:
            if self._away_for is not type(error):
                self._away_for = type(error)
                logger.warning("Redis is away (%s): its events wait, answers are kept for it", type(error).__name__)
            self._away_s = min(max(AWAY_S[0], self._away_s * 2), AWAY_S[1])
            self._away_until = self._clock() + self._away_s
            self._start_taken()
            return self._away_s
        self._away_s, self._away_for = 0.0, None
        return delay

    def _round(self, now: float) -> float:
        governor, queues = self._governor, self._queues
        self._update_accounts()
        governor.recover_if_restarted()
        if governor.unsent:
            governor.replay()
        answered, self._answered = self._answered, []
        room = 0 if self._ending else self._room() + len(answered)
        wanted = self._wanted(now, room)
        if answered or wanted or self._woken:
            self._woken = False
            queues.look_again()
        room -= sum(count for _, count in wanted)
        looks = queues.looks(now, len(wanted)) if room > 0 else []
        if not (answered or wanted or looks):
            self._start_taken()
            return 0.0 if self._answered else self._delay(self._clock())
        done = governor.round(answered, wanted, self._meanwhile, looks=looks, due=True)
        self._start_taken()
        now = self._clock()
        for queue, error in done.refused.items():
            logger.error("%s: Redis refuses its TAKE: %s", queue, error)
            queues.asked(queue, None, now)
        for queue, taken in done.taken.items():
            if taken.pause:
                logger.warning("%s", taken.pause)
            queues.asked(queue, taken.state, now)
            self._taken += taken.grants
        for look, reply in done.looks:
            queues.receive(look, reply, now)
        if sum(len(grant.envelopes) for grant in self._taken) < MANY_EVENTS:
            self._start_taken()
        return 0.0

    def _meanwhile(self) -> None:
        """While Redis works: start the grants of the last round, and read answers that are in."""
        self._start_taken()
        self._engine.step(0.0)

    def _start_taken(self) -> None:
        taken, self._taken = self._taken, []
        for grant in taken:
            self._start(grant)

    def _delay(self, now: float) -> float:
        if self._ending:
            return LONGEST_WAIT_S
        if self._room() <= 0:
            # An answer ends the wait. If none comes, the lease does.
            if now >= self._forget_at:
                self._forget_at = now + LONGEST_WAIT_S
                self._governor.forget_expired()
            return LONGEST_WAIT_S
        return self._queues.soonest(now)

    def _update_accounts(self) -> None:
        if self._accounts is not self._worker.accounts:
            self._accounts = self._worker.accounts
            self._queues.serve(self._worker.accounts)

    def _room(self) -> int:
        return self.at_once - len(self._governor.grants)

    def _wanted(self, now: float, room: int) -> list[tuple[str, int]]:
        """The queues to ask, each with its most requests: together no more than there is room."""
        if room <= 0:
            return []
        due = self._queues.due(now)
        share = 1 if self._queues.more_behind else max(1, room // max(1, len(due)))
        wanted: list[tuple[str, int]] = []
        unproven = self._room_of_unproven(due)
        for queue in due:
            proven = queue in self._healthy
            count = min(share, MOST_AT_ONCE, self._allowed(queue, room), room if proven else unproven)
            if count <= 0:
                continue  # until an answer or another round changes that
            wanted.append((queue, count))
            room -= count
            unproven -= 0 if proven else count
            if room <= 0:
                break
        return wanted

    def _room_of_unproven(self, due: list[str]) -> int:
        """Room for accounts without a healthy last answer: together at most half of the wire."""
        if self._healthy.issuperset(due):
            return 0
        counts = self._governor.grants.counts
        held = sum(count for queue, count in counts.items() if queue not in self._healthy)
        return max(1, self.at_once // 2) - held

    def _allowed(self, queue: str, room: int) -> int:
        """The most requests of one account (invariant I6).

        If several accounts share the wire, an account with requests on it may not take the last
        place.
        """
        if len(self._queues.queues) == 1:
            return room
        return room - 1 if self._governor.in_flight(queue) else max(1, room - 1)

    def _start(self, grant: Grant) -> None:
        """Put a grant's request on the wire, or settle the grant without a request."""
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
        self._engine.start(prepared.request, account, partial(self._landed, delivery, grant, prepared))

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
        """Settle a grant on which our own code failed. A traceback would show the message."""
        logger.error("%s: Postback's own code failed (%s)", grant.queue, type(error).__name__)
        self._settle(Report(grant, judge_undecided(grant, self._worker.account(grant.queue), ran=grant.sent)))

    def _settle(self, report: Report) -> None:
        """Publish the events' followers, report them, settle the grant in the next round (I3)."""
        grant = report.grant
        for envelope in grant.envelopes:
            if not self._follow_up(envelope):
                # The provider has the event, but its followers were not published. It is sent once
                # more, flagged.
                account = self._worker.account(grant.queue)
                envelope.ruling = judge_failure(envelope, grant.queue, account, NOT_PUBLISHED)
        grant.settlement = report.settlement
        self._answered.append(grant)
        try:
            grant.record = self._record(report)
            self._worker.observe(report)
        except Exception:
            # The grant is settled all the same.
            logger.exception("%s: an outcome could not be reported", grant.queue)
