"""Rounds over a governor that says what the test wants, a wire that answers when it is told, and a
clock that the test turns.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import redis

from config.accounts import Account, build_account
from postback.errors import PostbackError
from tasks.delivery import Report
from tasks.envelopes import Envelope, open_envelope
from tasks.grants import Grant, Grants
from tasks.request import Answer, HttpRequest, NotSent, Unanswered
from tasks.rulings import Again, Dead
from tests.unit.tasks.fakes import OK, Server, message
from workers.governor import Look, LookReply, RoundReply, State, Taken
from workers.governor import Server as RedisOf
from workers.http.engine import Done, Exchange
from workers.rounds.due_queues import LONGEST_WAIT_S, LOOKED_AT
from workers.rounds.rounds import AWAY_S, MOST_AT_ONCE, Rounds
from workers.worker import Worker

QUEUE = "tgtrack.main"
BROKEN = Answer(503, {}, b"")


class Wire:
    """Keeps what was begun until the test answers."""

    def __init__(self) -> None:
        self.begun: list[tuple[str, Done]] = []
        self.woken = 0

    def start(self, request: HttpRequest, account: Account, done: Done) -> None:
        self.begun.append((account.queue, done))

    def step(self, timeout_s: float) -> None: ...

    def wake(self) -> None:
        self.woken += 1

    def close(self) -> None: ...

    def answer(
        self, queue: str | None = None, answer: Answer | NotSent | Unanswered = OK, most: int | None = None
    ) -> None:
        """Answer what is on the wire, the first first."""
        mine = [one for one in self.begun if queue in (None, one[0])][:most]
        for one in mine:
            self.begun.remove(one)
            one[1](Exchange(answer, 0.1))

    @property
    def held(self) -> Counter[str]:
        return Counter(queue for queue, _ in self.begun)


@dataclass
class Governor:
    """Answers as told; counts what it is asked."""

    #: Queue -> what each TAKE says: how many requests there are, and the state; the last one stays.
    says: dict[str, list[Any]] = field(default_factory=dict)
    clock: Callable[[], float] = float
    #: The schedule in Redis: queue -> when it may be asked.
    schedule: dict[str, float] = field(default_factory=dict)
    #: Queues whose account has another key than when they were asked.
    rekeyed: set[str] = field(default_factory=set)
    #: Queues that wait for an answer.
    blocked: set[str] = field(default_factory=set)
    grants: Grants = field(default_factory=Grants)
    takes: list[tuple[str, int]] = field(default_factory=list)
    looks: list[Look] = field(default_factory=list)
    settled: list[Grant] = field(default_factory=list)
    trips: int = 0
    error: Exception | None = None
    unsent: int = 0
    replays: int = 0
    recovers: int = 0
    expired: int = 0

    def recover_if_restarted(self) -> None:
        self.recovers += 1
        if self.error:
            raise self.error

    def replay(self) -> None:
        self.replays += 1

    def is_current(self, grant: Grant, account: Account) -> bool:
        return grant.queue not in self.rekeyed

    def in_flight(self, queue: str) -> int:
        return self.grants.of(queue)

    def forget_expired(self) -> int:
        self.expired += 1
        return 0

    def round(
        self,
        settled: Iterable[Grant],
        wanted: Iterable[tuple[str, int]],
        meanwhile: Any = None,
        *,
        looks: Sequence[Look] = (),
        due: bool = False,
    ) -> RoundReply:
        done = RoundReply()
        self.trips += 1
        for grant in settled:
            self.grants.pop(grant.id)
            self.settled.append(grant)
            if grant.queue in self.blocked:
                self.schedule[grant.queue] = self.clock()
        for queue, count in wanted:
            self.takes.append((queue, count))
            script = self.says.get(queue) or [(0, State.EMPTY)]
            said = script.pop(0) if len(script) > 1 else script[0]
            if isinstance(said, redis.ResponseError) and not isinstance(said, redis.exceptions.ReadOnlyError):
                done.refused[queue] = said
            elif isinstance(said, Exception):
                raise said
            else:
                done.taken[queue] = taken = self._taken(queue, count, *said)
                self._plan(queue, taken)
        for look in looks:
            self.looks.append(look)
            now, inf = self.clock(), float("inf")
            mine = {name: at for name, at in self.schedule.items() if name.startswith(f"{look.provider}.")}
            ready = sorted((at, name) for name, at in mine.items() if at <= now)[look.passed :][: look.most]
            later = min((at for at in mine.values() if at > now), default=inf)
            done.looks.append((look, LookReply([name for _, name in ready], None if later == inf else later - now)))
        return done

    def _plan(self, queue: str, taken: Taken) -> None:
        """As TAKE plans it."""
        wait_ms = {State.MORE: 0.0, State.EMPTY: taken.due_ms}.get(taken.state, taken.wait_ms or 300_000)
        self.schedule.pop(queue, None)
        if wait_ms is not None:
            self.schedule[queue] = self.clock() + wait_ms / 1000
        (self.blocked.add if taken.state is State.BLOCKED else self.blocked.discard)(queue)

    def _taken(self, queue: str, most: int, count: int, state: State, *rest: Any) -> Taken:
        grants = []
        for _ in range(min(count, most)):
            number = len(self.settled) + len(self.grants)
            name = queue.partition(".")[2]
            raw = message(account=name, id=f"event-{number}")
            grants.append(Grant(f"g{number}.{self.trips}", queue, [open_envelope(raw)], lease_end=float("inf")))
            self.grants.add(grants[-1])
        return Taken(grants, state, *rest)


class Stage:
    """Rounds with all that they play with."""

    def __init__(self, *queues: str, at_once: int = 8) -> None:
        self.now = 1000.0
        self.governor = Governor(clock=lambda: self.now, schedule=dict.fromkeys(queues, 0.0))
        accounts = {queue: build_account("tgtrack", queue.partition(".")[2], {"api_key": "k"}) for queue in queues}
        self.worker = Worker(RedisOf(redis.Redis), accounts, Server())
        self.worker.governor = self.governor  # type: ignore[assignment]
        self.reports: list[Report] = []
        self.worker.observers.append(self.reports.append)
        self.wire = Wire()
        self.published: list[Envelope] = []
        self.publishes = True
        self.rounds = Rounds(self.worker, self.wire, at_once, self.follow_up, lambda: self.now)
        self.rounds.round()  # the first look

    def follow_up(self, event: Envelope) -> bool:
        self.published.append(event)
        return self.publishes

    def ask(self, *queues: str) -> None:
        """Something was sent to these."""
        for queue in queues:
            self.governor.schedule[queue] = self.now
        self.rounds.wake()

    def round(self) -> float:
        """A round; one that has nothing to tell Redis and nothing to ask it is none."""
        trips = self.governor.trips
        delay = self.rounds.round()
        return delay if self.governor.trips > trips or delay > 0 else self.rounds.round()

    def run(self, seconds: float) -> None:
        """Let time pass; each round comes when the one before wanted it."""
        end = self.now + seconds
        for _ in range(100_000):
            self.now += min(max(0.0, self.round()), end - self.now)
            if self.now >= end:
                return

    def takes(self, queue: str = QUEUE) -> int:
        return sum(1 for name, _ in self.governor.takes if name == queue)


@pytest.fixture
def stage() -> Stage:
    return Stage(QUEUE)


def proven(stage: Stage, *queues: str) -> None:
    """These accounts have answered well."""
    for queue in queues:
        stage.governor.says[queue] = [(1, State.EMPTY), (0, State.EMPTY)]
        stage.ask(queue)
    for _ in queues:
        stage.run(0.001)
        stage.wire.answer()
    stage.run(0.001)
    stage.governor.takes.clear()


class TestRound:
    def test_one_trip(self, stage: Stage) -> None:
        """Answers of a moment are settled, and their room is taken, in one round trip."""
        proven(stage, QUEUE)
        stage.governor.says[QUEUE] = [(99, State.MORE)]
        stage.ask(QUEUE)
        stage.run(0.001)
        stage.wire.answer(most=3)
        trips, settled = stage.governor.trips, len(stage.governor.settled)
        stage.round()
        assert stage.governor.trips == trips + 1
        assert len(stage.governor.settled) == settled + 3
        assert stage.governor.takes[-1] == (QUEUE, 3)
        assert len(stage.wire.begun) == 8

    def test_what_is_not_sent_is_settled_at_once(self, stage: Stage) -> None:
        """A dead event needs no wire; the next round follows without a wait."""
        stage.governor.says[QUEUE] = [(1, State.EMPTY)]
        stage.worker.accounts = {QUEUE: build_account("tgtrack", "other", {"api_key": "k"})}
        assert stage.round() == 0.0
        stage.round()
        assert [grant.envelopes[0].ruling.kind for grant in stage.governor.settled] == ["dead"]
        assert stage.wire.begun == []

    def test_an_account_that_is_gone(self, stage: Stage) -> None:
        """What was taken of an account that left the file in the same moment goes back."""
        stage.governor.says[QUEUE] = [(1, State.EMPTY)]
        taken = stage.governor.round([], [(QUEUE, 1)]).taken[QUEUE].grants[0]
        stage.worker.accounts = {}
        stage.rounds._start(taken)
        assert [report.rulings[0].kind for report in stage.reports] == ["wait"]

    def test_an_account_with_another_key(self, stage: Stage) -> None:
        """A request that was counted for one key is not sent with another: its events go back."""
        stage.governor.says[QUEUE] = [(1, State.EMPTY)]
        taken = stage.governor.round([], [(QUEUE, 1)]).taken[QUEUE].grants[0]
        stage.governor.rekeyed.add(QUEUE)
        stage.rounds._start(taken)
        assert [report.rulings[0].kind for report in stage.reports] == ["wait"]
        assert stage.wire.begun == []

    def test_our_own_failure(self, stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
        """A bug of ours after a request is ambiguous, told without the message, and stops
        nobody.
        """

        class Broken(Answer):
            @property
            def status(self) -> int:
                raise PostbackError("secret")

        stage.governor.says[QUEUE] = [(1, State.EMPTY)]
        stage.round()
        stage.wire.answer(answer=Broken.__new__(Broken))
        stage.round()
        ruling = stage.governor.settled[0].envelopes[0].ruling
        assert isinstance(ruling, Again)
        assert ruling.ambiguous
        assert "Postback's own code failed" in caplog.text
        assert "secret" not in caplog.text

    def test_links_before_the_settle(self, stage: Stage) -> None:
        """What hangs on an event is published before it settles; else it is sent again and flagged
        (I3).
        """
        stage.governor.says[QUEUE] = [(1, State.EMPTY)]
        stage.publishes = False
        stage.round()
        stage.wire.answer()
        assert stage.published == [stage.reports[0].grant.envelopes[0]]
        assert stage.governor.settled == []
        stage.round()
        ruling = stage.governor.settled[0].envelopes[0].ruling
        assert ruling == Again(2, "ambiguous: what hangs on it could not be published", ambiguous=True)


class TestTime:
    def test_a_wait_is_slept(self, stage: Stage) -> None:
        """An account whose schedule said `in 400 ms` is asked then, not before."""
        stage.governor.says[QUEUE] = [(0, State.SPENT, 400)]
        stage.run(0.39)
        assert stage.takes() == 1
        stage.run(0.02)
        assert stage.takes() == 2

    def test_idle_accounts_cost_a_look_a_second(self) -> None:
        """However many they are."""
        stage = Stage(*(f"tgtrack.a{number}" for number in range(500)))
        stage.run(0.5)
        stage.governor.takes.clear()
        stage.governor.looks.clear()
        stage.run(20)
        assert stage.governor.takes == []
        assert len(stage.governor.looks) == pytest.approx(20, abs=1)

    def test_woken(self, stage: Stage) -> None:
        """Somebody says that there is something: it looks at once, and takes in the next round."""
        stage.run(0.5)
        stage.governor.says[QUEUE] = [(1, State.EMPTY)]
        stage.ask(QUEUE)
        assert stage.wire.woken == 1
        stage.run(0.001)
        assert len(stage.wire.begun) == 1

    def test_a_wake_that_was_lost(self, stage: Stage) -> None:
        """Nobody said so: it is found within a second."""
        stage.run(0.5)
        stage.governor.says[QUEUE] = [(1, State.EMPTY)]
        stage.governor.schedule[QUEUE] = stage.now
        stage.run(LONGEST_WAIT_S + 0.01)
        assert len(stage.wire.begun) == 1

    def test_what_becomes_due_is_taken_then(self, stage: Stage) -> None:
        """An idle account is asked at the moment at which something becomes due."""
        stage.governor.says[QUEUE] = [(0, State.EMPTY, None, 350), (0, State.EMPTY)]
        stage.run(0.345)
        assert stage.takes() == 1
        stage.run(0.01)
        assert stage.takes() == 2

    def test_another_worker_was_faster(self, stage: Stage) -> None:
        """What the schedule has said a moment ago may hold no more: it is not asked again for
        that.
        """
        stage.governor.says[QUEUE] = [(0, State.CLOSED)]
        stage.run(5)
        assert stage.takes() == 1

    def test_accounts_come_and_go(self, stage: Stage) -> None:
        """A changed accounts file is served from the next round on; what is due of others is left
        to others.
        """
        stage.run(0.1)
        stage.worker.accounts = {"tgtrack.new": build_account("tgtrack", "new", {"api_key": "k"})}
        before = stage.takes()
        stage.ask("tgtrack.new", QUEUE)
        stage.run(0.1)
        assert stage.takes("tgtrack.new") == 1
        assert stage.takes() == before

    def test_what_it_cannot_ask_hides_nothing(self) -> None:
        """Whatever stands in front of the schedule, of other workers' accounts, what is behind is
        found.
        """
        stage = Stage(QUEUE)
        for number in range(3 * LOOKED_AT):
            stage.governor.schedule[f"tgtrack.foreign{number:03}"] = 1.0
        stage.run(0.1)
        stage.governor.takes.clear()
        looks = len(stage.governor.looks)
        stage.governor.says[QUEUE] = [(1, State.EMPTY)]
        stage.ask(QUEUE)
        stage.run(0.1)
        assert stage.takes() == 1
        assert len(stage.governor.looks) - looks < 20, "it does not spin"


class TestBlocked:
    def test_asked_again_at_an_answer(self, stage: Stage) -> None:
        """An account that waits for an answer is asked as soon as one is in."""
        stage.governor.says[QUEUE] = [(1, State.BLOCKED), (0, State.BLOCKED)]
        stage.round()
        stage.wire.answer()
        stage.run(0.001)
        assert stage.takes() == 2

    def test_an_account_that_waits_for_time_is_not(self, stage: Stage) -> None:
        """An answer does not fill a spent quota."""
        stage.governor.says[QUEUE] = [(5, State.SPENT, 800)]
        stage.round()
        for _ in range(5):
            stage.wire.answer(most=1)
            stage.round()
        assert stage.takes() == 1

    def test_a_pause_costs_nothing(self, stage: Stage) -> None:
        """An account that is paused for days is not asked."""
        stage.governor.says[QUEUE] = [(0, State.PAUSED)]
        stage.run(20)
        assert stage.takes() == 1


class TestRoom:
    def test_no_more_than_there_is_room(self, stage: Stage) -> None:
        """It takes as many requests as there is room, and asks nobody when there is none."""
        proven(stage, QUEUE)
        stage.governor.says[QUEUE] = [(20, State.MORE)]
        stage.ask(QUEUE)
        stage.run(0.5)
        assert stage.governor.takes == [(QUEUE, 8)]

    def test_a_full_wire_waits_for_an_answer(self) -> None:
        """With no room it neither asks nor looks; an answer brings the next request at once."""
        stage = Stage(QUEUE, at_once=2)
        proven(stage, QUEUE)
        stage.governor.says[QUEUE] = [(9, State.MORE)]
        stage.ask(QUEUE)
        stage.round()
        stage.run(0.1)
        trips = stage.governor.trips
        stage.run(2)
        assert stage.governor.trips == trips
        assert stage.governor.expired
        stage.wire.answer(most=1)
        stage.round()
        assert len(stage.wire.begun) == 2

    def test_no_call_is_long(self) -> None:
        """However much room there is, one TAKE is asked for a bounded number."""
        stage = Stage(QUEUE, at_once=1000)
        proven(stage, QUEUE)
        stage.governor.says[QUEUE] = [(9999, State.MORE)]
        stage.ask(QUEUE)
        stage.run(0.1)
        assert max(count for _, count in stage.governor.takes) == MOST_AT_ONCE
        assert len(stage.wire.begun) == 1000

    def test_none_holds_the_last_place(self) -> None:
        """Of several accounts none takes the last place beside requests of its own (invariant
        I6).
        """
        stage = Stage("tgtrack.busy", "tgtrack.quiet")
        proven(stage, "tgtrack.busy", "tgtrack.quiet")
        stage.governor.says["tgtrack.busy"] = [(99, State.MORE)]
        stage.ask("tgtrack.busy")
        stage.run(3)
        assert stage.wire.held == {"tgtrack.busy": 7}
        stage.governor.says["tgtrack.quiet"] = [(1, State.EMPTY)]
        stage.ask("tgtrack.quiet")
        stage.run(0.001)
        assert stage.wire.held == {"tgtrack.busy": 7, "tgtrack.quiet": 1}

    def test_waiting_for_the_last_place_costs_nothing(self) -> None:
        """An account with a backlog that may not have the last place waits for an answer and does
        not spin.
        """
        stage = Stage("tgtrack.busy", "tgtrack.quiet")
        proven(stage, "tgtrack.busy", "tgtrack.quiet")
        stage.governor.says["tgtrack.busy"] = [(99, State.MORE)]
        stage.ask("tgtrack.busy")
        stage.run(0.5)
        before = stage.governor.recovers
        stage.run(2)
        assert stage.governor.recovers - before <= 10
        stage.wire.answer(most=1)
        stage.round()
        assert stage.wire.held == {"tgtrack.busy": 7}

    def test_a_single_place_serves_several_accounts(self) -> None:
        """With one place the rule gives way: every account gets its turn."""
        queues = ("tgtrack.a", "tgtrack.b", "tgtrack.c")
        stage = Stage(*queues, at_once=1)
        for queue in queues:
            stage.governor.says[queue] = [(9, State.MORE)]
        served: Counter[str] = Counter()
        for _ in range(60):
            stage.run(0.001)
            served += stage.wire.held
            stage.wire.answer()
        assert set(served) == set(queues)
        assert min(served.values()) >= 0.5 * max(served.values())

    def test_accounts_take_turns(self) -> None:
        """With more work than room no account is always first."""
        stage = Stage("tgtrack.a", "tgtrack.b", at_once=2)
        proven(stage, "tgtrack.a", "tgtrack.b")
        for queue in ("tgtrack.a", "tgtrack.b"):
            stage.governor.says[queue] = [(9, State.MORE)]
            stage.ask(queue)
        counts: Counter[str] = Counter()
        for _ in range(40):
            stage.run(0.001)
            counts += stage.wire.held
            stage.wire.answer()
        assert min(counts.values()) > 0.3 * max(counts.values())

    def test_the_unproven_hold_half_of_the_wire(self) -> None:
        """Accounts without a healthy last answer together hold at most half: the others go on."""
        silent = [f"tgtrack.silent{number}" for number in range(20)]
        stage = Stage("tgtrack.good", *silent)
        proven(stage, "tgtrack.good")
        for queue in silent:
            stage.governor.says[queue] = [(1, State.BLOCKED), (0, State.BLOCKED)]
        stage.ask(*silent)
        stage.run(0.2)
        assert sum(stage.wire.held.values()) == 4
        stage.governor.says["tgtrack.good"] = [(9, State.MORE)]
        stage.ask("tgtrack.good")
        stage.run(0.2)
        assert stage.wire.held["tgtrack.good"] == 3

    def test_a_failure_makes_unproven(self) -> None:
        """One answer that is not healthy puts an account among them, a healthy one takes it out."""
        stage = Stage(QUEUE, "tgtrack.other")
        proven(stage, QUEUE)
        for answer, most in ((BROKEN, 4), (OK, 7)):
            stage.governor.says[QUEUE] = [(1, State.EMPTY), (0, State.EMPTY)]
            stage.ask(QUEUE)
            stage.run(0.001)
            stage.wire.answer(QUEUE, answer)
            stage.governor.says[QUEUE] = [(99, State.MORE)]
            stage.ask(QUEUE)
            stage.run(0.01)
            assert stage.wire.held[QUEUE] == most
            stage.governor.says[QUEUE] = [(0, State.EMPTY)]
            stage.wire.answer(QUEUE, answer)
            stage.run(0.01)


class TestErrors:
    @pytest.mark.parametrize(
        "error",
        [redis.ConnectionError("gone"), redis.TimeoutError("slow"), redis.exceptions.ReadOnlyError("replica")],
    )
    def test_redis_errors_back_off(self, stage: Stage, error: Exception) -> None:
        """While Redis is away it is tried after 0.1 s, then more and more seldom, at least once a
        second.
        """
        stage.governor.says[QUEUE] = [error]
        moments = []
        for _ in range(6):
            moments.append(stage.round())
            stage.now += moments[-1]
        assert moments == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.0, 1.0])
        stage.governor.says[QUEUE] = [(1, State.EMPTY)]
        stage.run(AWAY_S[1])
        assert len(stage.wire.begun) == 1

    def test_answers_do_not_break_the_back_off(self, stage: Stage) -> None:
        """Answers that come in while Redis is away do not make it be asked more often."""
        stage.governor.says[QUEUE] = [(5, State.MORE)]
        stage.round()
        stage.governor.error = redis.ConnectionError("gone")
        stage.round()
        before = stage.governor.recovers
        for _ in range(5):
            stage.wire.answer(most=1)
            assert stage.round() > 0
        assert stage.governor.recovers == before

    def test_after_it_the_kept_answers_go_first(self, stage: Stage) -> None:
        """Before anything is taken the settlements that were kept are sent."""
        stage.governor.unsent = 3
        stage.governor.error = redis.ConnectionError("gone")
        stage.round()
        assert (stage.governor.replays, stage.governor.takes) == (0, [])
        stage.governor.error = None
        stage.run(0.11)
        assert stage.governor.replays >= 1
        assert stage.governor.takes

    def test_an_account_whose_keys_are_broken_stops_alone(self) -> None:
        """A TAKE that Redis refuses for one account does not delay the others."""
        stage = Stage("tgtrack.bad", "tgtrack.good")
        stage.governor.says = {
            "tgtrack.bad": [redis.ResponseError("WRONGTYPE")],
            "tgtrack.good": [(0, State.SPENT, 10)],
        }
        stage.run(2)
        assert stage.takes("tgtrack.good") > 150
        assert 2 <= stage.takes("tgtrack.bad") <= 4


class TestThread:
    def test_it_ends_when_the_wire_is_empty(self, stage: Stage) -> None:
        """A warm end takes nothing more, waits for the answers, and settles them."""
        stage.governor.says[QUEUE] = [(3, State.MORE)]
        stage.round()
        begun = len(stage.wire.begun)
        stage.rounds._ending = True
        takes = len(stage.governor.takes)
        assert stage.round() == LONGEST_WAIT_S
        assert not stage.rounds._at_rest()
        stage.wire.answer()
        assert not stage.rounds._at_rest()
        stage.round()
        assert stage.rounds._at_rest()
        assert (len(stage.governor.settled), len(stage.governor.takes)) == (begun, takes)

    def test_started_twice_it_runs_once(self, stage: Stage) -> None:
        """A new connection of Celery's finds it running; after its end nothing runs."""
        stage.rounds.start()
        thread = stage.rounds._thread
        stage.rounds.start()
        assert stage.rounds._thread is thread
        stage.rounds.finish()
        assert thread is not None
        assert not thread.is_alive()
        stage.rounds.finish()


def test_an_observer_that_fails(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    """What cannot be told is settled all the same."""

    def fails(report: Report) -> None:
        raise RuntimeError("Flower")

    stage.worker.observers.append(fails)
    stage.governor.says[QUEUE] = [(1, State.EMPTY)]
    stage.round()
    stage.wire.answer()
    stage.round()
    assert len(stage.governor.settled) == 1
    assert "could not be reported" in caplog.text


def test_dead_letters_are_told(stage: Stage) -> None:
    """Observers hear of every grant once."""
    stage.governor.says[QUEUE] = [(1, State.EMPTY)]
    stage.round()
    stage.wire.answer(answer=Answer(400, {}, b'{"status": "error", "error_code": 400}'))
    assert [isinstance(report.rulings[0], Dead) for report in stage.reports] == [True]
