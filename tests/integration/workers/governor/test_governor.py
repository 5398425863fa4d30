"""The governor against a Redis that loses replies, forgets scripts, is full, is a replica, or holds
something else under a key.
"""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import SimpleNamespace
from typing import Any

import pytest
import redis

from config.accounts import build_account
from postback.wire import keys
from tasks.rulings import PUT_BACK, Again, Dead
from tests.integration.workers.governor.bench import message
from tests.integration.workers.governor.crew import LETTER, Given, Worker, answer
from workers.devkit import RedisServer
from workers.governor import Look, State, Taken
from workers.governor.settle import REMEMBERED_S, encoded


@pytest.fixture
def crew(redis_server: RedisServer, redis_client: redis.Redis) -> Worker:
    """A worker on the shared server; its account is open."""
    worker = Worker(redis_server)
    worker.pump()
    worker.open()
    return worker


@contextmanager
def full(server: RedisServer) -> Iterator[None]:
    """A server at its memory limit."""
    client = server.client()
    client.config_set("maxmemory", 1)
    try:
        yield
    finally:
        client.config_set("maxmemory", 0)


@contextmanager
def demoted(server: RedisServer) -> Iterator[None]:
    """A server that has become a replica, as the old primary after a failover."""
    client = server.client()
    client.replicaof("127.0.0.1", "1")
    try:
        yield
    finally:
        client.replicaof("NO", "ONE")


class TestLostReplies:
    @pytest.mark.parametrize("lost", ["before", "after"])
    def test_of_take(self, crew: Worker, lost: str) -> None:
        """Whether TAKE was lost on its way there or back, its repetition brings what it took:
        nothing lost, nothing doubled.
        """
        crew.push(*(message(f"e{number}") for number in range(5)))
        crew.client.lose = [lost]
        with pytest.raises(redis.ConnectionError):
            crew.taken(3)
        assert [grant.envelopes[0].id for grant in crew.take(3)] == ["e0", "e1", "e2"]
        assert crew.look.ids() == ["e3", "e4"]
        assert crew.look.requests() == 3
        assert sum(crew.look.everything().values()) == 5

    def test_of_take_many_times(self, crew: Worker) -> None:
        """Also if the reply is lost again and again, and fewer are asked for then."""
        crew.push(*(message(f"e{number}") for number in range(5)))
        crew.client.lose = ["after"] * 4
        for count in (3, 1, 5, 2):
            with pytest.raises(redis.ConnectionError):
                crew.taken(count)
        assert len(crew.take(1)) == 3
        assert crew.look.requests() == 3

    def test_of_an_empty_take(self, crew: Worker) -> None:
        """The repetition of a call that found nothing takes what has come since."""
        crew.client.lose = ["after"]
        with pytest.raises(redis.ConnectionError):
            crew.taken()
        crew.push(message("a"))
        assert crew.one().envelopes[0].id == "a"

    def test_the_lease_counts_from_the_first_call(self, crew: Worker) -> None:
        """What a repeated call brings is held no longer than Redis holds it."""
        crew.push(message("a"))
        crew.client.lose = ["after"]
        with pytest.raises(redis.ConnectionError):
            crew.taken()
        crew.governor.server.clock = lambda: time.monotonic() + 20
        (grant,) = crew.taken().grants
        assert grant.lease_end - time.monotonic() < crew.account.lease_s

    @pytest.mark.parametrize("lost", ["before", "after"])
    @pytest.mark.parametrize(
        "given",
        [
            answer(), answer(Again(0, "", ambiguous=True), health="fail"),
            answer(Dead("", LETTER)), answer(PUT_BACK, health="none"),
        ],
    )  # fmt: skip
    def test_of_settle(self, crew: Worker, lost: str, given: Given) -> None:
        """A settlement whose way was lost is repeated and applied once."""
        crew.push(message("a"))
        grant = crew.one()
        crew.client.lose = [lost]
        crew.settle(grant, given)
        assert crew.governor.unsent == 1
        crew.pump()
        crew.pump()
        assert crew.governor.unsent == 0
        meta = crew.look.meta()
        assert crew.look.log().get("seq", "0") == ("0" if given.health == "none" else "1")
        kind = grant.envelopes[0].ruling.kind
        counted = [name for name in ("delivered", "dead", "fails") if meta.get(name, "0") == "1"]
        assert counted == ["fails"] * (given.health == "fail") + [kind] * (kind in ("delivered", "dead"))
        assert sum(crew.look.everything().values()) == (kind != "delivered")

    def test_a_repeated_settle_does_not_reach_the_next_grant(self, crew: Worker) -> None:
        """The event was put back and taken again: the repetition of its first settlement does not
        touch the second grant.
        """
        crew.push(message("a"))
        grant = crew.one()
        crew.client.lose = ["after"]
        crew.settle(grant, answer(PUT_BACK, health="none"))
        (again,) = crew.taken().grants
        crew.governor.replay()
        assert crew.look.flying() == ["a"]
        crew.settle(again)
        assert crew.look.everything() == {}

    def test_scripts_that_were_flushed(self, crew: Worker) -> None:
        """SCRIPT FLUSH at any moment is harmless."""
        crew.push(message("a"), message("b"))
        crew.look.client.script_flush()
        grant = crew.one()
        crew.look.client.script_flush()
        crew.settle(grant)
        crew.look.client.script_flush()
        assert crew.governor.round([], [], looks=[Look("tgtrack", 0, 9)]).looks[0][1].due == [crew.queue]
        assert crew.look.everything() == {"b": 1}

    def test_a_connection_that_was_killed(self, crew: Worker) -> None:
        """CLIENT KILL between two commands costs one error and nothing else."""
        crew.push(message("a"), message("b"))
        grant = crew.one()
        crew.look.client.client_kill_filter(_type="normal", skipme=True)
        crew.settle(grant)
        assert crew.governor.unsent == 1
        crew.pump()
        assert crew.look.everything() == {"b": 1}
        assert crew.look.log()["seq"] == "1"


