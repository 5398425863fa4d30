"""Batches: full by count or bytes or after their linger, of one task, in order; halves of refused
ones first.
"""

from __future__ import annotations

import base64
import json

import pytest

from postback.wire import keys
from tests.integration.workers.governor.bench import QUEUE, START_MS, Bench, back, bury, id_of, message
from workers.governor.take import State, TakenGrant, TakeReply


@pytest.fixture
def batching(bench: Bench) -> Bench:
    """Twenty a batch, 10,000 bytes, a second of linger."""
    bench.settings.update(batch_max=20, max_bytes=10_000, linger_ms=1000)
    return bench


def names(grant: TakenGrant) -> list[str]:
    return [id_of(raw) for raw in grant.raws]


def based(name: str, body_bytes: int) -> bytes:
    """A message with its body in base64, as Celery sends to Redis."""
    document = json.loads(message(name, body_bytes=body_bytes))
    document["body"] = base64.b64encode(document["body"].encode()).decode()
    document["properties"]["body_encoding"] = "base64"
    return json.dumps(document).encode()


class TestFull:
    def test_by_count(self, batching: Bench) -> None:
        """Twenty make a batch that leaves at once; the next lingers."""
        batching.push(*(message(f"e{number:02}", postback_size=100) for number in range(39)))
        reply = batching.take(5)
        took = reply.grants
        assert [len(grant.raws) for grant in took] == [20]
        assert names(took[0]) == [f"e{number:02}" for number in range(20)]
        assert (reply.state, reply.wait_ms) == (State.FILLING, 1000)
        batching.push(message("last", postback_size=100))
        assert len(batching.one().raws) == 20

    def test_nineteen_linger(self, batching: Bench) -> None:
        """One less does not leave."""
        batching.push(*(message(f"e{number}", postback_size=100) for number in range(19)))
        assert batching.take().grants == []
        assert len(batching.queued()) == 19

    @pytest.mark.parametrize(
        ("size", "expected"), [(1600, 6), (2499, 3), (4998, 2), (4999, 1), (9998, 1), (498, 20), (499, 19)]
    )
    def test_by_given_bytes(self, batching: Bench, size: int, expected: int) -> None:
        """As many as fit into 10,000 bytes with their commas and brackets, by the size that the
        producer gave; one byte more does not fit.
        """
        batching.push(*(message(f"e{number}", postback_size=size) for number in range(40)))
        grant = batching.one()
        assert len(grant.raws) == expected
        assert 1 + sum(size + 1 for _ in grant.raws) <= 10_000

    def test_what_the_worker_adds_counts(self, batching: Bench) -> None:
        """Bytes that the worker adds to each event (app_name) count."""
        batching.settings["extra_bytes"] = 100
        batching.push(*(message(f"e{number}", postback_size=900) for number in range(40)))
        assert len(batching.one().raws) == 9

    @pytest.mark.parametrize("encoding", ["utf-8", "base64"])
    def test_by_estimated_bytes(self, batching: Bench, encoding: str) -> None:
        """Where the producer gave no size the body's length is an upper bound, also through
        base64.
        """
        write = based if encoding == "base64" else lambda name, size: message(name, body_bytes=size)
        batching.push(*(write(f"e{number}", 1500) for number in range(40)))
        grant = batching.one()
        events = [json.dumps({"user_id": f"e{number}", "pad": "x" * 1500}) for number in range(len(grant.raws))]
        total = len(json.dumps([json.loads(event) for event in events]))
        assert total <= 10_000
        assert 5 <= len(grant.raws) <= 6

    def test_one_that_is_too_large_goes_alone(self, batching: Bench) -> None:
        """What exceeds the cap by itself goes alone, at once, and takes nobody with it."""
        batching.push(message("huge", postback_size=50_000), message("small", postback_size=10))
        assert names(batching.one()) == ["huge"]
        assert batching.take().grants == []

    def test_a_large_one_closes_the_batch_before_it(self, batching: Bench) -> None:
        """Order goes before fullness: what does not fit ends the batch, nothing is put past it."""
        batching.push(
            message("a", postback_size=6000), message("b", postback_size=6000), message("c", postback_size=10)
        )
        assert names(batching.one()) == ["a"]
        assert batching.take().grants == []
        batching.advance(1000)
        assert names(batching.one()) == ["b", "c"]

    @pytest.mark.parametrize("size", [-5, "many", None, 1.5, True])
    def test_a_size_that_is_none_is_estimated(self, batching: Bench, size: object) -> None:
        """A foreign header of that name that is no size breaks nothing."""
        batching.push(*(message(f"e{number}", postback_size=size) for number in range(20)))
        batching.advance(1000)
        assert batching.one().raws

    def test_duplicates_of_a_key_travel_with_the_batch(self, batching: Bench) -> None:
        """Duplicates have a place in the batch, told with their owner, so that Flower shows
        each.
        """
        batching.push(*(message(f"e{number:02}", postback_key="k", postback_size=1) for number in range(20)))
        grant = batching.one()
        assert grant.owners == [b"", *[b"e00"] * 19]


