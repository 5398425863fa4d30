"""The feeder on a loop whose clock the test turns, with a governor that says what the test wants."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
import redis

import workers.rounds.feeder
from tasks.envelopes import Envelope
from tasks.grants import Grant
from workers.governor import Taken
from workers.governor.scripts import State
from workers.rounds.feeder import AWAY_S, FILLING_S, IDLE_S, LONGEST_WAIT_S, UNLIMITED, Feeder

QUEUE = "tgtrack.main"


@dataclass
class Timer:
    """What ``call_later`` returns."""

    at: float
    callback: Callable[[], Any]
    cancelled: bool = False

    def cancel(self) -> None:
        self.cancelled = True


class FakeLoop:
    """kombu's loop as far as the feeder uses it, with a clock of its own."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.soon: list[Callable[[], Any]] = []
        self.timers: list[Timer] = []

    def call_soon(self, callback: Callable[..., Any], *args: Any) -> None:
        self.soon.append(lambda: callback(*args))

    def call_later(self, delay: float, callback: Callable[..., Any], *args: Any) -> Timer:
        timer = Timer(self.now + delay, lambda: callback(*args))
        self.timers.append(timer)
        return timer

    def armed(self) -> list[Timer]:
        return [timer for timer in self.timers if not timer.cancelled]

    def turn(self) -> None:
        """Run what is to run soon."""
        soon, self.soon = self.soon, []
        for callback in soon:
            callback()

    def run(self, seconds: float) -> None:
        """Let time pass."""
        end = self.now + seconds
        self.turn()
        for _ in range(100_000):
            due = sorted((timer for timer in self.armed() if timer.at <= end), key=lambda timer: timer.at)
            if not due:
                break
            self.now = max(self.now, due[0].at)
            self.timers.remove(due[0])
            due[0].callback()
            self.turn()
        self.now = end


@dataclass
class FakeGovernor:
    """Answers as told; counts what it is asked."""

    #: Queue -> what each TAKE says; the last one stays.
    says: dict[str, list[Any]] = field(default_factory=dict)
    #: Queues in which a scan finds something.
    found: set[str] = field(default_factory=set)
    held: dict[str, int] = field(default_factory=dict)
    takes: list[tuple[str, int]] = field(default_factory=list)
    scans: list[tuple[tuple[str, ...], bool]] = field(default_factory=list)
    error: Exception | None = None
    unsent: int = 0
    recovers: int = 0
    replays: int = 0
    expired: int = 0
    refused: list[tuple[str, str]] = field(default_factory=list)

    def refuse(self, grant: Grant, error: Exception) -> None:
        self.refused.append((grant.id, type(error).__name__))

    def recover_if_restarted(self) -> None:
        self.recovers += 1
        if self.error:
            raise self.error

    def replay(self) -> None:
        self.replays += 1

    def scan(self, queues: Any, *, timed: bool = False) -> list[str]:
        self.scans.append((tuple(queues), timed))
        return [queue for queue in queues if queue in self.found]

    def take(self, queue: str, count: int) -> Taken:
        self.takes.append((queue, count))
        script = self.says.get(queue) or [Taken([], State.EMPTY)]
        said = script.pop(0) if len(script) > 1 else script[0]
        if isinstance(said, Exception):
            raise said
        taken: Taken = said
        return Taken(taken.grants[:count], taken.state, taken.wait_ms, taken.due_ms)

    def in_flight(self, queue: str | None = None) -> int:
        return sum(self.held.values()) if queue is None else self.held.get(queue, 0)

    def forget_expired(self) -> int:
        expired, self.expired = self.expired, 0
        return expired


class FakeSubscription:
    """A consumer with as many threads as the worker has; what it is given is held by the governor."""

    def __init__(self, governor: FakeGovernor, threads: int = 8) -> None:
        self.governor = governor
        self._threads = threads
        self.delivered: list[str] = []
        self.error: Exception | None = None

    def deliver(self, grant: Grant) -> None:
        if self.error:
            raise self.error
        self.delivered.append(grant.id)
        self.governor.held[grant.queue] = self.governor.held.get(grant.queue, 0) + 1

    def free(self) -> int:
        return self._threads

    def threads(self) -> int:
        return self._threads


