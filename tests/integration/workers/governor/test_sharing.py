"""Accounts that share a key, or a quota alone (I10, ADR 33)."""

from __future__ import annotations

import struct
from collections import Counter
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from postback.operations import pause, resume
from postback.wire import keys
from postback.wire.windows import padded_ms
from tests.integration.workers.governor.bench import START_MS, Bench, back, message
from tests.integration.workers.governor.test_quota_log import (
    LEASE_MS,
    STEPS,
    WINDOWS,
    Model,
    Sent,
    assert_no_window_exceeded,
)
from workers.governor.take import State, TakenGrant


class Account(Bench):
    """An account of several on one clock."""

    def take(self, count: int = 1, **options: Any) -> Any:
        self.calls += 1
        return super().take(count, call=f"postback:{self.queue}.{self.calls}", **options)


def accounts(
    client: redis.Redis, *names: str, quota: str = "", credential: str = "key.same", **table: Any
) -> list[Account]:
    """Accounts of one credential, and of its quota or another; each has events, and its credential
    is healthy.
    """
    found = []
    for name in names:
        account = Account(client, f"tgtrack.{name}", **table)
        account.credential = credential
        account.quota = quota or credential
        account.healthy()
        account.push(*(message(f"{name}{number:02}") for number in range(20)))
        found.append(account)
    return found


def together(*found: Account, now_ms: float) -> None:
    """They have one clock."""
    for account in found:
        account.now_ms = now_ms
    found[0].set_clock(now_ms)


class TestQuota:
    def test_is_one(self, redis_client: redis.Redis) -> None:
        """What one account has sent counts for the other, on its way and after its answer."""
        one, two = accounts(redis_client, "one", "two", windows=[(3, 60.0)])
        took = one.take(2).grants
        assert len(two.take(3).grants) == 1
        assert two.take(1).state is State.SPENT
        for grant in took:
            one.settle(grant)
        reply = two.take(1)
        assert (reply.state, reply.grants) == (State.SPENT, [])
        together(one, two, now_ms=one.now_ms + padded_ms(60.0))
        assert len(two.take(3).grants) == 2

    def test_in_turn(self, redis_client: redis.Redis) -> None:
        """Ten accounts, one of which always asks first: places go round, and none waits longer than
        the others.
        """
        found = accounts(redis_client, *"abcdefghij", windows=[(1, 1.0)])
        sent: Counter[str] = Counter()
        now_ms = float(START_MS)
        for _ in range(60):
            for account in found:
                for grant in account.take(5).grants:
                    sent[account.queue] += 1
                    account.settle(grant)
            now_ms += padded_ms(1.0)
            together(*found, now_ms=now_ms)
        assert sum(sent.values()) == 60
        assert set(sent.values()) <= {5, 6, 7}

    def test_who_is_not_served_loses_its_place(self, redis_client: redis.Redis) -> None:
        """The first in the line has no worker any more: after a second the next one goes."""
        gone, here = accounts(redis_client, "gone", "here", windows=[(1, 1.0)])
        here.settle(here.one())
        assert gone.take().state is State.SPENT
        assert here.take().state is State.SPENT
        together(gone, here, now_ms=here.now_ms + padded_ms(1.0))
        assert here.take().state is State.SPENT
        together(gone, here, now_ms=here.now_ms + 1100)
        assert len(here.take().grants) == 1

    @pytest.mark.parametrize("how", ["pause", "empty"])
    def test_who_does_not_ask_stands_in_nobodys_way(self, redis_client: redis.Redis, how: str) -> None:
        """An account that was paused, or whose events were erased, leaves the line when it is asked
        next.
        """
        first, second = accounts(redis_client, "first", "second", windows=[(1, 1.0)])
        second.settle(second.one())
        first.take()
        second.take()
        if how == "pause":
            pause(redis_client, first.queue)
        else:
            redis_client.delete(first.queue)
        together(first, second, now_ms=second.now_ms + padded_ms(1.0))
        assert first.take().grants == []
        assert len(second.take().grants) == 1

    def test_a_place_that_was_given_back(self, redis_client: redis.Redis) -> None:
        """Nothing was sent: whoever waits longest is asked at once."""
        one, two = accounts(redis_client, "one", "two", windows=[(1, 60.0)])
        grant = one.one()
        assert two.take().state is State.SPENT
        assert redis_client.zscore(keys.schedule("tgtrack"), two.queue) > two.now_ms
        one.settle(grant, health="none", messages=[back(1)])
        assert redis_client.zscore(keys.schedule("tgtrack"), two.queue) == two.now_ms
        assert len(two.take().grants) == 1

    def test_a_dead_workers_request_leaves_the_count(self, redis_client: redis.Redis) -> None:
        """Its account is served by nobody: another account of the quota waits a window after the
        lease, and no longer.
        """
        dead, alive = accounts(redis_client, "dead", "alive", windows=[(1, 60.0)])
        dead.one()
        assert alive.take().state is State.SPENT
        together(dead, alive, now_ms=alive.now_ms + dead.settings["lease_ms"])
        assert alive.take().wait_ms == padded_ms(60.0)
        together(dead, alive, now_ms=alive.now_ms + padded_ms(60.0))
        assert len(alive.take().grants) == 1
        assert dead.log()["seq"] == "1"
        dead.take()
        assert dead.log()["seq"] == "1", "its own account finds it later, and charges it no second time"
        assert dead.ids()[0] == "dead00"

    def test_a_429_freezes_all(self, redis_client: redis.Redis) -> None:
        """The provider refuses one: no account of the quota asks before it is over, and then one
        request goes first.
        """
        one, two = accounts(redis_client, "one", "two")
        one.refuse(one.one(), retry_after_ms=5000)
        assert two.paused_ms() == 5000
        together(one, two, now_ms=two.now_ms + 5000)
        assert len(two.take(3).grants) == 1
        assert one.take(3).state is State.BLOCKED


