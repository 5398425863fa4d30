"""A Redis that died, and may have forgotten its last second: what workers know is told before
anything new is taken.
"""

from __future__ import annotations

import json
import time

import pytest
import redis

from postback.wire import keys
from tasks.rulings import PUT_BACK, Again, Dead, Duplicate, Poll
from tests.integration.workers.governor.bench import message
from tests.integration.workers.governor.crew import LETTER, Memory, Worker, answer, wait_until_written
from workers.devkit import RedisServer
from workers.governor import Look

SETTLEMENTS = {
    "delivered": answer(),
    "retry": answer(Again(60, "", ambiguous=True), health="fail"),
    "poll": answer(Poll(60, "")),
    "dead": answer(Dead("", LETTER)),
    "back": answer(PUT_BACK, health="quota", retry_after_s=60.0),
}


def without_times(places: object) -> str:
    """Places of events; back-offs are counted from the moment of the settle."""
    text = json.dumps(places, default=lambda raw: raw.decode())
    return " ".join(word for word in text.split() if not word.startswith("due="))


class TestRestart:
    """Redis restarts and remembers everything."""

    @pytest.mark.parametrize("verb", SETTLEMENTS)
    def test_between_take_and_settle(self, worker: Worker, verb: str) -> None:
        """An answer that finds a new server is kept and told once; the request counts once."""
        worker.push(message("a"))
        grant = worker.one()
        worker.restart()
        worker.settle(grant, SETTLEMENTS[verb])
        assert worker.governor.unsent == 1
        worker.pump()
        assert worker.governor.unsent == 0
        assert worker.look.everything() == ({} if verb == "delivered" else {"a": 1})
        assert worker.look.requests() == 0
        assert worker.look.log().get("seq", "0") == "1"

    def test_after_settle(self, worker: Worker) -> None:
        """A settled grant stays settled; it may be charged twice, never less than once."""
        worker.push(message("a"))
        worker.settle(worker.one())
        worker.restart()
        with pytest.raises(redis.ConnectionError):
            worker.taken()
        worker.pump()
        assert worker.look.everything() == {}
        assert worker.look.requests() == 0
        assert worker.look.log()["seq"] in ("1", "2")
        assert worker.look.meta()["delivered"] == "1"

    def test_what_is_on_its_way_is_known(self, worker: Worker) -> None:
        """A request in flight over the restart is neither doubled nor charged."""
        worker.push(message("a"), message("b"))
        grant = worker.one()
        worker.restart()
        with pytest.raises(redis.ConnectionError):
            worker.governor.round([], [], looks=[Look("tgtrack", 0, 9)])
        worker.pump()
        assert (worker.look.flying(), worker.look.ids()) == (["a"], ["b"])
        worker.settle(grant)
        assert worker.look.everything() == {"b": 1}
        assert worker.look.log()["seq"] == "1"

    def test_settled_while_away(self, worker: Worker) -> None:
        """Answers that come while there is no Redis are kept, in any number, and told when it is
        back.
        """
        worker.push(*(message(f"e{number}") for number in range(5)))
        grants = worker.take(5)
        wait_until_written(worker.server)
        worker.server.kill()
        for grant in grants:
            worker.settle(grant)
        assert worker.governor.unsent == 5
        with pytest.raises(redis.ConnectionError):
            worker.pump()
        assert worker.governor.unsent == 5
        worker.server.start()
        worker.pump()
        assert worker.look.everything() == {}
        assert worker.look.meta()["delivered"] == "5"

    def test_leases_that_ended_meanwhile_count_for_no_crash(self, server: RedisServer) -> None:
        """An outage of Redis longer than a lease: the answer that a worker kept is taken, whichever
        worker comes first.
        """
        worker = Worker(server)
        worker.pump()
        worker.push(message("a"))
        grant = worker.one()
        flight = keys.flight(worker.queue)
        worker.look.client.zadd(flight, {grant.id: 1.0})
        worker.restart()
        worker.settle(grant)
        # The first TAKE of another worker, which has heard of the new server, but not of this one's
        # answer.
        worker.governor.recover_if_restarted()
        assert worker.governor.take(worker.queue, 1).grants == []
        worker.governor.replay()
        assert worker.look.everything() == {}
        assert worker.look.meta()["delivered"] == "1"