def grants(queue: str, count: int) -> list[Grant]:
    return [Grant(id=f"{queue}/{number}", queue=queue, envelopes=[Envelope(b"")]) for number in range(count)]


@dataclass
class Stage:
    """A feeder with all that it plays with."""

    loop: FakeLoop
    governor: FakeGovernor
    feeder: Feeder
    subscriptions: dict[str, FakeSubscription]

    def subscribe(self, queue: str = QUEUE, threads: int = 8) -> FakeSubscription:
        subscription = self.subscriptions[queue] = FakeSubscription(self.governor, threads)
        self.feeder.add(queue, subscription)
        return subscription

    def takes(self, queue: str = QUEUE) -> int:
        return sum(1 for name, _ in self.governor.takes if name == queue)


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    loop, governor = FakeLoop(), FakeGovernor()
    monkeypatch.setattr(workers.rounds.feeder, "time", SimpleNamespace(monotonic=lambda: loop.now))
    stage = Stage(loop, governor, Feeder(governor, governor.refuse), {})  # type: ignore[arg-type]
    stage.feeder.start(loop)
    yield stage
    assert len(loop.armed()) <= 1, "there is one timer at a time"


class TestTimers:
    def test_there_is_one_timer_at_a_time(self, stage: Stage) -> None:
        """However often it is kicked and whatever the accounts say, one timer is armed."""
        stage.governor.says = {
            "t.a": [Taken([], State.SPENT, 500)],
            "t.b": [Taken([], State.SPENT, 30)],
            "t.c": [Taken([], State.BLOCKED)],
        }
        for queue in ("t.a", "t.b", "t.c", "t.d"):
            stage.subscribe(queue)
            stage.loop.turn()
            assert len(stage.loop.armed()) == 1
        for _ in range(50):
            stage.feeder.kick()
            stage.loop.turn()
            assert len(stage.loop.armed()) == 1

    def test_kicks_are_one_round(self, stage: Stage) -> None:
        """A hundred answers before the loop turns are one round."""
        stage.subscribe()
        stage.loop.turn()
        before = stage.governor.recovers
        for _ in range(100):
            stage.feeder.kick()
        assert len(stage.loop.soon) == 1
        stage.loop.turn()
        assert stage.governor.recovers == before + 1

    def test_a_kick_in_a_round_is_another_round(self, stage: Stage) -> None:
        """An answer that comes while a round runs is not missed."""
        subscription = stage.subscribe()
        stage.governor.says[QUEUE] = [Taken(grants(QUEUE, 1), State.BLOCKED)]
        subscription.deliver = lambda grant: stage.feeder.kick()  # type: ignore[method-assign]
        stage.loop.turn()
        assert len(stage.loop.soon) == 1

    def test_stopped_it_does_nothing(self, stage: Stage) -> None:
        """After a reconnect the old feeder neither runs nor delivers, not even what was pending."""
        stage.subscribe()
        stage.loop.turn()
        stage.feeder.kick()
        stage.feeder.stop()
        before = len(stage.governor.takes)
        stage.loop.run(5)
        stage.feeder.kick()
        stage.loop.run(5)
        assert len(stage.governor.takes) == before
        assert stage.loop.armed() == []

    def test_without_subscriptions_it_sleeps(self, stage: Stage) -> None:
        """Nothing to consume: no timer, no call."""
        stage.loop.run(5)
        assert (stage.governor.recovers, stage.loop.armed()) == (0, [])

    def test_a_removed_queue_is_left_alone(self, stage: Stage) -> None:
        """After `remove` neither scan nor TAKE names it."""
        stage.subscribe("t.a")
        stage.subscribe("t.b")
        stage.governor.says["t.a"] = [Taken([], State.BLOCKED)]
        stage.loop.turn()
        stage.feeder.remove("t.a")
        stage.governor.takes.clear()
        stage.governor.scans.clear()
        stage.loop.run(3)
        assert stage.takes("t.a") == 0
        assert all(queues == ("t.b",) for queues, _ in stage.governor.scans)

    def test_a_wait_is_slept(self, stage: Stage) -> None:
        """An account that said `nothing for 400 ms` is asked then, not before."""
        stage.subscribe()
        stage.governor.says[QUEUE] = [Taken([], State.SPENT, 400)]
        stage.loop.turn()
        stage.loop.run(0.39)
        assert stage.takes() == 1
        stage.loop.run(0.02)
        assert stage.takes() == 2

    def test_no_wait_is_longer_than_a_second(self, stage: Stage) -> None:
        """A window of a day is not slept through: another worker may die, an operator may resume."""
        stage.subscribe()
        stage.governor.says[QUEUE] = [Taken([], State.SPENT, 86_400_000)]
        stage.loop.run(10.5)
        assert 10 <= stage.takes() <= 12

    def test_a_filling_batch_is_looked_at_sooner(self, stage: Stage) -> None:
        """A batch that fills up during its linger does not wait for the linger's end."""
        stage.subscribe()
        stage.governor.says[QUEUE] = [Taken([], State.FILLING, 1000), Taken(grants(QUEUE, 1), State.EMPTY)]
        stage.loop.turn()
        stage.loop.run(FILLING_S + 0.01)
        assert len(stage.subscriptions[QUEUE].delivered) == 1


