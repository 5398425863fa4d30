"""SETTLE: every verb, once for each grant, with the grant's charge."""

from __future__ import annotations

import json
from typing import Any

import pytest
import redis

from postback.wire import keys
from tests.integration.workers.governor.bench import (
    QUEUE,
    START_MS,
    Bench,
    again,
    back,
    bury,
    id_of,
    message,
    poll,
    state_of,
)
from workers.governor.take import TakenGrant

LETTER = json.dumps({"reason": "rejected", "detail": 'it said "no" \u00e4'})


def batch_of(bench: Bench, *names: str) -> TakenGrant:
    """One grant of several messages."""
    bench.settings.update(batch_max=20, linger_ms=0)
    bench.push(*(message(name) for name in names))
    return bench.one()


class TestVerbs:
    def test_delivered(self, bench: Bench) -> None:
        """The shortest settlement: every message is gone and counted as delivered."""
        bench.settle(batch_of(bench, "a", "b", "c"))
        assert bench.everything() == {}
        assert bench.meta()["delivered"] == "3"

    def test_what_is_not_named_is_done_with(self, bench: Bench) -> None:
        """A message that the settlement does not name is gone, and not counted unless told."""
        bench.settle(batch_of(bench, "a", "b"), health="ok", delivered=1)
        assert bench.everything() == {}
        assert bench.meta()["delivered"] == "1"

    def test_back(self, bench: Bench) -> None:
        """Put back, messages are in front again, in order and byte for byte."""
        grant = batch_of(bench, "a", "b", "c")
        bench.push(message("d"))
        bench.put_back(grant)
        assert bench.queued()[:3] == grant.raws
        assert bench.ids() == ["a", "b", "c", "d"]

    def test_back_after_a_request(self, bench: Bench) -> None:
        """What was on the wire and is put back (a 429) remembers its first grant; nothing else of
        it changes.
        """
        bench.push(message("a"))
        grant = bench.one()
        bench.settle(grant, health="quota", messages=[back(1, keeps_time=True)])
        assert state_of(bench.queued()[0]) == {"first": grant.granted_us}

    def test_back_in_any_order_of_lines(self, bench: Bench) -> None:
        """The order of the settlement's lines does not matter."""
        bench.settle(batch_of(bench, "a", "b", "c"), health="none", messages=[back(3), back(1), back(2)])
        assert bench.ids() == ["a", "b", "c"]

    def test_retry_counts_an_attempt(self, bench: Bench) -> None:
        """A retry outside a run of failures waits in the delayed set and has used up an attempt."""
        bench.push(message("a"))
        grant = bench.one()
        bench.settle(grant, health="unknown", messages=[again(1, 1500, duplicate=True)])
        ((raw, due),) = bench.delayed().items()
        assert due == START_MS + 1500
        assert state_of(raw) == {"attempts": 1, "first": grant.granted_us, "duplicate": 1, "age": 1500}

    def test_the_first_grant_is_remembered(self, bench: Bench) -> None:
        """A message's first grant keeps its time through all retries, each member of a batch its
        own.
        """
        grant = batch_of(bench, "a", "b")
        bench.fail(grant)
        firsts = [state_of(raw)["first"] for raw in bench.held()]
        assert firsts == [grant.granted_us, grant.granted_us + 1]
        bench.advance(5000)
        bench.fail(bench.one())
        assert [state_of(raw)["first"] for raw in bench.held()] == firsts

    def test_poll_counts_none(self, bench: Bench) -> None:
        """A look at what is not final uses up no attempt."""
        bench.push(message("a"))
        bench.settle(bench.one(), health="ok", messages=[poll(1, 2000)])
        bench.advance(2000)
        bench.settle(bench.one(), health="ok", messages=[poll(1, 4000)])
        ((raw, due),) = bench.delayed().items()
        assert due == START_MS + 6000
        words = state_of(raw)
        assert (words["polls"], words.get("attempts", 0)) == (2, 0)

    def test_dead(self, bench: Bench) -> None:
        """A dead letter carries its letter, byte for byte, and its state; it is counted."""
        bench.push(message("a"))
        bench.settle(bench.one(), health="ok", messages=[bury(1, LETTER, duplicate=True)])
        (dead,) = bench.dead()
        assert dead["headers"]["postback_dead"] == json.loads(LETTER)
        assert dead["headers"]["postback"] == "duplicate=1"
        assert bench.meta()["dead"] == "1"

    def test_a_dead_letter_that_dies_again_has_one_letter(self, bench: Bench) -> None:
        """A replayed dead letter's old letter is replaced, not doubled."""
        bench.push(message("a", postback_dead={"reason": "crashed", "x": [{}, "}"]}))
        bench.settle(bench.one(), health="ok", messages=[bury(1, LETTER)])
        raw = bench.client.lindex(keys.dead("tgtrack"), 0)
        assert raw.count(b"postback_dead") == 1
        assert json.loads(raw)["headers"]["postback_dead"]["reason"] == "rejected"

    def test_dead_with_a_text_of_its_own(self, bench: Bench) -> None:
        """What is no message is buried inside one."""
        bench.push(b"\xff no message")
        wrapped = json.dumps({"headers": {}, "body": "x"})
        bench.settle(bench.one(), health="none", messages=[bury(1, LETTER, wrapped=wrapped)])
        (dead,) = bench.dead()
        assert (dead["headers"]["postback_dead"]["reason"], dead["body"]) == ("rejected", "x")

    def test_all_verbs_in_one(self, bench: Bench) -> None:
        """One settlement disposes of each message of a batch in its own way."""
        grant = batch_of(bench, "a", "b", "c", "d", "e")
        bench.settle(
            grant,
            health="ok",
            delivered=1,
            messages=[
                bury(2, LETTER), back(3), poll(4, 10), again(5, 20),
            ],
        )  # fmt: skip
        assert bench.everything() == dict.fromkeys("bcde", 1)
        assert bench.ids() == ["c"]
        assert [id_of(raw) for raw in bench.delayed()] == ["d", "e"]

    @pytest.mark.parametrize("verb", [again, poll])
    def test_equal_messages_do_not_fall_together(self, bench: Bench, verb: Any) -> None:
        """Byte-identical messages that wait at the same time are still as many as they were."""
        raw = message("twin")
        bench.settings.update(batch_max=20, linger_ms=0)
        bench.push(raw, raw, raw)
        bench.settle(bench.one(), health="ok", messages=[verb(index, 50) for index in (1, 2, 3)])
        assert sum(bench.everything().values()) == 3
        bench.advance(50)
        assert [id_of(raw) for raw in bench.one().raws] == ["twin"] * 3

    def test_equal_messages_are_held_apart(self, bench: Bench) -> None:
        """The same holds for those that are held aside in a run of failures, also if they carry the
        same state already.
        """
        raw = message("twin", postback=f"attempts=1 first={START_MS}000")
        bench.settings.update(batch_max=20, linger_ms=0)
        bench.push(raw, raw, raw)
        bench.fail(bench.one(), back_off_ms=10)
        assert len(bench.held()) == 3
        bench.push(message("good"))
        bench.settle(bench.one())
        bench.advance(10)
        assert sum(bench.everything().values()) == 3


