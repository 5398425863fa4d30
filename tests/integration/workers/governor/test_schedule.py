"""The schedule in Redis (ADR 29): a queue with something to do stands in it, or in the timers, or
is found by the sweep.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from postback.wire import keys, schedule
from postback.wire.scripts import named
from tests.integration.workers.governor.bench import QUEUE, Bench, ClockedScript, again, back, message, poll
from tests.integration.workers.governor.crew import own_client
from workers.devkit import RedisServer
from workers.governor.take import State, TakenGrant
from workers.rounds.watcher import Sweep

SCHEDULE, TIMERS = keys.schedule("tgtrack"), keys.timers("tgtrack")
LEASE_MS = 30_000
#: Nobody is woken when a batch is full: it is looked at so often.
FILLING_MS = 100


class Plan(Bench):
    """An account and its places in the schedule."""

    def __init__(self, client: redis.Redis, **account: Any) -> None:
        super().__init__(client, **account)
        self.healthy()
        self._due, self._look = ClockedScript("due", "postback.wire"), ClockedScript("look")

    def due(self, why: schedule.Why, *queues: str) -> int:
        places = [keys.wake("tgtrack"), why, *(queues or (QUEUE,))]
        return int(self._due(self.client, [SCHEDULE, TIMERS], places))

    def send(self, *raws: bytes) -> None:
        """As the SDK does."""
        self.push(*raws)
        self.client.zadd(SCHEDULE, {QUEUE: 0}, nx=True)

    def seen(self, passed: int = 0, most: int = 9) -> tuple[list[str], int | None]:
        """What a look brings: queues, and the wait for the next."""
        values = named(self._look(self.client, [SCHEDULE, TIMERS], [json.dumps({"passed": passed, "most": most})]))
        return [queue.decode() for queue in values["due"]], values.get("wait_ms")

    @property
    def places(self) -> tuple[float | None, float | None]:
        """Ms from now until the queue's time in the schedule, and in the timers."""
        at = (self.client.zscore(SCHEDULE, QUEUE), self.client.zscore(TIMERS, QUEUE))
        schedule_at, timer_at = (None if one is None else one - self.now_ms for one in at)
        return schedule_at, timer_at


@pytest.fixture
def plan(redis_client: redis.Redis) -> Plan:
    return Plan(redis_client)


class TestSend:
    def test_due_at_once(self, plan: Plan) -> None:
        """A queue that is sent to is due, and a look finds it."""
        assert plan.seen() == ([], None)
        plan.send(message("a"))
        assert plan.seen() == ([QUEUE], None)

    @pytest.mark.parametrize("in_ms", [-5, 0, 60_000])
    def test_one_that_stands_there_stays(self, plan: Plan, in_ms: float) -> None:
        """A send to a spent account, or to a busy one, changes nothing and wakes nobody."""
        plan.client.zadd(SCHEDULE, {QUEUE: plan.now_ms + in_ms})
        assert plan.due("sent") == 0
        assert plan.places == (in_ms, None)

    def test_a_timer_does_not_stop_it(self, plan: Plan) -> None:
        """Something that waits for tomorrow makes no new event wait."""
        plan.client.zadd(TIMERS, {QUEUE: plan.now_ms + 60_000})
        assert plan.due("sent") == 1
        assert plan.seen() == ([QUEUE], 60_000)

    @pytest.mark.parametrize(("why", "published"), [("sent", [1, 0]), ("ask", [1, 1]), ("changed", [0, 0])])
    def test_who_waits_is_woken_once(self, plan: Plan, why: schedule.Why, published: list[int]) -> None:
        """Only what changes something is published."""
        listener = plan.client.pubsub()
        listener.subscribe(keys.wake("tgtrack"))
        assert listener.get_message(timeout=5)["type"] == "subscribe"
        for expected in published:
            plan.due(why)
            heard = listener.get_message(timeout=0.2)
            assert bool(heard) == bool(expected)
        listener.close()

    def test_changed_limits(self, plan: Plan) -> None:
        """What the schedule said of an account with other limits holds no more; an idle account
        stays idle.
        """
        plan.client.zadd(SCHEDULE, {QUEUE: plan.now_ms + 60_000})
        plan.due("changed", QUEUE, "tgtrack.idle")
        assert plan.seen() == ([QUEUE], None)

    def test_resumed(self, plan: Plan) -> None:
        """An account is asked whatever stood there."""
        plan.client.zadd(SCHEDULE, {QUEUE: plan.now_ms + 60_000})
        plan.due("ask", QUEUE, "tgtrack.other")
        assert plan.seen()[0] == [QUEUE, "tgtrack.other"]