class TestLinger:
    def test_a_lone_event_leaves_within_it(self, batching: Bench) -> None:
        """By its enqueue time, not by when somebody first looked."""
        batching.push(message("a", postback_at=START_MS - 400))
        assert batching.take() == TakeReply(State.FILLING, [], wait_ms=600)
        batching.advance(599)
        assert batching.take().grants == []
        batching.advance(1)
        assert names(batching.one()) == ["a"]

    def test_without_an_enqueue_time_from_the_first_look(self, batching: Bench) -> None:
        """A raw client's event lingers from when a worker first saw it."""
        batching.push(message("a"))
        assert batching.take().wait_ms == 1000
        batching.advance(300)
        assert batching.take().wait_ms == 700
        batching.advance(700)
        assert names(batching.one()) == ["a"]

    def test_a_producers_clock_that_is_ahead(self, batching: Bench) -> None:
        """An enqueue time in the future cannot hold an event longer than its linger."""
        batching.push(message("a", postback_at=START_MS + 3_600_000))
        batching.take()
        batching.advance(1000)
        assert names(batching.one()) == ["a"]

    def test_a_producers_clock_that_is_behind(self, batching: Bench) -> None:
        """One in the past makes it leave at once."""
        batching.push(message("a", postback_at=START_MS - 3_600_000))
        assert names(batching.one()) == ["a"]

    def test_the_next_lone_event_lingers_anew(self, batching: Bench) -> None:
        """The first look belongs to one batch."""
        batching.push(message("a"))
        batching.take()
        batching.advance(1000)
        batching.settle(batching.one())
        batching.push(message("b"))
        assert batching.take().wait_ms == 1000

    def test_an_emptied_queue_forgets_its_first_look(self, batching: Bench) -> None:
        """Events that an operator removed leave no clock behind."""
        batching.push(message("a"))
        batching.take()
        batching.client.delete(QUEUE)
        assert batching.take() == TakeReply(State.EMPTY, [])
        batching.advance(5000)
        batching.push(message("b"))
        assert batching.take().wait_ms == 1000

    def test_waiting_for_quota_makes_batches_fuller(self, batching: Bench) -> None:
        """While the quota is spent nothing leaves, and what comes meanwhile goes along."""
        batching.settings["windows"] = [(1, 10.0)]
        batching.push(message("a"))
        batching.take()
        batching.advance(1000)
        batching.settle(batching.one())
        for number in range(9):
            batching.push(message(f"e{number}"))
            batching.advance(1000)
            assert batching.take().grants == []
        batching.advance(2000)
        batching.take()
        batching.advance(1000)
        assert len(batching.one().raws) == 9