class TestRefusals:
    @pytest.mark.parametrize(
        ("state", "error"), [(full, redis.exceptions.OutOfMemoryError), (demoted, redis.exceptions.ReadOnlyError)]
    )
    @pytest.mark.parametrize("batch", [False, True])
    def test_of_take(self, server: RedisServer, state: object, error: type[Exception], batch: bool) -> None:
        """A full server or a replica refuses or serves TAKE, whole; nothing is lost either way."""
        worker = Worker(server, "mytracker.game" if batch else "tgtrack.main", **({"linger_s": 0} if batch else {}))
        worker.pump()
        worker.push(*(message(f"e{number}", task="mytracker.login") for number in range(3)))
        worker.look.client.zadd(keys.delayed(worker.queue), {message("due"): 1.0})
        with state(server):  # type: ignore[operator]
            for _ in range(3):
                with suppress(error):
                    worker.taken()
                assert sum(worker.look.everything().values()) == 4
        worker.pump()
        left: list[str] = []
        for _ in range(9):
            for grant in [*worker.governor.grants, *worker.taken(2).grants]:
                if grant in worker.governor.grants:
                    left += [envelope.id for envelope in grant.envelopes]
                    worker.settle(grant)
        assert sorted(left) == ["due", "e0", "e1", "e2"]
        assert worker.look.everything() == {}

    @pytest.mark.parametrize("state", [full, demoted])
    def test_of_settle(self, server: RedisServer, state: object) -> None:
        """A settlement that is refused is kept; nothing of it is half done."""
        worker = Worker(server)
        worker.pump()
        worker.open()
        worker.push(*(message(f"e{number}") for number in range(4)))
        grants = worker.take(4)
        settlements = [
            answer(), answer(Again(60, "", ambiguous=True), health="unknown"),
            answer(Dead("", LETTER)), answer(PUT_BACK, health="none"),
        ]  # fmt: skip
        with state(server):  # type: ignore[operator]
            for grant, settlement in zip(grants, settlements, strict=True):
                worker.settle(grant, settlement)
        worker.pump()
        assert worker.governor.unsent == 0
        assert worker.look.everything() == {"e1": 1, "e2": 1, "e3": 1}
        assert worker.look.ids() == ["e3"]

    def test_no_writes_is_told_as_such(self, server: RedisServer) -> None:
        """While the server as a whole takes no writes, replay says so and keeps everything."""
        worker = Worker(server)
        worker.pump()
        worker.push(message("a"))
        grant = worker.one()
        with demoted(server):
            worker.settle(grant)
            with pytest.raises(redis.exceptions.ReadOnlyError):
                worker.governor.replay()
            assert worker.governor.unsent == 1

    def test_one_bad_settlement_does_not_hold_up_others(self, crew: Worker) -> None:
        """Something else stands under one account's key: its settlement is kept, the other
        account's goes through.
        """
        other = Worker(crew.server, "tgtrack.other")
        crew.accounts.update(other.accounts)
        crew.push(message("a"))
        other.push(message("b"))
        grant = crew.one()
        (theirs,) = crew.governor.take("tgtrack.other", 1).grants
        crew.look.client.set(keys.delayed(crew.queue), "not a zset")
        crew.settle(grant, answer(Again(1, ""), health="unknown"))
        crew.client.lose = ["before"]
        crew.settle(theirs)
        assert crew.governor.unsent == 2
        crew.governor.replay()
        assert crew.governor.unsent == 1
        assert other.look.everything() == {}
        crew.look.client.delete(keys.delayed(crew.queue))
        assert crew.look.flying() == ["a"]
        crew.governor.settler.replay_last()
        assert crew.governor.unsent == 0
        assert crew.look.everything() == {"a": 1}

    def test_a_provider_that_sends_half_a_character(self, crew: Worker) -> None:
        """A lone surrogate in the provider's words does not lose the event: Redis' JSON reader
        would refuse it.
        """
        crew.push(message("a"))
        settlement = answer(Again(60, ""), health="fail", detail="503 \ud83d")
        crew.settle(crew.one(), settlement)
        assert crew.governor.unsent == 0
        assert len(crew.look.bench.held()) == 1