class TestTake:
    def test_more(self, plan: Plan) -> None:
        """Another worker may ask at once."""
        plan.push(message("a"), message("b"))
        plan.take(1)
        assert plan.places == (0, None)

    def test_empty(self, plan: Plan) -> None:
        """It is left to sends."""
        plan.send()
        plan.take(1)
        assert plan.places == (None, None)

    def test_empty_with_a_request_on_its_way(self, plan: Plan) -> None:
        """Its worker may die: it is asked at the end of the lease, and a send has it asked
        before.
        """
        plan.send(message("a"))
        assert plan.take(3).state is State.EMPTY
        assert plan.places == (None, LEASE_MS)

    def test_what_becomes_due(self, plan: Plan) -> None:
        """It is asked then."""
        plan.client.zadd(keys.delayed(QUEUE), {message("a"): plan.now_ms + 700})
        plan.take(1)
        assert plan.places == (None, 700)
        plan.advance(700)
        assert plan.seen() == ([QUEUE], None)
        assert plan.places == (0, None)

    @pytest.mark.parametrize("wait_s", [1.0, 86_400.0])
    def test_spent(self, plan: Plan, wait_s: float) -> None:
        """It is asked when its quota has room, and at least once a minute."""
        plan.settings["windows"] = [(1, wait_s)]
        plan.push(message("a"), message("b"))
        plan.settle(plan.one())
        reply = plan.take(1)
        assert reply.state is State.SPENT
        assert reply.wait_ms is not None
        assert plan.places == (min(reply.wait_ms, 60_000), None)

    def test_never_later_than_a_lease(self, plan: Plan) -> None:
        """A worker that dies with a request of a spent account holds nothing up."""
        plan.settings["windows"] = [(1, 3600.0)]
        plan.push(message("a"), message("b"))
        plan.one()
        plan.take(1)
        assert plan.places == (LEASE_MS, None)

    def test_paused(self, plan: Plan) -> None:
        """Without an end, it waits for whoever resumes it."""
        plan.push(message("a"))
        plan.client.hset(keys.meta(QUEUE), "paused", -1)
        plan.take(1)
        assert plan.places == (60_000, None)
        plan.client.hset(keys.meta(QUEUE), "paused", plan.now_ms + 2500)
        plan.take(1)
        assert plan.places == (2500, None)

    def test_filling(self, redis_client: redis.Redis) -> None:
        """Nobody is woken when a batch is full: it is looked at ten times a second while it
        fills.
        """
        plan = Plan(redis_client, batch_max=20, linger_ms=1000)
        plan.push(message("a"))
        assert plan.take(1).state is State.FILLING
        assert plan.places == (100, None)

    def test_closed(self, plan: Plan) -> None:
        """Who comes second, with what it knows from before, takes nothing and changes nothing."""
        plan.push(message("a"), message("b"))
        assert plan.take(1, due=True).state is State.CLOSED
        plan.client.zadd(SCHEDULE, {QUEUE: plan.now_ms + 50})
        assert plan.take(1, due=True).state is State.CLOSED
        assert (plan.places, len(plan.queued())) == ((50, None), 2)
        plan.advance(50)
        assert len(plan.take(1, due=True).grants) == 1

    def test_a_lost_reply(self, plan: Plan) -> None:
        """What a call took is handed out again, whatever the schedule says."""
        plan.send(message("a"))
        (grant,) = plan.take(3, call="c", due=True).grants
        assert [one.id for one in plan.take(3, call="c", replay=True, due=True).grants] == [grant.id]