class TestTasks:
    def test_one_task_a_batch(self, batching: Bench) -> None:
        """Logins and events in turn make full batches of each, in order."""
        batching.push(
            *(
                message(f"{'ab'[number % 2]}{number:02}", task=f"t.{'ab'[number % 2]}", postback_size=9)
                for number in range(80)
            )
        )
        took = batching.take(9).grants
        assert [len(grant.raws) for grant in took] == [20] * 4
        left = [names(grant) for grant in took]
        assert all(len({name[0] for name in batch}) == 1 for batch in left)
        for task in "ab":
            mine = [name for batch in left for name in batch if name[0] == task]
            assert mine == sorted(mine)

    def test_a_full_batch_of_another_task_goes_while_the_oldest_lingers(self, batching: Bench) -> None:
        """What is full need not wait for what is not."""
        batching.push(
            message("lone", task="t.a"),
            *(message(f"b{number:02}", task="t.b", postback_size=9) for number in range(20)),
        )
        assert names(batching.one()) == [f"b{number:02}" for number in range(20)]
        assert batching.ids() == ["lone"]

    @pytest.mark.parametrize("told", [True, False])
    def test_it_does_not_hold_up_the_oldest(self, batching: Bench, told: bool) -> None:
        """Behind full batches of another task without end, a lone event still leaves within its
        linger, with an enqueue time or without.
        """
        batching.push(message("lone", task="t.a", **({"postback_at": START_MS} if told else {})))
        for second in range(12):
            batching.push(*(message(f"{second}b{number}", task="t.b", postback_size=9) for number in range(60)))
            took = batching.take(2).grants
            for grant in took:
                batching.settle(grant)
            if "lone" not in batching.ids():
                break
            batching.advance(100)
        assert second <= 10
        assert "lone" not in batching.ids()

    def test_what_is_overdue_takes_its_own_task_along(self, batching: Bench) -> None:
        """An overdue event goes with all of its task within sight, the others keep their order."""
        for number in range(6):
            batching.push(
                message(f"a{number}", task="t.a", postback_at=START_MS - 5000), message(f"b{number}", task="t.b")
            )
        assert names(batching.one()) == [f"a{number}" for number in range(6)]
        assert batching.ids() == [f"b{number}" for number in range(6)]

    def test_looking_ahead_is_bounded(self, batching: Bench) -> None:
        """A long queue of one task hides a later event of another: no call reads a whole
        backlog.
        """
        batching.push(message("a0", task="t.a", postback_at=0))
        batching.push(*(message(f"b{number}", task="t.b") for number in range(300)), message("a1", task="t.a"))
        assert names(batching.one()) == ["a0"]

    def test_equal_messages_among_others(self, batching: Bench) -> None:
        """Byte-identical messages between those of another task leave as many as they are."""
        twin = message("twin", task="t.a", postback_at=START_MS - 5000)
        batching.push(twin, message("b", task="t.b"), twin, twin)
        assert names(batching.one()) == ["twin"] * 3
        assert batching.ids() == ["b"]

    def test_a_look_alike_task_does_not_mix(self, batching: Bench) -> None:
        """A key `task` inside another header does not bring an event into another task's batch."""
        document = json.loads(message("b", task="t.b"))
        document["headers"] = {"meta": {"task": "t.a"}, **document["headers"]}
        batching.push(message("a", task="t.a", postback_at=0), json.dumps(document))
        assert names(batching.one()) == ["a"]

    def test_priorities_share_a_batch(self, batching: Bench) -> None:
        """An urgent event leads; the same task's others fill its batch."""
        batching.push(*(message(f"w{number:02}", priority=3, postback_size=9) for number in range(30)), priority=3)
        batching.push(message("r", postback_size=9))
        assert names(batching.one()) == ["r", *(f"w{number:02}" for number in range(19))]
        assert batching.ids(3)[0] == "w19"

    def test_what_is_not_due_is_sorted_out(self, batching: Bench) -> None:
        """Events with a later eta between the others do not hold up the batch and take no place in
        it.
        """
        for number in range(20):
            batching.push(message(f"e{number:02}", postback_size=9), message(f"t{number}", eta="2099-01-01T00:00:00"))
        assert names(batching.one()) == [f"e{number:02}" for number in range(20)]
        assert len(batching.everything()) == 40