class TestSettle:
    def test_without_a_decision(self, crew: Worker) -> None:
        """A grant without a settlement cannot be settled: that is never `delivered`."""
        crew.push(message("a"))
        with pytest.raises(ValueError, match="no settlement"):
            crew.governor.settle(crew.one())
        assert crew.look.flying() == ["a"]

    def test_twice(self, crew: Worker) -> None:
        """A grant that is not held here any more is not settled again."""
        crew.push(message("a"))
        grant = crew.one()
        crew.settle(grant)
        crew.settle(grant, answer(Again(0, ""), health="fail"))
        assert crew.look.meta()["delivered"] == "1"
        assert "fails" not in crew.look.meta()

    def test_an_account_that_is_gone(self, crew: Worker) -> None:
        """An account that left the accounts file meanwhile: what was taken is still settled."""
        crew.push(message("a"))
        grant = crew.one()
        crew.accounts.clear()
        crew.settle(grant, answer(Again(1, ""), health="unknown"))
        assert len(crew.look.bench.delayed()) == 1
        assert crew.governor.take(crew.queue, 1).state is State.EMPTY

    def test_many_in_one_trip(self, crew: Worker) -> None:
        """Answers of a moment and the next TAKE are one round trip."""
        crew.push(*(message(f"e{number}") for number in range(70)))
        grants = crew.take(64)
        for grant in grants:
            grant.settlement = answer().to(grant)
        crew.look.client.config_resetstat()
        done = crew.governor.round(grants, [(crew.queue, 9)])
        assert crew.look.client.info("commandstats")["cmdstat_evalsha"]["calls"] == 2
        assert len(done.taken[crew.queue].grants) == 6
        assert (crew.look.meta()["delivered"], crew.governor.unsent, len(crew.governor.grants)) == ("64", 0, 6)

    def test_many_accounts_in_one_call(self, crew: Worker) -> None:
        """TAKE works for several accounts at once; one whose keys are broken stops none of the
        others (ADR 32).
        """
        others = crew.beside("a", "b", "c")
        for queue in (crew.queue, *others):
            crew.look.client.lpush(queue, message(queue))
        crew.look.client.set(keys.flight(others[1]), "no sorted set")
        crew.look.client.config_resetstat()
        done = crew.governor.round([], [(queue, 1) for queue in (crew.queue, *others)])
        assert crew.look.client.info("commandstats")["cmdstat_evalsha"]["calls"] == 1
        assert [(queue, len(taken.grants)) for queue, taken in done.taken.items()] == [
            (crew.queue, 1),
            (others[0], 1),
            (others[2], 1),
        ]
        assert [(queue, str(error)[:9]) for queue, error in done.refused.items()] == [(others[1], "WRONGTYPE")]

    def test_an_account_that_the_user_may_not_touch(self, crew: Worker) -> None:
        """Redis refuses a call with its keys before it begins: the other accounts are asked all the
        same.
        """
        (other,) = crew.beside("b")
        for queue in (crew.queue, other):
            crew.look.client.lpush(queue, message(queue))
        user: Any = crew.look.client
        crew.governor.take(crew.queue, 0)  # it is connected
        user.execute_command(
            "ACL", "SETUSER", "default", "resetkeys", f"~{crew.queue}*", "~tgtrack.dead*", "~postback.*"
        )
        try:
            done = crew.governor.round([], [(queue, 1) for queue in (crew.queue, other)])
        finally:
            user.execute_command("ACL", "SETUSER", "default", "~*")
        assert (len(done.taken[crew.queue].grants), list(done.refused)) == (1, [other])

    def test_many_answers_in_one_call(self, crew: Worker) -> None:
        """SETTLE works for several grants at once; one that Redis refuses is kept, and the others
        are settled.
        """
        others = crew.beside("a", "b")
        queues = (crew.queue, *others)
        for queue in queues:
            crew.look.client.lpush(queue, message(queue))
        done = crew.governor.round([], [(queue, 1) for queue in queues])
        grants = [grant for taken in done.taken.values() for grant in taken.grants]
        for grant in grants:
            grant.settlement = answer().to(grant)
        broken = keys.quota_log("tgtrack", crew.governor.identities.of(crew.accounts[others[0]]).quota)
        crew.look.client.lpush(broken, "no string")
        crew.look.client.config_resetstat()
        crew.governor.round(grants, [])
        assert crew.look.client.info("commandstats")["cmdstat_evalsha"]["calls"] == 1
        assert crew.governor.unsent == 1
        assert [crew.look.client.hget(keys.meta(queue), "delivered") for queue in queues] == [b"1", None, b"1"]
        crew.look.client.delete(broken)
        crew.governor.settler.replay_last()
        assert crew.governor.unsent == 0

    def test_a_trip_that_is_lost(self, crew: Worker) -> None:
        """Its answers are kept, its TAKE is repeated: nothing is done twice and nothing is lost."""
        crew.push(*(message(f"e{number}") for number in range(6)))
        grants = crew.take(3)
        for grant in grants:
            grant.settlement = answer().to(grant)
        crew.client.lose = ["after"]
        with pytest.raises(redis.ConnectionError):
            crew.governor.round(grants, [(crew.queue, 3)])
        assert crew.governor.unsent == 3
        crew.pump()
        assert crew.governor.unsent == 0
        again = crew.governor.round([], [(crew.queue, 3)])
        assert len(again.taken[crew.queue].grants) == 3
        assert (crew.look.meta()["delivered"], crew.look.requests()) == ("3", 3)

    def test_a_server_that_forgot_the_scripts(self, crew: Worker) -> None:
        """They are told once more, and the trip goes on."""
        crew.push(message("a"), message("b"))
        grant = crew.one()
        grant.settlement = answer().to(grant)
        crew.look.client.script_flush()
        done = crew.governor.round([grant], [(crew.queue, 1)])
        assert len(done.taken[crew.queue].grants) == 1
        assert crew.look.meta()["delivered"] == "1"

    def test_settled_grants_do_not_pile_up(self, crew: Worker) -> None:
        """A busy worker keeps the grants of the last seconds and no more."""
        clock = SimpleNamespace(now=time.monotonic())
        crew.governor.server.clock = lambda: clock.now
        for number in range(30):
            crew.push(message(f"e{number}"))
            (grant,) = crew.taken().grants
            crew.settle(grant)
            clock.now += 1.0
        gc.collect()
        assert len(crew.governor.settler.settled_since(0)) <= REMEMBERED_S + 1