class TestIdle:
    def test_idle_queues_are_only_scanned(self, stage: Stage) -> None:
        """After EMPTY an account costs one place in one scan, no TAKE."""
        for number in range(50):
            stage.subscribe(f"t.a{number}")
        stage.loop.turn()
        stage.governor.takes.clear()
        stage.loop.run(2)
        assert stage.governor.takes == []
        assert all(len(queues) == 50 for queues, _ in stage.governor.scans)
        assert len(stage.governor.scans) == pytest.approx(2 / IDLE_S, rel=0.1)

    def test_what_waits_is_scanned_once_a_second(self, stage: Stage) -> None:
        """Delayed, held and leased things of others are looked for once a second."""
        stage.subscribe()
        stage.loop.run(5)
        assert sum(timed for _, timed in stage.governor.scans) == pytest.approx(5, abs=1)

    def test_a_new_event_is_taken_within_one_look(self, stage: Stage) -> None:
        """What a scan finds is taken in the same round."""
        stage.subscribe()
        stage.loop.run(1)
        stage.governor.takes.clear()
        stage.governor.found = {QUEUE}
        stage.loop.run(IDLE_S + 0.001)
        assert stage.takes() >= 1

    def test_also_while_something_waits_there(self, stage: Stage) -> None:
        """An account with an event for tomorrow, or a request on its way, takes a new event as fast."""
        stage.subscribe()
        stage.governor.says[QUEUE] = [Taken([], State.EMPTY, due_ms=86_400_000)]
        stage.loop.run(0.5)
        stage.governor.takes.clear()
        stage.governor.found = {QUEUE}
        stage.loop.run(IDLE_S + 0.001)
        assert stage.takes() >= 1

    def test_what_becomes_due_is_taken_then(self, stage: Stage) -> None:
        """An idle account is asked at the moment at which something becomes due."""
        stage.subscribe()
        stage.governor.says[QUEUE] = [Taken([], State.EMPTY, due_ms=350), Taken([], State.EMPTY)]
        stage.loop.turn()
        stage.loop.run(0.345)
        assert stage.takes() == 1
        stage.loop.run(0.01)
        assert stage.takes() == 2

    def test_asked_for_it_looks_at_once(self, stage: Stage) -> None:
        """An account that an operator resumed is asked at once, whatever it said before."""
        stage.subscribe()
        stage.governor.says[QUEUE] = [Taken([], State.SPENT, 60_000)]
        stage.loop.turn()
        stage.feeder.ask(QUEUE)
        stage.feeder.ask("tgtrack.nobody")
        stage.loop.turn()
        assert stage.takes() == 2
        assert stage.takes("tgtrack.nobody") == 0