class TestForgotten:
    """Redis comes back without its last second."""

    def test_take_is_registered_again(self, worker: Worker, memory: Memory) -> None:
        """A request on its way whose TAKE was forgotten is in flight again, and not queued."""
        worker.push(message("a"), message("b"))
        memory.remember()
        grant = worker.one()
        memory.forget()
        assert worker.look.ids() == ["a", "b"]
        with pytest.raises(redis.ConnectionError):
            worker.taken()
        worker.pump()
        assert (worker.look.flying(), worker.look.ids()) == (["a"], ["b"])
        worker.settle(grant)
        assert worker.look.everything() == {"b": 1}
        assert worker.look.log()["seq"] == "1"

    @pytest.mark.parametrize("verb", SETTLEMENTS)
    def test_take_forgotten_and_settled_while_away(self, worker: Worker, memory: Memory, verb: str) -> None:
        """The same, and its answer came while there was no Redis: the answer is applied, the event
        is not sent again.
        """
        worker.push(message("a"))
        memory.remember()
        grant = worker.one()
        memory.forget()
        worker.settle(grant, SETTLEMENTS[verb])
        worker.pump()
        assert worker.look.everything() == ({} if verb == "delivered" else {"a": 1})
        assert (worker.look.requests(), worker.governor.unsent) == (0, 0)
        if verb in ("retry", "poll", "dead"):
            assert worker.look.ids() == []

    @pytest.mark.parametrize("verb", SETTLEMENTS)
    @pytest.mark.parametrize("forgotten", ["take and settle", "settle"])
    def test_known_outcomes_are_replayed(self, worker: Worker, memory: Memory, verb: str, forgotten: str) -> None:
        """An answer that Redis had taken and forgot is applied again: every event is where it was,
        charged at least once.
        """
        worker.push(message("a"), message("b"))
        memory.remember()
        grant = worker.one()
        if forgotten == "settle":
            memory.remember()
        worker.settle(grant, SETTLEMENTS[verb])
        before = without_times(worker.look.places())
        memory.forget()
        with pytest.raises(redis.ConnectionError):
            worker.taken()
        worker.pump()
        assert without_times(worker.look.places()) == before
        assert worker.look.requests() == 0
        assert int(worker.look.log().get("seq", 0)) >= 1

    def test_several_answers_of_one_event(self, worker: Worker, memory: Memory) -> None:
        """Put back by one answer and delivered by the next: both are applied again, in their
        order.
        """
        worker.push(message("a"))
        memory.remember()
        worker.settle(worker.one(), answer(PUT_BACK, health="none"))
        worker.settle(worker.one())
        memory.forget()
        with pytest.raises(redis.ConnectionError):
            worker.taken()
        worker.pump()
        assert worker.look.everything() == {}

    def test_the_quota_knows_what_was_sent(self, server: RedisServer, memory: Memory) -> None:
        """Requests that Redis forgot count in every window before anything new is taken."""
        worker = Worker(server, limits="4/minute")
        worker.pump()
        worker.open()
        worker.push(*(message(f"e{number}") for number in range(9)))
        memory.remember()
        grants = worker.take(4)
        for grant in grants[:2]:
            worker.settle(grant)
        memory.forget()
        with pytest.raises(redis.ConnectionError):
            worker.taken()
        assert worker.take(9) == []
        assert worker.look.ids() == [f"e{number}" for number in range(4, 9)]

    def test_a_server_that_forgot_everything(self) -> None:
        """Without persistence the events are gone, but the requests on their way and those of the
        last seconds still count.
        """
        with RedisServer() as server:
            worker = Worker(server, limits="3/minute")
            worker.pump()
            worker.open()
            worker.push(*(message(f"e{number}") for number in range(3)))
            grants = worker.take(3)
            worker.settle(grants[0])
            worker.restart()
            worker.settle(grants[1])
            worker.pump()
            worker.open()
            worker.push(message("new"))
            assert worker.take() == []
            worker.settle(grants[2])
            assert worker.look.everything() == {"new": 1}
            assert worker.take() == []

    def test_however_long_it_was_away(self, worker: Worker, memory: Memory) -> None:
        """What was settled shortly before Redis went away is told also if it comes back a minute
        later.
        """
        worker.push(message("a"))
        memory.remember()
        worker.settle(worker.one())
        memory.forget()
        with pytest.raises(redis.ConnectionError):
            worker.taken()
        worker.governor.server.clock = lambda: time.monotonic() + 60
        worker.pump()
        assert worker.look.everything() == {}

    def test_what_was_settled_long_before_is_not_told(self, worker: Worker) -> None:
        """Older answers are forgotten here: they are on Redis' disk, and charging them again would
        cost quota.
        """
        worker.push(message("a"), message("b"))
        worker.settle(worker.one())
        worker.governor.server.clock = lambda: time.monotonic() + 60
        worker.settle(worker.one())
        worker.restart()
        with pytest.raises(redis.ConnectionError):
            worker.taken()
        worker.pump()
        assert worker.look.log()["seq"] == "3"

    def test_an_idle_worker_notices(self, worker: Worker, memory: Memory) -> None:
        """A worker whose accounts are idle only looks at the schedule; that is enough to notice."""
        worker.push(message("a"))
        memory.remember()
        worker.settle(worker.one())
        memory.forget()
        with pytest.raises(redis.ConnectionError):
            worker.governor.round([], [], looks=[Look("tgtrack", 0, 9)])
        worker.pump()
        assert worker.look.everything() == {}

    def test_killed_again_in_the_middle(self, worker: Worker, memory: Memory) -> None:
        """A server that dies while it is told is told everything again."""
        worker.push(*(message(f"e{number}") for number in range(4)))
        memory.remember()
        for grant in worker.take(3):
            worker.settle(grant)
        memory.forget()
        with pytest.raises(redis.ConnectionError):
            worker.taken()
        for losses in (["", "before"], ["", "", "", "after"], ["", "", "", "", "before"]):
            worker.client.lose = losses
            with pytest.raises(redis.ConnectionError):
                worker.pump()
        worker.client.lose = []
        worker.pump()
        assert worker.look.everything() == {"e3": 1}

    def test_taken_by_another_worker_meanwhile(self, worker: Worker, memory: Memory) -> None:
        """An event that another worker has taken since is left to it: it is not in two places."""
        worker.push(message("a"))
        memory.remember()
        grant = worker.one()
        memory.forget()
        other = Worker(worker.server)
        other.pump()
        (theirs,) = other.taken().grants
        with pytest.raises(redis.ConnectionError):
            worker.taken()
        worker.pump()
        assert (worker.look.flying(), worker.look.requests()) == (["a"], 2)
        worker.settle(grant, SETTLEMENTS["retry"])
        assert worker.look.everything() == {"a": 1}
        other.settle(theirs)
        assert worker.look.everything() == {}


