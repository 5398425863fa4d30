"""Nothing is lost, nothing waits in a worker, nobody waits for somebody else: proved by killing
things and counting.
"""

from __future__ import annotations

import json
import statistics
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from celery import Celery

import postback
from postback import tgtrack
from postback.wire import keys, schedule
from tests.acceptance.evidence import end_leases
from tests.chaos import Chaos
from workers.devkit import Stack, until

FAST = "100000/second"
#: Long enough to enqueue 40 events and kill their workers meanwhile.
COUNTDOWN_S = 8


def users(stack: Stack) -> Counter[str]:
    """How often the provider recorded each user's event."""
    return Counter(event["user_id"] for event in stack.sandbox.events("tgtrack", method="add_event"))


def sale(user: int | str, **more: Any) -> tgtrack.AddEvent:
    """An event."""
    return tgtrack.AddEvent(user_id=str(user), event_type="sale", **more)


def drained(stack: Stack, timeout_s: float, *queues: str) -> None:
    """Wait until nothing waits any more."""
    until(
        lambda: sum(stack.waiting(queue) for queue in queues or ("tgtrack.main",)) == 0,
        timeout_s,
        "all settled",
        every_s=0.1,
    )


def test_twenty_sigkills_lose_nothing() -> None:
    """20 SIGKILLs over 6,000 events: none lost; recorded twice at most what was in flight, and each
    of those says so.
    """
    with Stack(limits={"tgtrack": None}, latency_ms=(0, 40)) as stack:
        # What a killed worker held comes back soon.
        stack.account("tgtrack.main", limits=FAST, lease_s=8, timeout_s=2)
        chaos = Chaos(stack, seed=1)
        chaos.send("main", 6000)
        chaos.start()
        for number in range(1, 21):
            until(lambda number=number: len(stack.sandbox.ledger("tgtrack")) >= 250 * number, 60, "some progress")
            chaos.kill_worker()
        chaos.drain(120)
        print(chaos.tally.table())
        assert chaos.tally.kills["worker SIGKILL"] == 20
        assert not chaos.tally.lost
        assert not chaos.tally.unflagged
        assert sum(chaos.tally.doubled.values()) - len(chaos.tally.doubled) <= chaos.tally.at_risk
        assert not chaos.tally.dead


def test_two_redis_kills_lose_nothing() -> None:
    """Redis SIGKILLed twice under load with AOF `everysec`: what was acknowledged more than a
    second before is not lost.
    """
    with Stack(appendonly=True, limits={"tgtrack": None}, latency_ms=(0, 20)) as stack:
        stack.account("tgtrack.main", limits=FAST, lease_s=8, timeout_s=2, max_attempts=50)
        chaos = Chaos(stack, seed=2, workers=2)
        chaos.start()
        for _ in range(2):
            chaos.send("main", 1000)
            seen = len(stack.sandbox.ledger("tgtrack"))
            until(lambda seen=seen: len(stack.sandbox.ledger("tgtrack")) > seen + 50, 30, "under load")
            chaos.kill_redis()
        chaos.send("main", 200)
        chaos.drain(120)
        print(chaos.tally.table())
        assert not chaos.tally.lost
        assert len(chaos.tally.acknowledged) >= 2000


def test_a_spent_account_delays_nobody() -> None:
    """One account has spent its quota and 3,000 events wait: another's delivery takes as long as
    alone, and none of the 3,000 is held.
    """
    with Stack(limits={"tgtrack": None}) as stack:
        stack.account("tgtrack.main", limits=FAST)
        stack.account("tgtrack.spent", limits="2 per 600 seconds", api_key="spent-key-1")
        stack.configure_producer()
        stack.start_workers("tgtrack")
        sale("warm").delay()
        stack.sandbox.wait_for(lambda s: s.stats()["requests"] == 1)

        def latencies(first: int) -> list[float]:
            taken = []
            for user in range(first, first + 100):
                begun = time.monotonic()
                sale(user).delay()
                stack.sandbox.wait_for(lambda s, user=user: s.events("tgtrack")[-1]["user_id"] == str(user))
                taken.append(time.monotonic() - begun)
            return sorted(taken)

        alone = latencies(1000)
        postback.send_many([sale(user, account="spent") for user in range(3000)])
        stack.sandbox.wait_for(lambda s: s.stats()["requests"] >= 103, timeout_s=20)
        beside = latencies(2000)
        client = stack.client()
        print(f"p99 alone {alone[98] * 1000:.0f} ms, beside a spent account {beside[98] * 1000:.0f} ms")
        assert beside[98] < 0.5
        assert statistics.median(beside) < 2 * statistics.median(alone) + 0.05
        assert client.zcard(keys.flight("tgtrack.spent")) == 0
        assert sum(client.llen(name) for name in keys.priority_lists("tgtrack.spent")) == 2998