class TestAnotherKey:
    def test_a_late_refusal_of_the_old_one(self, crew: Worker) -> None:
        """The key is changed while a request is on its way: its 401 stops the old key, and the
        account goes on with the new one.
        """
        crew.push(*(message(f"e{number}") for number in range(5)))
        grant = crew.one()
        crew.accounts[crew.queue] = new = build_account("tgtrack", "main", {"api_key": "new"})
        assert not crew.governor.is_current(grant, new)
        crew.settle(grant, answer(PUT_BACK, health="refused", detail="401"))
        taken = crew.taken(5)
        assert len(taken.grants) == 1, "as a fresh key"
        assert crew.governor.is_current(taken.grants[0], new)
        assert crew.look.requests() == 1

    def test_both_logs_bind(self, crew: Worker) -> None:
        """What went with the old key counts with the new one for a window: the provider may count
        by something else.
        """
        table = {"limits": "3/minute"}
        crew.accounts[crew.queue] = build_account("tgtrack", "main", {"api_key": "old", **table})
        crew.push(*(message(f"e{number}") for number in range(9)))
        for _ in range(2):
            for grant in crew.take(1):
                crew.settle(grant)
        crew.accounts[crew.queue] = build_account("tgtrack", "main", {"api_key": "new", **table})
        for grant in crew.take(3):
            crew.settle(grant)
        assert crew.taken(3).state is State.SPENT
        assert crew.look.meta()["delivered"] == "3"