class TestBatches:
    @pytest.fixture
    def batching(self, server: RedisServer) -> Worker:
        worker = Worker(server, "mytracker.game", linger_s=0)
        worker.pump()
        worker.open()
        return worker

    def test_a_batch_keeps_its_places(self, batching: Worker, memory: Memory) -> None:
        """If another worker has taken some of a batch's events, the answer still reaches the right
        ones.
        """
        batching.push(*(message(f"e{number}", task="mytracker.login") for number in range(4)))
        memory.remember()
        grant = batching.one()
        memory.forget()
        client = batching.look.client
        assert client.rpop(batching.queue) == grant.envelopes[0].raw
        with pytest.raises(redis.ConnectionError):
            batching.taken()
        batching.pump()
        settlement = answer(Dead("", LETTER), PUT_BACK, Dead("", LETTER))
        batching.settle(grant, settlement)
        assert batching.look.ids() == ["e1"]
        assert [letter["headers"]["id"] for letter in batching.look.bench.dead()] == ["e2"]

    def test_what_was_not_found_does_not_come_back_from_a_lease(self, batching: Worker, memory: Memory) -> None:
        """A worker that dies afterwards leaves only the messages that were there."""
        batching.push(*(message(f"e{number}", task="mytracker.login") for number in range(3)))
        memory.remember()
        grant = batching.one()
        memory.forget()
        client = batching.look.client
        client.rpop(batching.queue)
        with pytest.raises(redis.ConnectionError):
            batching.taken()
        batching.pump()
        client.zadd(keys.flight(batching.queue), {grant.id: 1.0})
        client.hset(keys.meta(batching.queue), mapping={"paused": -1, "grace": 0})
        batching.taken()
        assert batching.look.everything() == {"e1": 1, "e2": 1}

    @pytest.mark.parametrize("settled", [True, False])
    def test_a_half_is_found_as_a_half(self, batching: Worker, memory: Memory, settled: bool) -> None:
        """A forgotten TAKE of a half is found among the halves, with its sibling."""
        batching.push(*(message(f"e{number}", task="mytracker.login") for number in range(4)))
        batching.settle(batching.one(), answer(halves=[([1, 2], [3, 4])]))
        # Let this be on its disk, and no more.
        memory.remember()
        batching.governor.settler._recent.clear()
        half = batching.one()
        assert half.group
        if settled:
            batching.settle(half, answer(halves=[([3], [4])]))
        memory.forget()
        with pytest.raises(redis.ConnectionError):
            batching.taken()
        batching.pump()
        if not settled:
            assert batching.look.flying() == ["e0", "e1", "e2", "e3"]
            assert batching.look.bench.groups() == []
            batching.settle(half, answer(halves=[([3], [4])]))
        ((own, sibling),) = batching.look.bench.groups()
        assert ([json.loads(raw)["headers"]["id"] for raw in (*own, *sibling)], len(own)) == (["e2", "e3"], 1)

    def test_a_whole_isolation_is_replayed(self, batching: Worker, memory: Memory) -> None:
        """A refused batch, its half and the half's half, all forgotten: afterwards everything
        stands where it stood.
        """
        batching.push(*(message(f"e{number}", task="mytracker.login") for number in range(4)))
        memory.remember()
        batching.settle(batching.one(), answer(halves=[([1, 2], [3, 4])]))
        batching.settle(batching.one(), answer(halves=[([3], [4])]))
        batching.settle(batching.one(), answer(Dead("", LETTER), halves=[([2], [])]))
        before = without_times(batching.look.places())
        memory.forget()
        with pytest.raises(redis.ConnectionError):
            batching.taken()
        batching.pump()
        assert without_times(batching.look.places()) == before


