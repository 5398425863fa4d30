"""Leases that end: nothing is lost, all is charged, flagged and counted, and poison does not go
round for ever.
"""

from __future__ import annotations

import pytest

from postback.wire import keys
from tests.integration.workers.governor.bench import QUEUE, Bench, id_of, message, state_of
from workers.governor.take import State

LEASE_MS = 30_000


class TestCrash:
    def test_it_comes_back_to_the_front(self, bench: Bench) -> None:
        """What a dead worker held stands in front again, in order, before anything newer."""
        bench.push(*(message(f"e{number}") for number in range(12)))
        bench.take(11)
        bench.push(message("new"))
        bench.advance(LEASE_MS)
        assert [id_of(raw) for raw in bench.run_till_empty()] == [f"e{number}" for number in range(12)] + ["new"]

    def test_several_workers_grants_keep_their_order(self, bench: Bench) -> None:
        """Grants of several calls whose leases ended at different times come back in the order in
        which they left.
        """
        bench.push(*(message(f"e{number}") for number in range(6)))
        for _ in range(3):
            bench.take(2)
            bench.advance(10)
        bench.advance(LEASE_MS)
        assert [id_of(raw) for raw in bench.run_till_empty()] == [f"e{number}" for number in range(6)]

    def test_batches_keep_their_order(self, bench: Bench) -> None:
        """The same for batches, message by message."""
        bench.settings.update(batch_max=5, linger_ms=0)
        bench.push(*(message(f"e{number:02}") for number in range(20)))
        bench.take(4)
        bench.advance(LEASE_MS)
        left = [id_of(raw) for raw in bench.run_till_empty(4)]
        assert left == sorted(left)
        assert len(left) == 20

    def test_each_to_its_own_priority(self, bench: Bench) -> None:
        """They come back to the list of their priority."""
        bench.push(message("read", priority=0), priority=0)
        bench.push(message("write", priority=3), priority=3)
        bench.take(2)
        bench.client.hset(keys.meta(QUEUE), mapping={"paused": -1})
        bench.advance(LEASE_MS)
        bench.take()
        assert (bench.ids(0), bench.ids(3)) == (["read"], ["write"])

    def test_not_before_the_lease_ends(self, bench: Bench) -> None:
        """A moment before, the worker still has it."""
        bench.push(message("a"))
        bench.take()
        bench.advance(LEASE_MS - 1)
        assert bench.take().grants == []
        bench.advance(1)
        assert len(bench.take().grants) == 1

    def test_the_request_is_charged(self, bench: Bench) -> None:
        """The request may have arrived: it counts from the end of its lease."""
        bench.settings["windows"] = [(1, 60.0)]
        bench.push(message("a"))
        bench.take()
        bench.advance(LEASE_MS)
        reply = bench.take()
        assert (reply.state, reply.grants) == (State.SPENT, [])
        assert reply.wait_ms is not None
        assert reply.wait_ms > 59_000

    def test_it_is_flagged(self, bench: Bench) -> None:
        """Its event may have been recorded: it is a possible duplicate with one crash, and no
        attempt is used up.
        """
        bench.push(message("a"))
        first = bench.one()
        bench.advance(LEASE_MS)
        words = state_of(bench.one().raws[0])
        assert words == {"first": first.granted_us, "duplicate": 1, "crashes": 1}

    def test_a_duplicate_that_was_never_to_be_sent_is_not_flagged(self, bench: Bench) -> None:
        """An event dropped for its idempotency key was not on the wire."""
        bench.push(message("a", postback_key="k"), message("b", postback_key="k"))
        bench.settle(bench.one())
        bench.take()
        bench.advance(LEASE_MS)
        assert "duplicate" not in state_of(bench.one().raws[0])

    def test_the_flag_stays_for_good(self, bench: Bench) -> None:
        """Retries after the crash keep the flag."""
        bench.push(message("a"))
        bench.take()
        bench.advance(LEASE_MS)
        bench.fail(bench.one())
        assert state_of(bench.held()[0])["duplicate"] == 1

    def test_many_leases_at_once(self, bench: Bench) -> None:
        """A host that dies with 150 requests loses none, and their order stays."""
        bench.push(*(message(f"e{number:03}") for number in range(150)))
        bench.take(150)
        bench.advance(LEASE_MS)
        left = [id_of(raw) for raw in bench.run_till_empty()]
        assert left == sorted(left)
        assert len(left) == 150

    def test_a_lease_without_messages(self, bench: Bench) -> None:
        """A request that is known without its messages is charged and forgotten."""
        bench.settings["windows"] = [(1, 60.0)]
        for key in (keys.flight(QUEUE), keys.quota_flight("tgtrack", bench.quota)):
            bench.client.zadd(key, {"postback:ghost": bench.now_ms})
        bench.push(message("a"))
        assert bench.take().grants == []
        assert bench.log()["seq"] == "1"