class TestCredential:
    def test_one_first_for_all(self, redis_client: redis.Redis) -> None:
        """Of accounts of a fresh key one sends one request; its answer lets the others go at
        once.
        """
        found = accounts(redis_client, "one", "two", "three")
        redis_client.delete(found[0].credential_key)
        one, two, three = found
        (grant,) = one.take(5).grants
        assert {account.take(5).state for account in found} == {State.BLOCKED}
        one.settle(grant)
        for other in (two, three):
            assert redis_client.zscore(keys.schedule("tgtrack"), other.queue) == other.now_ms
            assert len(other.take(5).grants) == 5

    def test_who_waits_for_the_first_answer_keeps_its_place(self, redis_client: redis.Redis) -> None:
        """At rest one request goes first each time a place is free; those behind it in the line
        lose no place by that.
        """
        found = accounts(redis_client, *"abcd", windows=[(2, 1.0)])
        first, second, third, _ = found
        for account in found:
            for grant in account.take(2).grants:
                account.settle(grant)
        together(*found, now_ms=first.now_ms + 1)
        first.take()
        redis_client.hdel(first.credential_key, "healthy")
        together(*found, now_ms=first.now_ms + padded_ms(1.0))
        grant = second.one()
        assert third.take().state is State.BLOCKED
        second.settle(grant)
        assert len(third.take().grants) == 1

    def test_after_a_failure_in_turn(self, redis_client: redis.Redis) -> None:
        """As long as no answer is healthy one request goes at a time, and each account has its
        turn.
        """
        one, two = accounts(redis_client, "one", "two", outage_after=100)
        redis_client.delete(one.credential_key)
        grant = one.one()
        assert two.take().state is State.BLOCKED
        one.fail(grant)
        schedule = redis_client.zrange(keys.schedule("tgtrack"), 0, -1)
        assert schedule.index(two.queue.encode()) < schedule.index(one.queue.encode())
        assert len(two.take().grants) == 1

    def test_a_refused_key_stops_all_of_its_accounts(self, redis_client: redis.Redis) -> None:
        """One request is refused, and no account of the key sends another until one of them is
        resumed.
        """
        one, two = accounts(redis_client, "one", "two")
        one.refuse(one.one(), "refused")
        assert (one.paused_ms(), two.paused_ms()) == (None, None)
        resume(redis_client, two.queue)
        assert len(one.take(3).grants) == 1

    def test_a_refused_token_of_a_plan_stops_its_own_account(self, redis_client: redis.Redis) -> None:
        """Accounts that share a quota on purpose have a health each."""
        (one,) = accounts(redis_client, "one", quota="name.plan", credential="key.one", windows=[(9, 60.0)])
        (two,) = accounts(redis_client, "two", quota="name.plan", credential="key.two", windows=[(9, 60.0)])
        one.refuse(one.one(), "refused")
        assert one.paused_ms() is None
        assert len(two.take(20).grants) == 8, "the refused request counts"

    def test_an_operators_pause_stops_one(self, redis_client: redis.Redis) -> None:
        """It is the account's."""
        one, two = accounts(redis_client, "one", "two")
        pause(redis_client, one.queue)
        assert one.paused_ms() is None
        assert len(two.take().grants) == 1

    def test_an_outage_stops_one(self, redis_client: redis.Redis) -> None:
        """Five failures in a row of one account: the other goes on, one request first."""
        one, two = accounts(redis_client, "one", "two")
        for grant in one.take(5).grants:
            one.fail(grant)
        assert one.take().state is State.PAUSED
        assert len(two.take(3).grants) == 1