class TestEnd:
    def test_release_all_puts_back_in_order(self, crew: Worker) -> None:
        """What a process has taken and not sent stands in front again, in order, uncharged and
        unflagged.
        """
        crew.push(*(message(f"e{number}") for number in range(6)))
        for _ in range(2):
            crew.take(2)
        crew.governor.release_all()
        assert crew.look.ids() == [f"e{number}" for number in range(6)]
        assert (crew.look.requests(), crew.look.log().get("seq", "0"), len(crew.governor.grants)) == (0, "0", 0)

    def test_release_all_applies_what_is_decided(self, crew: Worker) -> None:
        """A grant whose task had decided is settled, not put back."""
        crew.push(message("a"), message("b"))
        first, _ = crew.take(2)
        first.settlement = answer().to(first)
        crew.governor.release_all()
        assert crew.look.ids() == ["b"]
        assert crew.look.meta()["delivered"] == "1"

    def test_release_all_leaves_what_is_on_the_wire(self, crew: Worker) -> None:
        """A request whose answer is not known may have arrived: it comes back with its lease,
        charged and flagged.
        """
        crew.push(message("a"), message("b"))
        first, _ = crew.take(2)
        first.sent = True
        crew.governor.release_all()
        assert (crew.look.flying(), crew.look.ids()) == (["a"], ["b"])

    def test_release_all_replays(self, crew: Worker) -> None:
        """Settlements that were kept are told at the end."""
        crew.push(message("a"))
        grant = crew.one()
        crew.client.lose = ["before"]
        crew.settle(grant)
        crew.governor.release_all()
        assert crew.look.everything() == {}

    def test_release_all_without_redis(self, server: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
        """Without Redis the process ends all the same and says how many answers are lost; their
        leases bring them back.
        """
        worker = Worker(server)
        worker.pump()
        worker.push(message("a"))
        worker.one()
        server.kill()
        with caplog.at_level(logging.ERROR):
            worker.governor.release_all()
        assert "1 settlements are lost" in caplog.text

    def test_a_forked_child_releases_nothing(self, crew: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
        """A child process inherits the grants and not the right to put them back."""
        crew.push(message("a"))
        crew.one()
        monkeypatch.setattr("os.getpid", lambda: -1)
        crew.governor.release_all()
        assert crew.look.flying() == ["a"]

    def test_forget_expired(self, crew: Worker) -> None:
        """A grant whose lease is over is forgotten here, one that has time is not; a settle of it
        changes nothing.
        """
        crew.push(message("a"), message("b"))
        old, young = crew.take(2)
        old.lease_end = time.monotonic() - 1.5
        assert crew.governor.forget_expired() == 1
        assert list(crew.governor.grants) == [young]
        crew.settle(old)
        assert crew.look.flying() == ["a", "b"]

    def test_a_moment_over_the_lease_is_left(self, crew: Worker) -> None:
        """Its answer may be on its way to Redis."""
        crew.push(message("a"))
        crew.one().lease_end = time.monotonic() - 0.5
        assert crew.governor.forget_expired() == 0


class TestTake:
    def test_an_unknown_queue(self, crew: Worker) -> None:
        """A queue that is no account here gives nothing."""
        assert crew.governor.take("tgtrack.nobody", 1) == Taken([], State.EMPTY)

    def test_an_owner_that_is_no_text(self, crew: Worker) -> None:
        """Bytes that are no UTF-8 in the owner's id break nothing."""
        raw = message("X", postback_key="k")
        crew.push(raw.replace(b'"X"', b'"\xff\xfe"'), message("b", postback_key="k"))
        first, second = crew.take(2)
        assert first.envelopes[0].defect
        assert second.envelopes[0].duplicate_of

    def test_a_crash_letter_is_dated_when_it_dies(self, crew: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
        """The scripts' own letter carries the time of the death, not of the worker's start."""
        crew.taken()
        later = SimpleNamespace(monotonic=lambda: time.monotonic() + 90, time=lambda: time.time() + 90)
        crew.governor.server.clock = later.monotonic
        monkeypatch.setattr("tasks.dead_letters.time", later)
        crew.push(message("a", postback="crashes=2"))
        (grant,) = crew.taken().grants
        crew.look.client.zadd(keys.flight(crew.queue), {grant.id: 1.0})
        crew.taken()
        (dead,) = crew.look.bench.dead()
        letter = dead["headers"]["postback_dead"]
        assert (letter["reason"], letter["possible_duplicate"]) == ("crashed", True)
        assert letter["failed_at"] > time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(time.time() + 60))

    def test_idle_and_filling_are_told(self, redis_server: RedisServer, redis_client: redis.Redis) -> None:
        """Empty until something is due is EMPTY with its time; a batch that fills says that its
        wait may end sooner.
        """
        worker = Worker(redis_server, "mytracker.game")
        worker.pump()
        worker.look.client.zadd(keys.delayed(worker.queue), {message("later"): time.time() * 1000 + 50_000})
        taken = worker.taken()
        assert (taken.state, taken.due_ms is not None and 49_000 < taken.due_ms <= 50_000) == (State.EMPTY, True)
        worker.push(message("a", task="mytracker.login"))
        taken = worker.taken()
        assert (taken.state, taken.wait_ms is not None and 0 < taken.wait_ms <= 1000) == (State.FILLING, True)

    def test_a_probe_is_told(self, crew: Worker) -> None:
        """In an outage a grant knows that it is the probe."""
        crew.push(message("a"))
        assert crew.one().outage is False
        crew.look.client.hset(keys.meta(crew.queue), mapping={"fails": 9, "healthy": 0})
        crew.look.client.delete(keys.flight(crew.queue))
        crew.push(message("b"))
        (grant,) = crew.taken().grants
        assert grant.outage is True


def test_the_most_common_settlement_says_a_number(crew: Worker) -> None:
    """One healthy answer that delivered everything adds no settings to SETTLE's argument."""
    crew.push(message("a"))
    grant = crew.one()
    assert encoded(grant, answer().to(grant)) == {"delivered": 1}


def test_words_of_a_provider_arrive(crew: Worker) -> None:
    """A provider's words reach Redis as they are, whatever their alphabet."""
    crew.push(message("a"))
    crew.settle(crew.one(), answer(PUT_BACK, health="fail", detail="\u0441\u0431\u043e\u0439"))
    assert crew.look.meta()["fail_text"] == "\u0441\u0431\u043e\u0439"