class TestKeys:
    def test_an_owner_owns_its_key_again(self, worker: Worker, memory: Memory) -> None:
        """A forgotten claim is made again: the second event with the key is still a duplicate."""
        worker.push(message("first", postback_key="k"))
        memory.remember()
        worker.settle(worker.one())
        memory.forget()
        worker.push(message("second", postback_key="k"))
        with pytest.raises(redis.ConnectionError):
            worker.taken()
        assert worker.one().envelopes[0].duplicate_of == "first"

    def test_a_dropped_duplicate_claims_nothing(self, worker: Worker, memory: Memory) -> None:
        """A duplicate that was dropped and forgotten is dropped again, and its owner, still queued,
        is not lost for it.
        """
        worker.push(message("first", postback_key="k"), message("second", postback_key="k"))
        memory.remember()
        first, second = worker.take(2)
        worker.settle(second, answer(Duplicate("first"), health="none"))
        # The owner's worker died with the server: nobody speaks for it.
        worker.governor.grants.pop(first.id)
        memory.forget()
        with pytest.raises(redis.ConnectionError):
            worker.taken()
        grant = worker.one()
        assert (grant.envelopes[0].id, grant.envelopes[0].duplicate_of) == ("first", "")
        assert worker.look.everything() == {"first": 1}


class TestDepth:
    def test_a_backlog_is_not_searched_to_its_end(self, worker: Worker) -> None:
        """For what is not there Redis looks near the front only: a restart with a long backlog does
        not stop it.
        """
        worker.push(*(message(f"e{number}") for number in range(60)))
        for grant in worker.take(50):
            worker.settle(grant)
        filler = [message("filler", body_bytes=300)] * 500
        for _ in range(60):
            worker.look.client.lpush(worker.queue, *filler)
        worker.restart()
        with pytest.raises(redis.ConnectionError):
            worker.taken()
        client = worker.look.client
        client.config_resetstat()
        worker.pump()
        spent = client.info("commandstats")["cmdstat_evalsha"]["usec_per_call"]
        assert spent < 1500