class TestOnce:
    def test_a_second_settle_is_stale(self, bench: Bench) -> None:
        """The same settlement twice is applied once."""
        bench.settings["windows"] = [(5, 60.0)]
        bench.push(message("a"))
        grant = bench.one()
        assert "applied" in bench.fail(grant)
        before = bench.meta()
        assert bench.fail(grant) == {}
        assert bench.meta() == before
        assert bench.everything() == {"a": 1}

    def test_a_different_second_settle_is_stale(self, bench: Bench) -> None:
        """A settled grant cannot be settled otherwise."""
        bench.push(message("a"))
        grant = bench.one()
        bench.put_back(grant)
        assert bench.settle(grant) == {}
        assert bench.ids() == ["a"]

    def test_stale_after_the_lease(self, bench: Bench) -> None:
        """An answer that comes after the lease has ended changes nothing: the event is queued again
        already.
        """
        bench.push(message("a"))
        grant = bench.one()
        bench.advance(30_000)
        bench.client.hset(keys.meta(QUEUE), mapping={"paused": -1, "reason": "operator"})
        bench.take()
        assert bench.settle(grant) == {}
        assert bench.ids() == ["a"]

    def test_late_but_not_yet_noticed(self, bench: Bench) -> None:
        """An answer after the lease that nobody has noticed yet still counts."""
        bench.push(message("a"))
        grant = bench.one()
        bench.advance(31_000)
        assert "applied" in bench.settle(grant)
        assert bench.everything() == {}

    def test_a_grant_that_never_was(self, bench: Bench) -> None:
        """A settle of an unknown grant is stale."""
        assert bench.settle("postback:nobody") == {}

    @pytest.mark.parametrize("spec", ["{", '{"health": "fail", "detail": "\\ud800"}', "null garbage"])
    def test_what_cannot_be_read_changes_nothing(self, bench: Bench, spec: str) -> None:
        """A settlement that Redis' JSON reader refuses is an error and leaves the grant in flight:
        its lease brings it back.
        """
        bench.push(message("a"))
        bench.one()
        with pytest.raises(redis.ResponseError):
            bench.settle_text(spec)
        assert [id_of(raw) for raw in bench.in_flight()] == ["a"]
        bench.advance(31_000)
        assert id_of(bench.one().raws[0]) == "a"


class TestCharge:
    @pytest.mark.parametrize("health", ["ok", "fail", "quota", "refused", "unknown"])
    def test_every_answer_is_charged(self, bench: Bench, health: str) -> None:
        """Whatever the answer was, the request counts."""
        bench.settings["windows"] = [(1, 60.0)]
        bench.push(message("a"))
        bench.settle(bench.one(), health=health, messages=[back(1)])
        assert bench.log()["seq"] == "1"

    def test_it_counts_from_the_answer(self, bench: Bench) -> None:
        """A request counts until one window after its answer, not after its grant."""
        bench.settings["windows"] = [(1, 10.0)]
        bench.push(message("a"), message("b"))
        grant = bench.one()
        bench.advance(8000)
        bench.settle(grant)
        bench.advance(9999)
        assert bench.take().grants == []
        bench.advance(10)
        assert len(bench.take().grants) == 1