class TestPoison:
    def crash(self, bench: Bench, times: int) -> None:
        for _ in range(times):
            bench.take()
            bench.advance(LEASE_MS)

    def test_the_third_crash_kills_the_message(self, bench: Bench) -> None:
        """What has killed its worker three times is a dead letter `crashed`, flagged."""
        bench.push(message("poison"))
        self.crash(bench, 3)
        assert bench.take().grants == []
        (dead,) = bench.dead()
        assert dead["headers"]["postback_dead"]["reason"] == "crashed"
        assert "duplicate=1" in dead["headers"]["postback"]
        assert bench.meta()["dead"] == "1"

    def test_two_crashes_do_not(self, bench: Bench) -> None:
        """After two it is tried once more."""
        bench.push(message("a"))
        self.crash(bench, 2)
        bench.settle(bench.one())
        assert bench.dead() == []

    def test_after_the_second_its_batch_travels_singly(self, bench: Bench) -> None:
        """Three crashes of a batch must not condemn twenty: after the second each goes alone, in
        order.
        """
        bench.settings.update(batch_max=20, linger_ms=0)
        names = [f"e{number:02}" for number in range(20)]
        bench.push(*(message(name) for name in names))
        self.crash(bench, 2)
        alone: list[str] = []
        while True:
            took = bench.take().grants
            if not took:
                break
            assert len(took[0].raws) == 1
            alone.append(id_of(took[0].raws[0]))
            bench.settle(took[0])
        assert alone == names

    def test_only_the_guilty_dies(self, bench: Bench) -> None:
        """Of a batch with one that kills its worker, that one dies and nineteen are delivered."""
        bench.settings.update(batch_max=20, linger_ms=0)
        bench.push(*(message(f"e{number:02}") for number in range(20)))
        delivered: list[str] = []
        for _ in range(60):
            took = bench.take().grants
            if not took:
                break
            names = [id_of(raw) for raw in took[0].raws]
            if "e07" in names:
                bench.advance(LEASE_MS)
            else:
                bench.settle(took[0])
                delivered += names
        assert len(delivered) == 19
        assert [letter["headers"]["id"] for letter in bench.dead()] == ["e07"]

    def test_new_messages_do_not_join_a_lonely_one(self, bench: Bench) -> None:
        """Nothing else travels with what has killed two workers, not even from behind it, in front
        of it or from those held aside.
        """
        bench.settings.update(batch_max=20, linger_ms=0)
        bench.push(message("bad"))
        self.crash(bench, 2)
        bench.push(message("new"))
        grant = bench.one()
        assert [id_of(raw) for raw in grant.raws] == ["bad"]
        bench.fail(grant, back_off_ms=10)
        bench.fail(bench.one(), back_off_ms=10)
        bench.advance(100)
        assert [id_of(raw) for raw in bench.one().raws] == ["bad"]
        assert [id_of(raw) for raw in bench.held()] == ["new"]


class TestHalves:
    def half(self, bench: Bench) -> None:
        """Six events refused together; the first three fly, the others are their sibling."""
        bench.settings.update(batch_max=6, linger_ms=0)
        bench.push(*(message(f"e{number}") for number in range(6)))
        bench.settle(bench.one(), health="ok", groups=[[[1, 2, 3], [4, 5, 6]]])
        bench.push(message("new"))

    def test_a_half_stays_a_half(self, bench: Bench) -> None:
        """A half whose worker died is sent again as that half, with its sibling, before anything
        else.
        """
        self.half(bench)
        bench.take()
        bench.advance(LEASE_MS)
        grant = bench.one()
        assert grant.group
        assert [id_of(raw) for raw in grant.raws] == ["e0", "e1", "e2"]
        assert [id_of(raw) for raw in grant.siblings] == ["e3", "e4", "e5"]
        assert state_of(grant.raws[0])["crashes"] == 1
        assert "crashes" not in state_of(grant.siblings[0])

    def test_after_the_second_crash_it_is_single(self, bench: Bench) -> None:
        """After two crashes the half's messages travel singly, its sibling's as an ordinary batch,
        none lost.
        """
        self.half(bench)
        for _ in range(2):
            bench.take()
            bench.advance(LEASE_MS)
        sizes, left = [], []
        while True:
            took = bench.take().grants
            if not took:
                break
            sizes.append(len(took[0].raws))
            left += [id_of(raw) for raw in took[0].raws]
            bench.settle(took[0])
        assert sizes == [1, 1, 1, 4]
        assert left == ["e0", "e1", "e2", "e3", "e4", "e5", "new"]

    def test_put_back_by_a_worker(self, bench: Bench) -> None:
        """A half that was not sent goes back as a half."""
        self.half(bench)
        grant = bench.one()
        bench.settle(grant, health="none", groups=[[[1, 2, 3], [4, 5, 6]]])
        again = bench.one()
        assert (again.raws, again.siblings) == (grant.raws, grant.siblings)


class TestAnotherServer:
    """After a restart or a failover every worker that lives tells its answers: no lease ends before
    they could.
    """

    def test_no_lease_ends_in_the_first_seconds(self, bench: Bench) -> None:
        """Leases that ran out while Redis was away do not end until the workers had five seconds to
        tell.
        """
        bench.settings["run"] = "one"
        bench.push(message("a"))
        grant = bench.one()
        bench.advance(120_000)
        bench.settings["run"] = "two"
        assert bench.take().grants == []
        bench.advance(4_000)
        assert bench.take().grants == []
        assert "applied" in bench.settle(grant)
        assert bench.everything() == {}

    def test_then_they_end(self, bench: Bench) -> None:
        """A worker that died meanwhile is recovered from afterwards."""
        bench.settings["run"] = "one"
        bench.push(message("a"))
        bench.take()
        bench.advance(120_000)
        bench.settings["run"] = "two"
        bench.take()
        bench.advance(5_000)
        assert state_of(bench.one().raws[0])["crashes"] == 1

    @pytest.mark.parametrize("run", ["", "one"])
    def test_the_same_server_gives_no_grace(self, bench: Bench, run: str) -> None:
        """Where nothing restarted a lease ends at its end, also for the first worker of an
        account.
        """
        bench.settings["run"] = run
        bench.push(message("a"))
        bench.take()
        bench.advance(LEASE_MS)
        assert len(bench.take().grants) == 1