class TestBlocked:
    def test_asked_again_at_a_kick(self, stage: Stage) -> None:
        """An account that waits for an answer is asked as soon as one is in."""
        stage.subscribe()
        stage.governor.says[QUEUE] = [Taken([], State.BLOCKED)]
        stage.loop.turn()
        stage.feeder.kick()
        stage.loop.turn()
        assert stage.takes() == 2

    def test_an_account_that_waits_for_time_is_not(self, stage: Stage) -> None:
        """An answer does not fill a spent quota: a kick asks nobody who waits for a time."""
        stage.subscribe()
        stage.governor.says[QUEUE] = [Taken([], State.SPENT, 800)]
        stage.loop.turn()
        for _ in range(20):
            stage.feeder.kick()
            stage.loop.turn()
        assert stage.takes() == 1

    def test_without_an_answer_more_and_more_seldom(self, stage: Stage) -> None:
        """An account that is paused for days is not asked fifty times a second; another worker's answer is still noticed."""
        stage.subscribe()
        stage.governor.says[QUEUE] = [Taken([], State.BLOCKED)]
        stage.loop.run(20)
        assert 20 <= stage.takes() <= 30

    def test_anything_else_begins_anew(self, stage: Stage) -> None:
        """After another answer the next block is asked soon again."""
        stage.subscribe()
        stage.governor.says[QUEUE] = [Taken([], State.BLOCKED)]
        stage.loop.run(10)
        stage.governor.says[QUEUE] = [Taken([], State.SPENT, 1), Taken([], State.BLOCKED)]
        before = stage.takes()
        while stage.takes() < before + 2:
            stage.loop.run(stage.loop.armed()[0].at - stage.loop.now)
        assert stage.loop.armed()[0].at - stage.loop.now == pytest.approx(IDLE_S)