def test_countdowns_outlive_their_workers() -> None:
    """40 events with a countdown, all workers killed meanwhile: each delivered once, none early,
    all within 8 s of due.
    """
    with Stack(limits={"tgtrack": None}) as stack:
        stack.account("tgtrack.main", limits=FAST)
        stack.configure_producer()
        workers = stack.start_workers("tgtrack", count=2)
        begun = time.time()
        for user in range(20):
            sale(user).apply_async(countdown=COUNTDOWN_S)
        stack_app = Celery("raw", broker=stack.redis.url, set_as_current=False)
        for user in range(20, 40):
            kwargs = {"account": "main", "event": {"user_id": str(user), "event_type": "sale"}}
            stack_app.send_task("tgtrack.add_event", kwargs=kwargs, queue="tgtrack.main", countdown=COUNTDOWN_S)
        enqueued = time.time()
        until(lambda: stack.client().zcard(keys.delayed("tgtrack.main")) == 40, 20, "all wait in the delayed set")
        assert not stack.client().get(keys.ring("tgtrack.main"))
        for worker in workers:
            worker.kill()
        stack.start_workers("tgtrack")
        stack.sandbox.wait_for(lambda s: s.stats()["events"] == 40, timeout_s=60)
        arrived = [record.at for record in stack.sandbox.ledger("tgtrack")]
        assert set(users(stack).values()) == {1}
        assert min(arrived) >= begun + COUNTDOWN_S
        assert max(arrived) <= enqueued + COUNTDOWN_S + 8


def test_an_outage_costs_no_attempts_and_keeps_the_order() -> None:
    """An hour-long outage, scaled: no attempts used up, no dead letter, everything delivered after
    it in order of enqueueing.
    """
    with Stack(limits={"tgtrack": None}) as stack:
        # Attempts are few, so that one used up in the outage would show; pauses of 0.2 s stand for
        # 4 s doubling to 5 min.
        stack.account("tgtrack.main", limits=FAST, backoff_s=0.05, backoff_max_s=0.2, max_attempts=6)
        stack.configure_producer()
        # One request at once: the order of the requests is that of the queue.
        stack.start_workers("tgtrack", POSTBACK_CONCURRENCY="1")
        stack.sandbox.pause_listening()
        postback.send_many([sale(user) for user in range(300)])
        client = stack.client()
        until(lambda: client.hget(keys.meta("tgtrack.main"), "reason") == "outage", 20, "the outage is seen")
        until(lambda: int(client.hget(keys.meta("tgtrack.main"), "fails") or 0) >= 20, 60, "twenty failures in a row")
        stack.sandbox.resume_listening()
        stack.sandbox.wait_for(lambda s: s.stats()["events"] == 300, timeout_s=60)
        assert client.llen(keys.dead("tgtrack")) == 0
        order = [int(event["user_id"]) for event in stack.sandbox.events("tgtrack")]
        # The one that ended the outage was the probe of that moment; all others follow in order.
        probe, rest = order[0], order[1:]
        assert rest == [user for user in range(300) if user != probe]
        assert "attempts=" not in "".join(client.zrange(keys.held("tgtrack.main"), 0, -1))


def test_expired_and_revoked_are_dead_letters() -> None:
    """`expires` and `revoke` end in a dead letter with that reason, and cost no request."""
    with Stack(limits={"tgtrack": None}) as stack:
        stack.account("tgtrack.main", limits=FAST)
        stack.configure_producer()
        client = stack.client()
        (worker,) = stack.start_workers("tgtrack")
        client.hset(keys.meta("tgtrack.main"), "paused", -1)
        revoked = sale("1").delay()
        sale("2").apply_async(expires=1)
        sale("3").apply_async(expires=datetime.now(UTC) + timedelta(hours=1))
        app = Celery("operator", broker=stack.redis.url, set_as_current=False)
        assert app.control.revoke(revoked.id, reply=True, timeout=5, limit=1)
        until(
            lambda: (
                time.time()
                > json.loads(client.lindex("tgtrack.main\x06\x163", 1))["headers"]["postback_at"] / 1000 + 1.2
            ),
            10,
        )
        client.hdel(keys.meta("tgtrack.main"), "paused")
        schedule.due(client, ["tgtrack.main"], "ask")
        stack.sandbox.wait_for(lambda s: s.stats()["events"] == 1, timeout_s=15)
        until(lambda: client.llen(keys.dead("tgtrack")) == 2, 15, "two dead letters")
        reasons = {}
        for raw in client.lrange(keys.dead("tgtrack"), 0, -1):
            headers = json.loads(raw)["headers"]
            reasons[headers["id"]] = headers["postback_dead"]["reason"]
        assert reasons.pop(revoked.id) == "revoked"
        assert list(reasons.values()) == ["expired"]
        assert users(stack) == {"3": 1}
        assert worker.alive