class TestSettle:
    def test_delivered(self, plan: Plan) -> None:
        """Nothing is left: nothing changes."""
        plan.send(message("a"))
        grant = plan.take(3).grants[0]
        plan.settle(grant)
        assert plan.places == (None, LEASE_MS)

    def test_tried_again(self, plan: Plan) -> None:
        """What waits is planned by the next TAKE."""
        plan.send(message("a"))
        grant = plan.take(3).grants[0]
        plan.settle(grant, health="ok", messages=[poll(1, 5000)])
        assert plan.places[0] == 0
        plan.take(1)
        assert plan.places == (None, 5000)

    def test_a_spent_account_stays_spent(self, plan: Plan) -> None:
        """An answer does not fill its quota: no TAKE for nothing."""
        plan.settings["windows"] = [(2, 60.0)]
        plan.push(*(message(str(number)) for number in range(5)))
        first, second = plan.take(2).grants
        plan.settle(first)
        plan.take(1)
        before = plan.places
        plan.settle(second)
        assert plan.places == before

    def test_one_first(self, plan: Plan) -> None:
        """An account that waits for its first answer goes on with it; without more to send it is
        left to sends.
        """
        for more in (1, 0):
            plan.client.hdel(plan.credential_key, "healthy")
            plan.send(message("a"), *[message("b")] * more)
            grant = plan.take(3).grants[0]
            assert plan.places == (LEASE_MS, None), "it waits for the answer"
            plan.settle(grant)
            assert plan.places[0] == (0 if more else None)
            plan.run_till_empty()

    def test_not_sent(self, plan: Plan) -> None:
        """A place in the quota that was given back is used at once."""
        plan.settings["windows"] = [(1, 60.0)]
        plan.push(message("a"), message("b"))
        grant = plan.one()
        plan.take(1)
        plan.put_back(grant)
        assert plan.places[0] == 0


class TestLook:
    def test_what_was_sent_gets_its_time(self, plan: Plan) -> None:
        """A producer's clock decides nothing: its queue's time is that of the first look, and later
        ones stand behind.
        """
        plan.send(message("a"))
        plan.seen()
        assert plan.places == (0, None)
        plan.advance(50)
        plan.client.zadd(SCHEDULE, {"tgtrack.a": 0})
        plan.seen()
        assert plan.seen()[0] == [QUEUE, "tgtrack.a"]

    def test_the_longest_wait_first(self, plan: Plan) -> None:
        """In pages, with the wait for the next one."""
        plan.client.zadd(SCHEDULE, {f"tgtrack.a{number}": plan.now_ms - number for number in range(5)})
        plan.client.zadd(TIMERS, {"tgtrack.b": plan.now_ms + 70})
        assert plan.seen(0, 2) == (["tgtrack.a4", "tgtrack.a3"], 70)
        assert plan.seen(4, 2) == (["tgtrack.a0"], 70)

    def test_a_full_redis(self, plan: Plan) -> None:
        """Neither a look nor a send is refused where memory is full: what waits is what frees
        it.
        """
        plan.send(message("a"))
        plan.client.zadd(TIMERS, {"tgtrack.b": plan.now_ms})
        plan.client.config_set("maxmemory", 1)
        try:
            assert sorted(plan.seen()[0]) == ["tgtrack.b", QUEUE]
            assert plan.due("found", "tgtrack.c") == 1
        finally:
            plan.client.config_set("maxmemory", 0)


class TestSweep:
    @pytest.fixture
    def swept(self, plan: Plan, redis_server: RedisServer) -> Callable[..., list[str]]:
        queues = [f"tgtrack.a{number:04}" for number in range(2_500)] + [QUEUE]

        def swept(*, whole: bool = False) -> list[str]:
            sweep, client = Sweep("tgtrack", queues), own_client(redis_server)
            return sweep.waiting(client) if whole else sweep.queued(client)

        return swept

    @pytest.mark.parametrize("step", keys.PRIORITY_STEPS)
    @pytest.mark.parametrize("queue", ["tgtrack.a0000", "tgtrack.a0999", "tgtrack.a1000", "tgtrack.a2499", QUEUE])
    def test_a_raw_push(self, plan: Plan, swept: Callable[..., list[str]], queue: str, step: int) -> None:
        """What only pushes is found, in any list of any of thousands of accounts."""
        assert swept() == []
        plan.client.lpush(keys.priority_list(queue, step), "x")
        assert swept() == [queue]

    @pytest.mark.parametrize("place", [keys.delayed, keys.held, keys.flight, keys.groups])
    def test_what_waits(self, plan: Plan, swept: Callable[..., list[str]], place: Callable[[str], str]) -> None:
        """What the first edition has left: a whole sweep finds it."""
        if place is keys.groups:
            plan.client.lpush(place(QUEUE), "x")
        else:
            plan.client.zadd(place(QUEUE), {"x": 1})
        assert swept() == []
        assert swept(whole=True) == [QUEUE]

    def test_what_lies_too_far_ahead(self, plan: Plan, redis_server: RedisServer) -> None:
        """The clock went back, or somebody wrote nonsense: nobody waits longer than any plan."""
        now_ms = time.time() * 1000
        plan.client.zadd(SCHEDULE, {QUEUE: now_ms + 70_000, "tgtrack.b": now_ms + 59_000})
        assert Sweep("tgtrack", [QUEUE]).astray(own_client(redis_server)) == [QUEUE]

    def test_one_of_those_with_the_same_accounts(self, plan: Plan, redis_server: RedisServer) -> None:
        """One sweeps at a time; one with other accounts has a turn of its own; a full Redis stops
        none.
        """
        client = own_client(redis_server)
        same, other = (lambda: Sweep("tgtrack", [QUEUE])), Sweep("tgtrack", ["tgtrack.b"])
        assert [same().is_ours(client), same().is_ours(client), other.is_ours(client)] == [True, False, True]
        client.flushall()
        plan.client.config_set("maxmemory", 1)
        try:
            assert [same().is_ours(client), same().is_ours(client)] == [True, True]
        finally:
            plan.client.config_set("maxmemory", 0)

    def test_one_with_a_timer_is_left_to_it(self, plan: Plan) -> None:
        """What is known to wait is not asked for it."""
        plan.client.zadd(TIMERS, {QUEUE: plan.now_ms + 500})
        assert plan.due("found") == 0
        assert plan.seen() == ([], 500)