class TestRoom:
    def test_no_more_than_there_are_threads(self, stage: Stage) -> None:
        """It takes as many requests as there are free threads, and asks nobody when there are none."""
        subscription = stage.subscribe(threads=8)
        stage.governor.says[QUEUE] = [Taken(grants(QUEUE, 20), State.MORE)]
        stage.loop.run(0.5)
        assert len(subscription.delivered) == 8
        assert stage.governor.takes == [(QUEUE, 8)]

    def test_a_full_worker_waits_for_a_kick(self, stage: Stage) -> None:
        """With every thread busy it neither polls nor scans; an answer brings the next request at once."""
        subscription = stage.subscribe(threads=2)
        stage.governor.says[QUEUE] = [Taken(grants(QUEUE, 9), State.MORE)]
        stage.loop.turn()
        scans, rounds = len(stage.governor.scans), stage.governor.recovers
        stage.loop.run(2)
        assert (len(stage.governor.scans), stage.governor.recovers - rounds <= 4) == (scans, True)
        stage.governor.held[QUEUE] -= 1
        stage.feeder.kick()
        stage.loop.turn()
        assert len(subscription.delivered) == 3

    def test_grants_that_nobody_settles_are_forgotten(self, stage: Stage) -> None:
        """Leases free the threads of a worker whose tasks vanished."""
        subscription = stage.subscribe(threads=2)
        stage.governor.says[QUEUE] = [Taken(grants(QUEUE, 2), State.MORE)]
        stage.governor.held = {QUEUE: 2}
        stage.loop.turn()
        assert subscription.delivered == []
        stage.governor.expired, stage.governor.held = 2, {}
        stage.loop.run(LONGEST_WAIT_S + 0.01)
        assert len(subscription.delivered) == 2

    def test_without_a_prefetch_limit(self, stage: Stage) -> None:
        """Where Celery sets no limit, ours holds."""
        stage.subscribe(threads=0)
        stage.governor.says[QUEUE] = [Taken(grants(QUEUE, 500), State.MORE)]
        stage.loop.run(1)
        assert stage.governor.in_flight() == UNLIMITED

    def test_one_account_alone_may_have_every_thread(self, stage: Stage) -> None:
        """With a single account there is nobody to leave a thread to."""
        stage.subscribe(threads=4)
        stage.governor.says[QUEUE] = [Taken(grants(QUEUE, 9), State.MORE)]
        stage.loop.turn()
        assert stage.governor.held == {QUEUE: 4}

    def test_none_holds_the_last_free_thread(self, stage: Stage) -> None:
        """Of several accounts none takes the last free thread beside requests of its own (invariant I6)."""
        stage.governor.says = {"t.busy": [Taken(grants("t.busy", 99), State.MORE)]}
        stage.subscribe("t.busy")
        stage.subscribe("t.quiet")
        stage.loop.run(3)
        assert stage.governor.held == {"t.busy": 7}
        stage.governor.says["t.quiet"] = [Taken(grants("t.quiet", 1), State.EMPTY)]
        stage.governor.found = {"t.quiet"}
        stage.loop.run(IDLE_S + 0.001)
        assert stage.governor.held == {"t.busy": 7, "t.quiet": 1}

    def test_a_single_thread_serves_several_accounts(self, stage: Stage) -> None:
        """With one thread the rule gives way: every account gets its turn."""
        for queue in ("t.a", "t.b", "t.c"):
            stage.subscribe(queue, threads=1)
            stage.governor.says[queue] = [Taken(grants(queue, 9), State.MORE)]
        served: list[str] = []
        for _ in range(30):
            stage.feeder.kick()
            stage.loop.turn()
            served += [queue for queue, count in stage.governor.held.items() if count]
            stage.governor.held = {}
        assert {queue: served.count(queue) for queue in ("t.a", "t.b", "t.c")} == {"t.a": 10, "t.b": 10, "t.c": 10}

    def test_waiting_for_the_last_thread_costs_nothing(self, stage: Stage) -> None:
        """An account with a backlog that may not have the last thread waits for an answer and does not spin."""
        stage.governor.says = {"t.busy": [Taken(grants("t.busy", 99), State.MORE)]}
        stage.subscribe("t.busy")
        stage.subscribe("t.quiet")
        stage.loop.run(0.5)
        before = stage.governor.recovers
        stage.loop.run(2)
        assert stage.governor.recovers - before <= 2 / IDLE_S + 10

    def test_and_is_asked_at_the_next_answer(self, stage: Stage) -> None:
        """When a thread is free it goes on at once."""
        stage.governor.says = {"t.busy": [Taken(grants("t.busy", 99), State.MORE)]}
        busy = stage.subscribe("t.busy")
        stage.subscribe("t.quiet")
        stage.loop.run(0.5)
        stage.governor.held["t.busy"] -= 1
        stage.feeder.kick()
        stage.loop.turn()
        assert len(busy.delivered) == 8

    def test_accounts_take_turns(self, stage: Stage) -> None:
        """With more work than threads no account is always first."""
        for queue in ("t.a", "t.b"):
            stage.subscribe(queue, threads=2)
            stage.governor.says[queue] = [Taken(grants(queue, 9), State.MORE)]
        stage.loop.turn()
        for _ in range(40):
            stage.governor.held = {}
            stage.feeder.kick()
            stage.loop.turn()
        counts = [len(stage.subscriptions[queue].delivered) for queue in ("t.a", "t.b")]
        assert min(counts) > 0.3 * max(counts)