def test_reads_go_before_writes() -> None:
    """A look-up is answered while a backlog of writes waits for its quota."""
    with Stack(limits={"tgtrack": None}) as stack:
        stack.account("tgtrack.main", limits="5/second")
        stack.configure_producer()
        postback.send_many([sale(user) for user in range(200)])
        stack.start_workers("tgtrack")
        info = tgtrack.GetUserInfo(user_id="77").delay().get(timeout=10)
        assert info["user_id"] == "77"
        assert sum(users(stack).values()) < 100


def test_sigterm_finishes_what_is_on_the_wire() -> None:
    """SIGTERM: requests on their way are finished, the rest stays queued, nothing is sent twice."""
    with Stack(limits={"tgtrack": None}, latency_ms=(150, 300)) as stack:
        stack.account("tgtrack.main", limits=FAST)
        stack.configure_producer()
        postback.send_many([sale(user) for user in range(200)])
        (worker,) = stack.start_workers("tgtrack")
        stack.sandbox.wait_for(lambda s: s.stats()["events"] >= 20, timeout_s=20)
        assert worker.stop() == 0
        client = stack.client()
        assert client.zcard(keys.flight("tgtrack.main")) == 0
        queued = sum(client.llen(name) for name in keys.priority_lists("tgtrack.main"))
        assert queued == 200 - len(users(stack))
        stack.start_workers("tgtrack")
        drained(stack, 60)
        assert set(users(stack).values()) == {1}
        assert len(users(stack)) == 200


def test_workers_survive_what_redis_goes_through() -> None:
    """CLIENT KILL, SCRIPT FLUSH, a restart: the same worker process goes on without help, each
    event once.
    """
    with Stack(appendonly=True, limits={"tgtrack": None}) as stack:
        stack.account("tgtrack.main", limits=FAST)
        stack.configure_producer()
        (worker,) = stack.start_workers("tgtrack")
        for step in range(3):
            postback.send_many([sale(f"{step}-{user}") for user in range(50)])
            drained(stack, 30)
            if step == 0:
                stack.redis.cut_connections()
                stack.client().script_flush()
            elif step == 1:
                stack.redis.restart()
        assert len(users(stack)) == 150
        assert set(users(stack).values()) == {1}
        assert worker.alive


def test_a_message_that_kills_its_workers_is_a_dead_letter() -> None:
    """Three workers die with the same message: dead letter `crashed`; the others are delivered."""
    with Stack(limits={"tgtrack": None}) as stack:
        stack.account("tgtrack.main", limits=FAST, timeout_s=10, lease_s=16)
        stack.configure_producer()
        client = stack.client()
        flight = keys.flight("tgtrack.main")
        stack.sandbox.fault("timeout_before", provider="tgtrack", contains="poison", seconds=3600)
        result = sale("poison").delay()
        dead_workers: set[str] = set()
        for _ in range(3):
            worker = stack.launch_worker("tgtrack")
            stack.workers.append(worker)
            (grant,) = until(lambda: set(client.zrange(flight, 0, -1)) - dead_workers, 40, "it is taken")
            worker.kill()
            dead_workers.add(grant)
            end_leases(stack, "tgtrack.main")
        sale("fine").delay()
        stack.start_workers("tgtrack")
        until(lambda: client.llen(keys.dead("tgtrack")) == 1, 30, "the dead letter")
        stack.sandbox.wait_for(lambda s: users(stack).get("fine") == 1, timeout_s=20)
        headers = json.loads(client.lindex(keys.dead("tgtrack"), 0))["headers"]
        assert headers["id"] == result.id
        assert headers["postback_dead"]["reason"] == "crashed"


@pytest.mark.parametrize("kill", [False, True])
def test_idempotency_keys_drop_the_second(kill: bool) -> None:
    """Two events with one key: one is delivered, the other is a SUCCESS `duplicate of`; also when
    the worker is killed in between.
    """
    with Stack(limits={"tgtrack": None}, latency_ms=(50, 100)) as stack:
        stack.account("tgtrack.main", limits=FAST, timeout_s=1, lease_s=7)
        stack.configure_producer()
        first = sale("1").apply_async(idempotency_key="order-17")
        (worker,) = stack.start_workers("tgtrack")
        if kill:
            until(lambda: stack.client().zcard(keys.flight("tgtrack.main")) or users(stack), 10)
            worker.kill()
            end_leases(stack, "tgtrack.main")
            stack.start_workers("tgtrack")
        second = sale("2").apply_async(idempotency_key="order-17")
        drained(stack, 40)
        assert "2" not in users(stack)
        assert users(stack)["1"] in ((1, 2) if kill else (1,))
        assert f"duplicate of {first.id}" in stack.logs()
        assert second.id in stack.logs()