class TestHalves:
    def refused(self, batching: Bench, count: int = 8) -> TakenGrant:
        batching.push(*(message(f"e{number}", postback_at=0) for number in range(count)))
        return batching.one()

    def test_halves_go_first_and_alone(self, batching: Bench) -> None:
        """A half is a request of its own, before anything else, and neither lingers nor fills
        up.
        """
        grant = self.refused(batching)
        batching.push(message("new", postback_at=0))
        batching.settle(grant, health="ok", groups=[[[1, 2, 3, 4], [5, 6, 7, 8]]])
        half = batching.one()
        assert half.group
        assert (names(half), [id_of(raw) for raw in half.siblings]) == (
            ["e0", "e1", "e2", "e3"],
            ["e4", "e5", "e6", "e7"],
        )
        assert names(batching.one()) == ["new"]

    def test_groups_leave_in_their_order(self, batching: Bench) -> None:
        """The first named is sent first."""
        batching.settle(self.refused(batching), health="ok", groups=[[[1, 2], []], [[3, 4], []], [[5, 6, 7, 8], []]])
        took = batching.take(5).grants
        assert [names(grant) for grant in took] == [["e0", "e1"], ["e2", "e3"], ["e4", "e5", "e6", "e7"]]

    def test_an_innocent_half_proves_its_sibling(self, batching: Bench) -> None:
        """The first half is delivered: the sibling, guilty by elimination, is split without having
        been sent.
        """
        batching.settle(self.refused(batching, 4), health="ok", groups=[[[1, 2], [3, 4]]])
        batching.settle(batching.one(), health="ok", delivered=2, groups=[[[3], [4]]])
        half = batching.one()
        assert (names(half), [id_of(raw) for raw in half.siblings]) == (["e2"], ["e3"])
        assert batching.meta()["delivered"] == "2"

    def test_a_sibling_can_be_disposed_of_too(self, batching: Bench) -> None:
        """A settlement reaches siblings behind the grant's own messages."""
        batching.settle(self.refused(batching, 4), health="ok", groups=[[[1, 2], [3, 4]]])
        batching.settle(batching.one(), health="ok", messages=[back(3), bury(4, "{}")])
        assert batching.ids() == ["e2"]
        assert [letter["headers"]["id"] for letter in batching.dead()] == ["e3"]

    def test_halves_wait_for_quota_together(self, batching: Bench) -> None:
        """Every half costs a token and waits for it as a half."""
        batching.settings["windows"] = [(1, 10.0)]
        batching.settle(self.refused(batching), health="ok", groups=[[[1, 2, 3, 4], [5, 6, 7, 8]]])
        reply = batching.take()
        assert (reply.state, reply.grants) == (State.SPENT, [])
        assert reply.wait_ms is not None
        assert reply.wait_ms > 9000
        batching.advance(reply.wait_ms)
        assert names(batching.one()) == ["e0", "e1", "e2", "e3"]

    def test_halves_wait_in_a_pause(self, batching: Bench) -> None:
        """A pause holds halves as well."""
        batching.settle(self.refused(batching), health="ok", groups=[[[1, 2, 3, 4], [5, 6, 7, 8]]])
        batching.client.hset(keys.meta(QUEUE), "paused", -1)
        assert batching.paused_ms() is None

    def test_a_half_that_is_refused_for_quota_stays_whole(self, batching: Bench) -> None:
        """A 429 puts a half back as a half."""
        batching.settle(self.refused(batching), health="ok", groups=[[[1, 2, 3, 4], [5, 6, 7, 8]]])
        batching.settle(batching.one(), health="quota", retry_after_ms=100, groups=[[[1, 2, 3, 4], [5, 6, 7, 8]]])
        batching.advance(100)
        half = batching.one()
        assert (names(half), len(half.siblings)) == (["e0", "e1", "e2", "e3"], 4)

    def test_an_empty_half_is_none(self, batching: Bench) -> None:
        """A half of nothing leaves its sibling alone."""
        batching.settle(self.refused(batching, 2), health="ok", groups=[[[], [1, 2]], [[], []]])
        assert names(batching.one()) == ["e0", "e1"]
        assert batching.take().grants == []