class AnyOrder(RuleBasedStateMachine):
    """Sends, TAKEs, answers, deaths of workers, pauses, sweeps, in any order: no wake-up is
    lost.
    """

    client: redis.Redis

    @initialize(batch=st.booleans(), quota=st.booleans())
    def begin(self, batch: bool, quota: bool) -> None:
        self.client.flushall()
        account = {"batch_max": 3, "linger_ms": 300} if batch else {}
        self.plan = Plan(self.client, windows=[(2, 5.0)] if quota else [], outage_after=2, **account)
        self.grants: list[TakenGrant] = []
        self.sent = 0
        self.raw = False

    @rule(count=st.integers(1, 4), raw=st.booleans())
    def send(self, count: int, raw: bool) -> None:
        raws = [message(f"e{self.sent + number}") for number in range(count)]
        self.sent += count
        if raw:
            self.raw = True
            self.plan.push(*raws)
        else:
            self.plan.send(*raws)

    @rule(ms=st.sampled_from([1, 90, 700, 6_000, LEASE_MS + 1]))
    def time_passes(self, ms: int) -> None:
        self.plan.advance(ms)

    @rule(count=st.integers(1, 4))
    def turn(self, count: int) -> None:
        due, _ = self.plan.seen()
        if due:
            self.grants += self.plan.take(count, due=True).grants

    @precondition(lambda self: self.grants)
    @rule(health=st.sampled_from(["ok", "poll", "fail", "quota", "refused", "none"]), data=st.data())
    def answer(self, health: str, data: st.DataObject) -> None:
        grant = self.grants.pop(data.draw(st.integers(0, len(self.grants) - 1)))
        places = range(1, len(grant.raws) + 1)
        if health == "ok":
            self.plan.settle(grant)
        elif health == "poll":
            self.plan.settle(grant, health="ok", messages=[poll(at, 400) for at in places])
        elif health == "fail":
            self.plan.settle(grant, health="fail", detail="503", messages=[again(at, 900) for at in places])
        else:
            self.plan.settle(grant, health=health, detail=health, messages=[back(at) for at in places])

    @precondition(lambda self: self.grants)
    @rule()
    def a_worker_dies(self) -> None:
        self.grants.clear()

    @rule()
    def resumed(self) -> None:
        self.client.hdel(keys.meta(QUEUE), "paused", "reason", "fails", "outage")
        self.client.hset(keys.meta(QUEUE), mapping={"healthy": 0, "release": "resume"})
        self.plan.due("ask")

    @rule()
    def sweep(self) -> None:
        if self.plan.queued():
            self.plan.due("sent")
        self.plan.due("found")
        self.raw = False

    @invariant()
    def what_may_go_is_due(self) -> None:
        """If a TAKE would bring something now, the schedule says so; but for what only pushes,
        until the sweep.
        """
        if not hasattr(self, "plan") or self.raw:
            return
        before = {key: self.client.dump(key) for key in self.client.keys("*")}
        due = self.plan.seen()[0] == [QUEUE]
        soon_ms = self.plan.places[0]
        would_go = bool(self.plan.take(1).grants)
        self.client.flushall()
        for key, value in before.items():
            self.client.restore(key, 0, value)
        assert due or not would_go or (soon_ms is not None and soon_ms <= FILLING_MS), "nobody would ask for it"


def test_in_any_order(redis_client: redis.Redis) -> None:
    AnyOrder.client = redis_client
    run_state_machine_as_test(
        AnyOrder,
        settings=settings(
            max_examples=120,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        ),
    )