class TestErrors:
    @pytest.mark.parametrize(
        "error",
        [
            redis.ConnectionError("gone"), redis.TimeoutError("slow"), redis.exceptions.BusyLoadingError("loading"),
            redis.exceptions.ReadOnlyError("replica"), redis.exceptions.OutOfMemoryError("full"),
        ],
    )  # fmt: skip
    def test_redis_errors_back_off(self, stage: Stage, error: Exception) -> None:
        """While Redis is away it is tried after 0.1 s, then more and more seldom, at least once a second, and nothing is raised into the loop."""
        stage.subscribe()
        stage.governor.says[QUEUE] = [error]
        stage.loop.turn()
        moments = []
        for _ in range(6):
            moments.append(stage.loop.armed()[0].at - stage.loop.now)
            stage.loop.run(moments[-1])
        assert moments == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.0, 1.0])
        stage.governor.says[QUEUE] = [Taken(grants(QUEUE, 1), State.EMPTY)]
        stage.loop.run(AWAY_S[1])
        assert len(stage.subscriptions[QUEUE].delivered) == 1

    def test_kicks_do_not_break_the_back_off(self, stage: Stage) -> None:
        """Answers that come in while Redis is away do not make it be asked more often."""
        stage.subscribe()
        stage.governor.error = redis.ConnectionError("gone")
        stage.loop.turn()
        before = stage.governor.recovers
        for _ in range(100):
            stage.feeder.kick()
            stage.loop.turn()
        assert stage.governor.recovers == before

    def test_after_it_the_kept_answers_go_first(self, stage: Stage) -> None:
        """Before anything is taken the settlements that were kept are sent."""
        stage.subscribe()
        stage.governor.unsent = 3
        stage.governor.error = redis.ConnectionError("gone")
        stage.loop.turn()
        assert (stage.governor.replays, stage.governor.takes) == (0, [])
        stage.governor.error = None
        stage.loop.run(0.11)
        assert stage.governor.replays >= 1
        assert stage.governor.takes

    def test_an_account_whose_keys_are_broken_stops_alone(self, stage: Stage) -> None:
        """A TAKE that Redis refuses for one account does not delay the others."""
        stage.governor.says = {"t.bad": [redis.ResponseError("WRONGTYPE")], "t.good": [Taken([], State.SPENT, 10)]}
        stage.subscribe("t.bad")
        stage.subscribe("t.good")
        stage.loop.run(2)
        assert stage.takes("t.good") > 150
        assert 2 <= stage.takes("t.bad") <= 4

    def test_a_message_that_celery_refuses_stops_nobody(self, stage: Stage) -> None:
        """What cannot be handed over is settled at once; the loop, the other grants and the other accounts go on."""
        bad, good = stage.subscribe("t.bad"), stage.subscribe("t.good")
        bad.error = TypeError("poison")
        stage.governor.says = {
            "t.bad": [Taken(grants("t.bad", 2), State.EMPTY)],
            "t.good": [Taken(grants("t.good", 2), State.EMPTY)],
        }
        stage.loop.run(0.01)
        assert len(good.delivered) == 2
        assert len(stage.loop.armed()) == 1
        assert stage.governor.refused == [("t.bad/0", "TypeError"), ("t.bad/1", "TypeError")]

    def test_the_grants_behind_it_are_delivered(self, stage: Stage) -> None:
        """Of three grants with one that cannot be handed over two are."""
        subscription = stage.subscribe()
        deliver = subscription.deliver

        def picky(grant: Grant) -> None:
            if grant.id.endswith("/0"):
                raise ValueError("poison")
            deliver(grant)

        subscription.deliver = picky  # type: ignore[method-assign]
        stage.governor.says[QUEUE] = [Taken(grants(QUEUE, 3), State.EMPTY)]
        stage.loop.turn()
        assert len(subscription.delivered) == 2

    def test_nothing_at_all_is_raised_into_the_loop(self, stage: Stage) -> None:
        """An error of our own ends one round, not the worker."""
        stage.subscribe()
        stage.governor.says[QUEUE] = [ZeroDivisionError(), Taken(grants(QUEUE, 1), State.EMPTY)]
        stage.loop.turn()
        stage.loop.run(LONGEST_WAIT_S + 0.01)
        assert len(stage.subscriptions[QUEUE].delivered) == 1
