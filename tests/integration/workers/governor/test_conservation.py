"""Conservation: whatever happens, every message is in exactly one place, or was settled as done."""

from __future__ import annotations

import json
from collections import Counter
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

from postback.wire import keys
from postback.wire.scripts import named
from tests.integration.workers.governor.bench import (
    QUEUE,
    START_MS,
    Bench,
    ClockedScript,
    again,
    back,
    bury,
    id_of,
    message,
    poll,
    state_of,
)
from tests.integration.workers.governor.test_take import iso
from workers.governor.take import State, TakenGrant

LEASE_MS = 30_000
#: What SETTLE is told of an event; None of one that is done with.
VERBS: dict[str, Any] = {
    "done": lambda at, ms: None,
    "retry": lambda at, ms: again(at, ms, duplicate=ms % 3 == 1),
    "poll": poll,
    "back": lambda at, ms: back(at),
    "dead": lambda at, ms: bury(at, '{"reason": "x"}', duplicate=ms % 3 == 1),
}


class Account(RuleBasedStateMachine):
    """One account, several workers that may die, producers of every kind."""

    client: redis.Redis

    def __init__(self) -> None:
        super().__init__()
        self.client.flushall()
        self.bench = Bench(self.client)
        self.reconcile = ClockedScript("reconcile")
        self.pushed: Counter[str] = Counter()
        self.done: Counter[str] = Counter()
        #: Ids that an answer has recorded.
        self.recorded: set[str] = set()
        #: Undisturbed ids of each (priority, task), the oldest first.
        self.waiting: dict[tuple[int, str], list[str]] = {}
        self.retries: Counter[str] = Counter()
        self.open: list[TakenGrant] = []
        self.settled: list[tuple[str, dict[str, Any]]] = []
        self.number = 0

    @initialize(
        batch_max=st.sampled_from([1, 1, 4]),
        linger_ms=st.sampled_from([0, 500]),
        outage_after=st.sampled_from([2, 5]),
        in_place=st.booleans(),
        windows=st.sampled_from([[], [(3, 1.0)], [(2, 1.0), (5, 60.0)]]),
        healthy=st.booleans(),
    )
    def configure(self, healthy: bool, in_place: bool, **chosen: Any) -> None:
        self.bench.settings.update(lease_ms=LEASE_MS, dedup_ms=60_000, in_place=in_place, max_bytes=2500, **chosen)
        if healthy:
            self.bench.healthy()

    # Producers

    @rule(
        count=st.integers(1, 6),
        priority=st.sampled_from([0, 3]),
        task=st.sampled_from(["t.a", "t.a", "t.b"]),
        eta_ms=st.sampled_from([None, None, None, -50, 700, 90_000]),
        key=st.sampled_from([None, None, None, "k1", "k2"]),
        twin=st.booleans(),
    )
    def push(self, count: int, priority: int, task: str, eta_ms: int | None, key: str | None, twin: bool) -> None:
        raw, name = b"", ""
        for _ in range(count):
            if not (twin and raw):
                self.number += 1
                name = f"m{self.number:04}"
                headers: dict[str, Any] = {} if key is None else {"postback_key": key}
                if eta_ms is not None:
                    headers["eta"] = iso(self.bench.now_ms + eta_ms)
                raw = message(name, task=task, priority=priority, body_bytes=200, **headers)
            self.bench.push(raw, priority=priority)
            self.pushed[name] += 1
            if eta_ms is None and not twin:
                self.waiting.setdefault((priority, task), []).append(name)

    # Time

    @rule(ms=st.sampled_from([1, 90, 500, 1001, 5000, 31_000, 61_000]))
    def advance(self, ms: int) -> None:
        self.bench.advance(ms)

    @rule(ms=st.sampled_from([5, 900]))
    def step_back(self, ms: int) -> None:
        self.bench.advance(-ms)

    # Workers

    @rule(count=st.integers(1, 4), lose_reply=st.booleans())
    def take(self, count: int, lose_reply: bool) -> None:
        call = f"postback:test.{self.bench.calls}"
        took = self.bench.take(count, call=call).grants
        if lose_reply:
            again = self.bench.take(count, call=call, replay=True).grants
            if took:
                assert again == took
            took = again
        self.open += took
        for grant in took:
            self.leave(grant)

    def leave(self, grant: TakenGrant) -> None:
        if not grant.group:
            assert len({json.loads(raw)["headers"]["task"] for raw in grant.raws}) == 1
            assert len(grant.raws) <= self.bench.settings["batch_max"]
        for raw in grant.raws:
            document = json.loads(raw)
            lane = self.waiting.get((document["properties"]["priority"], document["headers"]["task"]), [])
            name = document["headers"]["id"]
            if name in lane:
                assert lane[0] == name, f"{name} left before {lane[0]}"
                lane.pop(0)
            assert state_of(raw).get("attempts", 0) <= self.retries[name]

    @precondition(lambda self: self.open)
    @rule(which=st.integers(0, 99))
    def answer_well(self, which: int) -> None:
        grant = self.open.pop(which % len(self.open))
        names = [id_of(raw) for raw in grant.raws]
        known = {*self.bench.everything(), *self.recorded}
        for name, owner in zip(names, grant.owners, strict=True):
            assert not owner or owner.decode() in known, f"{name} would be dropped for {owner!r}, which is gone"
        spec: dict[str, Any] = {"health": "ok", "delivered": sum(not owner for owner in grant.owners)}
        if grant.siblings:
            spec["groups"] = [[list(range(len(names) + 1, len(names) + len(grant.siblings) + 1)), []]]
        if self.settle(grant, spec):
            self.recorded.update(name for name, owner in zip(names, grant.owners, strict=True) if not owner)
            self.done.update(names)

    @precondition(lambda self: self.open)
    @rule(
        which=st.integers(0, 99),
        health=st.sampled_from(["ok", "fail", "fail", "fail", "quota", "refused", "unknown", "none"]),
        verbs=st.lists(st.sampled_from(sorted(VERBS)), min_size=8, max_size=8),
        ms=st.sampled_from([0, 40, 3000]),
        retry_after_ms=st.sampled_from([None, 1500]),
    )
    def answer_anyhow(self, which: int, health: str, verbs: list[str], ms: int, retry_after_ms: int | None) -> None:
        grant = self.open.pop(which % len(self.open))
        every = [*grant.raws, *grant.siblings]
        lines: list[dict[str, Any]] = []
        done, retried = [], []
        for index, (raw, verb) in enumerate(zip(every, verbs, strict=False), 1):
            if verb == "done":
                done.append(id_of(raw))
            if verb == "retry":
                retried.append(id_of(raw))
            lines.append(VERBS[verb](index, ms))
        spec = {"health": health, "detail": "d", "messages": [line for line in lines if line]}
        if self.settle(grant, spec, retry_after_ms):
            self.recorded.update(done)
            self.done.update(done)
            self.retries.update(retried)

    @precondition(lambda self: any(len(grant.raws) > 1 for grant in self.open))
    @rule(which=st.integers(0, 99))
    def refuse_a_batch(self, which: int) -> None:
        several = [grant for grant in self.open if len(grant.raws) > 1]
        grant = several[which % len(several)]
        self.open.remove(grant)
        own, all_of = len(grant.raws), len(grant.raws) + len(grant.siblings)
        middle = (own + 1) // 2
        groups = [[list(range(1, middle + 1)), list(range(middle + 1, own + 1))]]
        if all_of > own:
            groups.append([list(range(own + 1, all_of + 1)), []])
        self.settle(grant, {"health": "ok", "groups": groups})

    def settle(self, grant: TakenGrant, spec: dict[str, Any], retry_after_ms: int | None = None) -> bool:
        applied = "applied" in self.bench.settle(grant, retry_after_ms=retry_after_ms, **spec)
        self.settled.append((grant.id, spec))
        return applied

    @precondition(lambda self: self.settled)
    @rule(which=st.integers(0, 99))
    def settle_again(self, which: int) -> None:
        grant_id, spec = self.settled[which % len(self.settled)]
        assert self.bench.settle(grant_id, **spec) == {}

    @precondition(lambda self: self.open)
    @rule(which=st.integers(0, 99))
    def crash(self, which: int) -> None:
        self.open.pop(which % len(self.open))

    @precondition(lambda self: self.open)
    @rule(which=st.integers(0, 99))
    def reconcile_what_is_known(self, which: int) -> None:
        """After a restart that forgot nothing: telling Redis of a request on its way changes
        nothing.
        """
        grant = self.open[which % len(self.open)]
        if self.client.zscore(keys.flight(QUEUE), grant.id) is None:
            return
        report = {
            "grant": grant.id,
            "granted_us": grant.granted_us,
            "settled": False,
            "half": grant.group,
            "duplicates": [False] * len(grant.raws),
            "account": self.bench.account,
        }
        reply = self.reconcile(self.client, self.bench.keys, [json.dumps(report), *grant.raws, *grant.siblings])
        assert "in_flight" in named(reply)

    @rule()
    def resume(self) -> None:
        """An operator ends whatever pause there is."""
        self.client.hdel(keys.meta(QUEUE), "paused", "reason", "since", "detail")
        self.client.hdel(self.bench.credential_key, "paused", "since", "detail")
        self.client.hdel(self.bench.quota_key, "frozen", "frozen_at", "level", "detail")

    @rule(run=st.sampled_from(["one", "two"]))
    def restart(self, run: str) -> None:
        """Another server, with the same memory."""
        self.bench.settings["run"] = run
        self.client.script_flush()

    # What must hold

    @invariant()
    def every_message_is_in_one_place(self) -> None:
        assert self.bench.everything() + self.done == self.pushed

    @invariant()
    def flight_and_unacked_agree(self) -> None:
        flight = set(self.client.zrange(keys.flight(QUEUE), 0, -1))
        assert flight == set(self.client.hkeys(keys.unacked(QUEUE)))

    @invariant()
    def keys_and_their_ends_agree(self) -> None:
        assert set(self.client.hkeys(keys.idempotency(QUEUE))) == set(
            self.client.zrange(keys.idempotency_ends(QUEUE), 0, -1)
        )

    def teardown(self) -> None:
        """In the end everything can be delivered: nothing is stuck anywhere."""
        self.bench.settings["windows"] = []
        self.resume()
        self.bench.healthy()
        self.bench.set_clock(max(self.bench.now_ms, START_MS) + 400_000)
        for _ in range(400):
            reply = self.bench.take(4)
            for grant in reply.grants:
                names = [id_of(raw) for raw in grant.raws]
                siblings = list(range(len(names) + 1, len(names) + len(grant.siblings) + 1))
                if self.bench.settle(grant, health="ok", groups=[[siblings, []]] if siblings else []):
                    self.done.update(names)
            if not reply.grants and reply.state is State.EMPTY and reply.due_ms is None:
                break
            if not reply.grants:
                self.bench.advance(100_000)
        dead = Counter(letter["headers"]["id"] for letter in self.bench.dead())
        assert self.done + dead == self.pushed


@pytest.mark.timeout(300)
def test_nothing_is_lost_and_nothing_doubled(redis_client: redis.Redis) -> None:
    """Over any history every message is in one place, those that nobody disturbed leave in order,
    and in the end all are delivered or dead.
    """
    machine = type("Account", (Account,), {"client": redis_client})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=100,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        ),
    )