class TestChanges:
    def test_both_logs_bind(self, redis_client: redis.Redis) -> None:
        """An account that gets another quota is bound by both for one longest window, and counts in
        both.
        """
        one, left_behind = accounts(redis_client, "one", "two", windows=[(3, 60.0)])
        for grant in one.take(2).grants:
            one.settle(grant)
        one.quota = "name.plan"
        (grant,) = one.take(9).grants
        assert one.take().state is State.SPENT, "of three two went before the change"
        assert left_behind.take().state is State.SPENT, "what it sends counts in the quota that it has left"
        one.settle(grant)
        together(one, left_behind, now_ms=one.now_ms + padded_ms(60.0))
        assert len(one.take(9).grants) == 3
        assert len(left_behind.take(9).grants) == 3, "the window is over"

    def test_there_and_back(self, redis_client: redis.Redis) -> None:
        """Two workers with another accounts file each: whoever asks, all that was sent counts."""
        (one,) = accounts(redis_client, "one", windows=[(4, 60.0)])
        for quota in ("name.new", "key.same", "name.new", "key.same"):
            one.quota = quota
            one.settle(one.one())
        for quota in ("name.new", "key.same"):
            one.quota = quota
            assert one.take().state is State.SPENT

    def test_another_key(self, redis_client: redis.Redis) -> None:
        """A key that was refused is replaced: one request goes with the new one, and the log of the
        old one binds.
        """
        (one,) = accounts(redis_client, "one", windows=[(3, 60.0)])
        one.refuse(one.one(), "refused")
        one.credential = one.quota = "key.new"
        assert len(one.take(9).grants) == 1
        assert one.meta()["former"].startswith(keys.quota("tgtrack", "key.same"))

    def test_many_changes(self, redis_client: redis.Redis) -> None:
        """Of more logs than are kept the latest bind."""
        (one,) = accounts(redis_client, "one", windows=[(100, 60.0)])
        for number in range(20):
            one.quota = f"name.q{number}"
            one.settle(one.one())
        assert len(one.meta()["former"].split()) == 16

    def test_a_stricter_limit_of_the_log_that_it_leaves(self, redis_client: redis.Redis) -> None:
        """Each log binds by the limits by which it was asked."""
        (one,) = accounts(redis_client, "one", windows=[(1, 60.0)])
        one.settle(one.one())
        one.quota, one.settings["windows"] = "name.plan", [(100, 60.0)]
        assert one.take().state is State.SPENT
        together(one, now_ms=one.now_ms + padded_ms(60.0))
        assert len(one.take(50).grants) == 19

    def test_the_first_editions_log(self, redis_client: redis.Redis) -> None:
        """An account of the first edition: its log, its freeze and its refused key go on."""
        (one,) = accounts(redis_client, "one", windows=[(3, 3600.0)])
        meta = keys.meta(one.queue)
        redis_client.hset(meta, mapping={"seq": 2, "size": 3, "last": START_MS, "healthy": 1})
        redis_client.set(keys.ring(one.queue), struct.pack(">dd", START_MS - 5000, START_MS))
        redis_client.hset(meta, mapping={"paused": START_MS + 7000, "reason": "quota", "since": START_MS})
        assert one.paused_ms() == 7000
        together(one, now_ms=START_MS + 7000)
        (grant,) = one.take(9).grants
        one.settle(grant)
        reply = one.take()
        assert (reply.state, reply.wait_ms) == (State.SPENT, padded_ms(3600.0) - 12_000)
        together(one, now_ms=START_MS + 90_000_000)
        assert len(one.take(9).grants) == 3
        assert redis_client.exists(keys.ring(one.queue)) == 0

    def test_the_first_editions_refused_key(self, redis_client: redis.Redis) -> None:
        """It goes on to pause, and ends by a resume."""
        (one,) = accounts(redis_client, "one")
        told = {"seq": 0, "paused": -1, "reason": "credentials", "since": START_MS, "detail": "401"}
        redis_client.hset(keys.meta(one.queue), mapping=told)
        assert one.paused_ms() is None
        assert resume(redis_client, one.queue).reason == "credentials"
        assert len(one.take(9).grants) == 1


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(windows=WINDOWS, steps=STEPS, count=st.integers(2, 4))
def test_shared_as_if_it_were_one(
    redis_client: redis.Redis, windows: list[tuple[int, float]], steps: list[tuple[str, int]], count: int
) -> None:
    """Whatever happens, accounts of one quota send together what one account might, no more and no
    less.
    """
    redis_client.flushall()
    options = {"windows": windows, "lease_ms": LEASE_MS, "max_crashes": 1000}
    found = accounts(redis_client, *(f"a{number}" for number in range(count)), **options)
    for account in found:
        account.push(*(message(f"{account.queue}.{number}") for number in range(200)))
    model, now_ms, true_ms = Model(windows), float(START_MS), 0.0
    sent: dict[str, Sent] = {}
    open_grants: list[tuple[Account, TakenGrant]] = []
    crashed = False
    for step, value in steps:
        if step in ("advance", "back"):
            now_ms += value if step == "advance" else -value
            true_ms += value if step == "advance" else 0
            together(*found, now_ms=now_ms)
        elif step == "take":
            model.expire(now_ms)
            for _ in range(20):
                before = len(open_grants)
                for offset in range(count):
                    account = found[(value + offset) % count]
                    for grant in account.take().grants:
                        assert model.admits(now_ms), "the model refuses it"
                        model.leases[grant.id] = now_ms + LEASE_MS
                        sent[grant.id] = Sent(true_ms)
                        open_grants.append((account, grant))
                if len(open_grants) == before:
                    break
            assert not model.admits(now_ms), "the model allows more"
        elif open_grants:
            account, grant = open_grants.pop(value % len(open_grants))
            if step == "crash":
                crashed = True
                continue
            if not account.settle(grant):
                model.expire(now_ms)
            sent[grant.id].answered = true_ms
            if model.leases.pop(grant.id, None) is not None:
                model.charge(now_ms)
    for request in sent.values():
        request.answered = min(request.answered, request.granted + LEASE_MS)
    if not crashed:
        assert_no_window_exceeded(list(sent.values()), windows)
