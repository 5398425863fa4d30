"""TAKE: order, quota before message, pauses, the gate of an unhealthy account, due times,
replays.
"""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from postback.wire import keys
from postback.wire.windows import padded_ms
from tests.integration.workers.governor.bench import QUEUE, START_MS, Bench, back, bury, id_of, message, poll, state_of
from workers.governor.take import State, TakeReply


def iso(ms: float, zone: str = "+00:00") -> str:
    """A moment as Celery writes an eta."""
    return datetime.fromtimestamp(ms / 1000, UTC).replace(tzinfo=None).isoformat() + zone


class TestOrder:
    def test_the_oldest_leaves_first(self, bench: Bench) -> None:
        """Messages of one priority leave in the order in which they were pushed."""
        bench.push(*(message(f"e{number}") for number in range(5)))
        assert [id_of(raw) for raw in bench.run_till_empty()] == ["e0", "e1", "e2", "e3", "e4"]

    def test_one_call_takes_several_in_order(self, bench: Bench) -> None:
        """One call of TAKE gives as many grants as it is asked for, the oldest first, and no
        more.
        """
        bench.push(*(message(f"e{number}") for number in range(5)))
        took = bench.take(3).grants
        assert [id_of(grant.raws[0]) for grant in took] == ["e0", "e1", "e2"]
        assert bench.ids() == ["e3", "e4"]

    def test_priorities_are_in_kombus_order(self, bench: Bench) -> None:
        """Priority 0 leaves before 3, 3 before 6, 6 before 9, whatever was pushed first."""
        for priority in (9, 6, 3, 0):
            bench.push(message(f"p{priority}", priority=priority), priority=priority)
        assert [id_of(raw) for raw in bench.run_till_empty()] == ["p0", "p3", "p6", "p9"]

    @pytest.mark.parametrize(("priority", "step"), [(0, 0), (2, 0), (3, 3), (5, 3), (6, 6), (8, 6), (9, 9), (255, 9)])
    def test_a_message_goes_back_to_its_own_list(self, bench: Bench, priority: int, step: int) -> None:
        """A message that is put back comes to stand in the list into which kombu put it."""
        bench.push(message("e", priority=priority), priority=step)
        bench.put_back(bench.one())
        assert bench.ids(step) == ["e"]

    def test_a_header_called_priority_is_not_the_priority(self, bench: Bench) -> None:
        """Only the property counts, also if a header of that name stands before it."""
        document = json.loads(message("f", priority=6))
        document["headers"]["priority"] = 0
        bench.push(json.dumps(document), priority=6)
        bench.put_back(bench.one())
        assert bench.ids(6) == ["f"]

    def test_an_empty_queue_is_told_as_empty(self, bench: Bench) -> None:
        """Nothing queued and nothing waiting: EMPTY."""
        assert bench.take() == TakeReply(State.EMPTY, [])

    def test_idle_until_what_waits_is_due(self, bench: Bench) -> None:
        """Nothing queued and something delayed: idle, with the ms until it is due."""
        bench.push(message("later", eta=iso(START_MS + 5000)))
        bench.take()
        assert bench.take() == TakeReply(State.EMPTY, [], due_ms=5000)


class TestQuota:
    @pytest.mark.parametrize("spent", [(1, 1.0), (1, 3600.0), (1, 86_400.0)])
    def test_any_spent_window_holds_everything(self, bench: Bench, spent: tuple[int, float]) -> None:
        """While one of the windows is spent nothing is popped, and the wait is until just that
        window has room.
        """
        bench.settings["windows"] = [spent, (100, 60.0)]
        bench.push(message("a"), message("b"))
        bench.settle(bench.one())
        bench.advance(400)
        wait_ms = padded_ms(spent[1]) - 400
        assert bench.take() == TakeReply(State.SPENT, [], wait_ms)
        assert bench.ids() == ["b"]
        bench.advance(wait_ms - 1)
        assert bench.take().grants == []
        bench.advance(1)
        assert id_of(bench.one().raws[0]) == "b"

    def test_the_longest_wait_counts(self, bench: Bench) -> None:
        """With two windows spent the wait is the longer one."""
        bench.settings["windows"] = [(1, 1.0), (1, 60.0)]
        bench.push(message("a"), message("b"))
        bench.settle(bench.one())
        assert bench.take().wait_ms == padded_ms(60.0)

    def test_requests_on_the_wire_count(self, bench: Bench) -> None:
        """A window is spent by requests without an answer, too."""
        bench.settings["windows"] = [(2, 1.0)]
        bench.push(*(message(f"e{number}") for number in range(5)))
        took = bench.take(5).grants
        assert len(took) == 2
        bench.advance(5000)
        assert bench.take(5).grants == []

    def test_a_request_that_was_not_sent_is_not_charged(self, bench: Bench) -> None:
        """What is put back unsent gives its token back."""
        bench.settings["windows"] = [(1, 60.0)]
        bench.push(message("a"))
        bench.put_back(bench.one())
        assert id_of(bench.one().raws[0]) == "a"

    def test_waiting_for_due_costs_nothing(self, bench: Bench) -> None:
        """Messages that are not due are sorted out without a token."""
        bench.settings["windows"] = [(1, 60.0)]
        bench.push(message("later", eta=iso(START_MS + 5000)), message("now"))
        assert id_of(bench.one().raws[0]) == "now"
        assert len(bench.delayed()) == 1

    def test_a_spent_account_without_events_is_idle(self, bench: Bench) -> None:
        """A quota wait is told only where something waits for it."""
        bench.settings["windows"] = [(1, 60.0)]
        bench.push(message("a"))
        bench.settle(bench.one())
        assert bench.take() == TakeReply(State.EMPTY, [])


class TestPause:
    def test_nothing_is_popped_while_paused(self, bench: Bench) -> None:
        """A paused account gives nothing and says how long."""
        bench.client.hset(keys.meta(QUEUE), mapping={"paused": START_MS + 700, "reason": "quota"})
        bench.push(message("a"))
        assert bench.paused_ms() == 700
        assert bench.ids() == ["a"]
        bench.advance(700)
        assert id_of(bench.one().raws[0]) == "a"

    def test_a_pause_without_end_stays(self, bench: Bench) -> None:
        """An account that waits for an operator gives nothing, a year later neither."""
        bench.client.hset(keys.meta(QUEUE), mapping={"paused": -1, "reason": "credentials"})
        bench.push(message("a"))
        bench.advance(365 * 86_400_000)
        assert bench.paused_ms() is None

    def test_leases_end_and_due_times_come_in_a_pause(self, bench: Bench) -> None:
        """A pause stops the taking, not the recovery."""
        bench.push(message("lost"), message("later", eta=iso(START_MS + 5000)))
        bench.take(2)
        bench.client.hset(keys.meta(QUEUE), mapping={"paused": -1, "reason": "operator"})
        bench.advance(60_000)
        bench.take()
        assert sorted(bench.ids()) == ["later", "lost"]


class TestGate:
    def test_a_fresh_account_sends_one_at_a_time(self, bench: Bench) -> None:
        """Until its first healthy answer an account has one request on the wire."""
        bench.client.delete(bench.credential_key)
        bench.push(*(message(f"e{number}") for number in range(5)))
        reply = bench.take(5)
        took = reply.grants
        assert (reply.state, len(took)) == (State.BLOCKED, 1)
        assert bench.take(5) == TakeReply(State.BLOCKED, [])
        bench.settle(took[0])
        assert len(bench.take(5).grants) == 4

    @pytest.mark.parametrize("health", ["fail", "quota", "refused"])
    def test_after_a_failure_one_at_a_time(self, bench: Bench, health: str) -> None:
        """After a failure, a 429 or a refusal one request goes, whatever has been answered
        before.
        """
        bench.push(*(message(f"e{number}") for number in range(5)))
        bench.settle(bench.one(), health=health, messages=[back(1)])
        bench.client.delete(bench.quota_key)
        bench.client.hdel(bench.credential_key, "paused")
        bench.advance(100)
        took = bench.take(5).grants
        assert len(took) == 1
        bench.settle(took[0])
        assert len(bench.take(5).grants) == 4

    @pytest.mark.parametrize("health", ["unknown", "none"])
    def test_what_says_nothing_opens_nothing(self, bench: Bench, health: str) -> None:
        """An answer that says nothing about the provider leaves a fresh account at one request."""
        bench.client.delete(bench.credential_key)
        bench.push(*(message(f"e{number}") for number in range(5)))
        bench.settle(bench.one(), health=health, messages=[back(1)])
        assert len(bench.take(5).grants) == 1


class TestReplay:
    def test_a_repeated_call_returns_what_it_took(self, bench: Bench) -> None:
        """The same call id hands out the very same grants and pops nothing more."""
        bench.push(*(message(f"e{number}") for number in range(5)))
        first = bench.take(3, call="postback:call").grants
        again = bench.take(3, call="postback:call", replay=True).grants
        assert again == first
        assert bench.ids() == ["e3", "e4"]
        assert bench.client.zcard(keys.flight(QUEUE)) == 3

    def test_a_repeated_call_keeps_owners_and_siblings(self, bench: Bench) -> None:
        """What a replay hands out is the same to the last detail: owners of keys, halves, siblings,
        time of the grant.
        """
        bench.settings.update(batch_max=4, linger_ms=0)
        bench.push(*(message(f"e{number}", postback_key="k") for number in range(4)))
        bench.settle(bench.one(), messages=[], groups=[[[1, 2], [3, 4]]], health="ok")
        first = bench.take(1, call="postback:call").grants
        bench.advance(50)
        again = bench.take(1, call="postback:call", replay=True).grants
        assert again == first
        assert (len(first[0].siblings), first[0].owners[1]) == (2, b"e0")

    def test_also_after_some_were_settled(self, bench: Bench) -> None:
        """A replay hands out those that are still in flight and takes no new ones in place of the
        settled.
        """
        bench.push(*(message(f"e{number}") for number in range(5)))
        first = bench.take(3, call="postback:call").grants
        bench.settle(first[0])
        again = bench.take(3, call="postback:call", replay=True).grants
        assert again == first[1:]
        assert bench.ids() == ["e3", "e4"]

    def test_also_when_nothing_was_taken(self, bench: Bench) -> None:
        """A replay of a call that found nothing is an ordinary call."""
        assert bench.take(2, call="postback:call").grants == []
        bench.push(message("a"))
        took = bench.take(2, call="postback:call", replay=True).grants
        assert [id_of(grant.raws[0]) for grant in took] == ["a"]

    def test_also_while_paused(self, bench: Bench) -> None:
        """What was taken before a pause is handed out in it: it would be lost to everybody until
        its lease ends.
        """
        bench.push(message("a"))
        first = bench.take(1, call="postback:call").grants
        bench.client.hset(keys.meta(QUEUE), mapping={"paused": -1, "reason": "operator"})
        assert bench.take(1, call="postback:call", replay=True).grants == first

    def test_an_outage_is_told_again(self, bench: Bench) -> None:
        """A probe whose TAKE was repeated is still known as a probe."""
        bench.client.hset(keys.meta(QUEUE), "fails", 5)
        bench.push(message("a"))
        assert bench.take(1, call="postback:call").outage
        assert bench.take(1, call="postback:call", replay=True).outage


class TestEta:
    @pytest.mark.parametrize("zone", ["", "Z", "+00:00", "+0000", "+00"])
    def test_every_way_to_write_utc(self, bench: Bench, zone: str) -> None:
        """A naive time is UTC, as Celery sends it; Z and offsets of zero are the same."""
        bench.push(message("e", eta=iso(START_MS + 60_000, zone)))
        assert bench.take().grants == []
        assert list(bench.delayed().values()) == [START_MS + 60_000]

    @pytest.mark.parametrize(
        ("text", "moment"),
        [
            ("2030-01-01T03:00:00+03:00", datetime(2030, 1, 1, tzinfo=UTC)),
            ("2029-12-31T21:30:00-02:30", datetime(2030, 1, 1, tzinfo=UTC)),
            ("2030-01-01T05:45:00+0545", datetime(2030, 1, 1, tzinfo=UTC)),
            ("2028-02-29T12:00:00Z", datetime(2028, 2, 29, 12, tzinfo=UTC)),
            ("2028-03-01T00:00:00Z", datetime(2028, 3, 1, tzinfo=UTC)),
            ("2100-02-28T23:59:59Z", datetime(2100, 2, 28, 23, 59, 59, tzinfo=UTC)),
            ("2100-03-01T00:00:00Z", datetime(2100, 3, 1, tzinfo=UTC)),
            ("2029-12-31T23:59:59.999+00:00", datetime(2029, 12, 31, 23, 59, 59, 999000, tzinfo=UTC)),
            ("2030-06-15T01:02:03.5", datetime(2030, 6, 15, 1, 2, 3, 500000, tzinfo=UTC)),
            ("2030-06-15 01:02:03.123456", datetime(2030, 6, 15, 1, 2, 3, 123000, tzinfo=UTC)),
        ],
    )
    def test_the_moment_is_exact(self, bench: Bench, text: str, moment: datetime) -> None:
        """Offsets, fractions, leap years and the year's end give the very millisecond that Python
        reads.
        """
        bench.push(message("e", eta=text))
        assert bench.take().grants == []
        assert list(bench.delayed().values()) == [pytest.approx(moment.timestamp() * 1000, abs=1)]

    @pytest.mark.parametrize("days", range(0, 1500, 61))
    def test_the_calendar_agrees_with_pythons(self, bench: Bench, days: int) -> None:
        """Over four years every second month's day is the same day as Python's."""
        moment = datetime(2027, 1, 1, 6, 7, 8, tzinfo=UTC) + timedelta(days=days)
        bench.push(message("e", eta=moment.isoformat()))
        bench.take()
        assert list(bench.delayed().values()) == [moment.timestamp() * 1000]

    @pytest.mark.parametrize(
        "garbage",
        [
            "", "soon", "2030-01-01", "2030-01-01T00:00", "2030-13-01T00:00:00", "2030-00-01T00:00:00", "2030-01-32T00:00:00",
            "2030-01-01T25:00:00", "2030-01-01T00:61:00", "2030-01-01T00:00:99", "2030-01-01T00:00:1.2.3", "2030-01-01T00:00:..", "30-01-01T0:0:0",
            "2030-01-01T00:00:00 Europe/Moscow", "2030-01-01T00:00:00.", "\u0662\u0660\u0663\u0660-01-01T00:00:00", "9" * 400,
            "2030-01-01T00:00:" + "9" * 400, 1_900_000_000, {"at": "2030-01-01T00:00:00"}, ["2030-01-01T00:00:00"], True,
        ],
    )  # fmt: skip
    def test_garbage_is_delivered(self, bench: Bench, garbage: object) -> None:
        """An eta that is no time holds nothing up and loses nothing."""
        raw = message("e", eta=garbage)
        bench.push(raw)
        assert bench.one().raws == [raw]

    def test_a_past_eta_is_due(self, bench: Bench) -> None:
        """An eta in the past does not delay."""
        bench.push(message("e", eta=iso(START_MS - 1)))
        assert id_of(bench.one().raws[0]) == "e"

    @pytest.mark.parametrize(
        "header",
        [
            {"meta": {"eta": "2099-01-01T00:00:00"}}, {"note": '"eta": "2099-01-01T00:00:00"'}, {"stamped": ["eta", "2099-01-01T00:00:00"]},
            {"shadow": "eta"},
        ],
    )  # fmt: skip
    def test_only_its_own_header_counts(self, bench: Bench, header: dict[str, Any]) -> None:
        """An eta inside another header, or in a text, is nobody's."""
        bench.push(message("e", **header))
        assert id_of(bench.one().raws[0]) == "e"

    def test_its_own_header_behind_a_look_alike(self, bench: Bench) -> None:
        """A look-alike in front does not hide the real one."""
        document = json.loads(message("e"))
        document["headers"] = {
            "meta": {"eta": "1999-01-01T00:00:00"},
            **document["headers"],
            "eta": iso(START_MS + 9000),
        }
        bench.push(json.dumps(document))
        assert bench.take().grants == []
        assert list(bench.delayed().values()) == [START_MS + 9000]

    @pytest.mark.parametrize("batch_max", [1, 20])
    def test_due_ones_come_back_to_the_front_in_due_order(self, bench: Bench, batch_max: int) -> None:
        """When they are due they stand in front of their own list, the soonest first."""
        bench.settings.update(batch_max=batch_max, linger_ms=0)
        bench.push(*(message(f"d{ms}", priority=3, eta=iso(START_MS + ms)) for ms in (3000, 1000, 2000)), priority=3)
        bench.take(9)
        bench.push(message("new", priority=3), priority=3)
        bench.advance(5000)
        assert [id_of(raw) for raw in bench.run_till_empty()] == ["d1000", "d2000", "d3000", "new"]

    @pytest.mark.parametrize("batch_max", [1, 20])
    def test_very_many_due_ones_keep_their_order(self, bench: Bench, batch_max: int) -> None:
        """A thousand that became due while no worker ran leave in due order."""
        bench.settings.update(batch_max=batch_max, linger_ms=0)
        for number in range(1000):
            bench.client.zadd(keys.delayed(QUEUE), {message(f"d{number}"): START_MS + number})
        bench.advance(10_000)
        while bench.client.zcard(keys.delayed(QUEUE)):
            bench.take(1)
        left = [int(id_of(raw)[1:]) for raw in (*bench.in_flight(), *bench.queued())]
        assert left == sorted(left)
        assert len(left) == 1000

    @pytest.mark.parametrize("batch_max", [1, 20])
    def test_many_that_are_not_due_hide_nothing(self, bench: Bench, batch_max: int) -> None:
        """Behind a thousand messages for tomorrow one for now leaves at once: TAKE says that there
        may be more.
        """
        bench.settings.update(batch_max=batch_max, linger_ms=0)
        bench.push(*(message(f"t{number}", eta=iso(START_MS + 86_400_000)) for number in range(1000)), message("now"))
        for _ in range(20):
            reply = bench.take()
            took = reply.grants
            if took:
                break
            assert reply.state is State.MORE
        assert [id_of(grant.raws[0]) for grant in took] == ["now"]

    @pytest.mark.parametrize("batch_max", [1, 20])
    def test_equal_messages_do_not_fall_together(self, bench: Bench, batch_max: int) -> None:
        """Two byte-identical messages are two, also while they wait in the delayed set."""
        bench.settings.update(batch_max=batch_max, linger_ms=0)
        raw = message("twin", eta=iso(START_MS + 1000))
        bench.push(raw, raw, raw)
        bench.take(5)
        assert len(bench.delayed()) == 3
        bench.advance(1000)
        assert [id_of(raw) for raw in bench.run_till_empty()] == ["twin"] * 3

    def test_an_eta_in_a_text_that_is_no_message(self, bench: Bench) -> None:
        """A raw entry that only looks as if it had an eta is delivered."""
        raw = b'garbage "eta": "2099-01-01T00:00:00"'
        bench.push(raw)
        assert bench.one().raws == [raw]


class TestForeignMessages:
    """What other clients may write."""

    def test_empty_list_and_object_stay_what_they_are(self, bench: Bench) -> None:
        """A message with state added keeps every other byte: [] stays [], {} stays {}."""
        raw = message("e")
        bench.push(raw)
        bench.fail(bench.one())
        (held,) = bench.held()
        before, after = json.loads(raw), json.loads(held)
        assert after["headers"].pop("postback")
        assert after == before
        assert held.replace(b'"postback": "' + json.loads(held)["headers"]["postback"].encode() + b'", ', b"") == raw

    @pytest.mark.parametrize("separators", [(",", ":"), (", ", ": "), (" ,\n", "\t:\r\n ")])
    @pytest.mark.parametrize("order", ["headers first", "headers last", "reversed"])
    def test_any_layout_is_understood(self, bench: Bench, separators: tuple[str, str], order: str) -> None:
        """Compact or spaced JSON, keys in any order: state, priority and eta are found."""
        document = json.loads(message("e", priority=6, eta=iso(START_MS + 1000)))
        headers, rest = {"headers": document.pop("headers")}, document
        document = {
            "headers first": {**headers, **rest},
            "headers last": {**rest, **headers},
            "reversed": dict(reversed([*rest.items(), *headers.items()])),
        }[order]
        bench.push(json.dumps(document, separators=separators), priority=6)
        assert bench.take().grants == []
        bench.advance(1000)
        bench.fail(bench.one())
        bench.advance(2000)
        bench.fail(bench.one())
        (held,) = bench.held()
        state = state_of(held)
        assert (state["attempts"], state["tries"]) == (2, 2)
        assert held.count(b'"postback"') == 1
        bench.advance(2000)
        bench.settle(bench.one())
        assert bench.everything() == {}

    @pytest.mark.parametrize(
        "headers",
        [
            {"x": {"postback": "attempts=7 crashes=2"}}, {"x": {"headers": {"postback": "attempts=7"}}}, {"x": 'say "postback": "attempts=7"'},
            {"shadow": "postback"}, {"list2": ["postback", "attempts=7"]}, {"x\\": "postback"}, {'q"postback"': "attempts=7"},
        ],
    )  # fmt: skip
    @pytest.mark.parametrize("front", [True, False])
    def test_look_alikes_in_headers_are_left_alone(self, bench: Bench, headers: dict[str, object], front: bool) -> None:
        """Keys that look like ours inside other headers or texts are neither read nor changed."""
        document = json.loads(message("e"))
        document["headers"] = {**headers, **document["headers"]} if front else {**document["headers"], **headers}
        bench.push(json.dumps(document))
        for _ in range(2):
            bench.fail(bench.one())
            bench.advance(2000)
        (held,) = bench.held()
        after = json.loads(held)
        assert DeliveryWords.of(after["headers"].pop("postback")) == {"attempts": 2, "tries": 2}
        assert after == document

    @pytest.mark.parametrize("encoding", ["utf-8", "base64"])
    def test_look_alikes_in_the_body_are_left_alone(self, bench: Bench, encoding: str) -> None:
        """A body that holds a whole message, headers and all, is not mistaken for the message."""
        document = json.loads(message("e"))
        inner = json.dumps(
            {"headers": {"postback": "attempts=7", "eta": "2099-01-01T00:00:00"}, "priority": 9, "task": "x"}
        )
        if encoding == "base64":
            document["body"] = base64.b64encode(inner.encode()).decode()
            document["properties"]["body_encoding"] = "base64"
        else:
            document["body"] = inner
        bench.push(json.dumps(document))
        bench.fail(bench.one())
        (held,) = bench.held()
        after = json.loads(held)
        assert DeliveryWords.of(after["headers"].pop("postback")) == {"attempts": 1, "tries": 1}
        assert after == document

    def test_a_body_that_is_an_object(self, bench: Bench) -> None:
        """Even a body that is no text but an object with headers of its own is passed by."""
        document = json.loads(message("e"))
        document["body"] = {"headers": {"postback": "attempts=7", "id": "other"}, "a": [[], {}, "]}"]}
        bench.push(json.dumps(document))
        bench.fail(bench.one())
        (held,) = bench.held()
        after = json.loads(held)
        assert DeliveryWords.of(after["headers"].pop("postback")) == {"attempts": 1, "tries": 1}
        assert after == document

    def test_empty_headers_get_no_comma(self, bench: Bench) -> None:
        """A header spliced into an empty object leaves valid JSON."""
        bench.push(b'{"headers": { }, "properties": {}}')
        bench.fail(bench.one())
        (held,) = bench.held()
        assert DeliveryWords.of(json.loads(held)["headers"]["postback"]) == {"attempts": 1, "tries": 1}

    @pytest.mark.parametrize(
        "value", ["", "attempts=1.2.3", "attempts=" + "9" * 300, "=;;", "crashes=-5", "\\u0000", 'attempts=\\"']
    )
    def test_a_forged_state_breaks_nothing(self, bench: Bench, value: str) -> None:
        """Whatever stands in the state header, the message passes through and the header becomes a
        good one.
        """
        raw = message("e").replace(b'"lang"', f'"postback": "{value}", "lang"'.encode())
        bench.push(raw)
        grant = bench.one()
        assert grant.raws == [raw]
        bench.fail(grant)
        assert bench.everything() == {"e": 1}
        assert json.loads(bench.held()[0])["headers"]["postback"].count("attempts=") == 1


class DeliveryWords:
    """The counted words of a state header."""

    @staticmethod
    def of(text: str) -> dict[str, int]:
        words = dict(word.split("=") for word in text.split())
        return {name: int(words[name]) for name in ("attempts", "tries", "crashes") if name in words}


#: Entries that are no Celery message, as somebody's script or a broken disk may leave them.
GARBAGE = [
    b"", b" ", b"\xff\xfe\x00garbage", b"not json", b"{", b'{"headers": ', b'{"headers": {"id": "x', b'"string"', b"[1, 2]", b"{}",
    b'{"headers": null, "properties": null}', b'{"headers": [], "properties": {}}', b'{"headers": "x"}', b'{"headers": {"postback": 5}}',
    b"\x00" * 40, b'{"a": "\\', b'{"headers" {}}', b'{"headers": {"a": }}', b"}{][", b'{"properties": {"priority": "high"}}',
    '{"\u043a": "\u2028"}'.encode(), b"0" * 5000,
]  # fmt: skip


class TestGarbage:
    @pytest.mark.parametrize("raw", GARBAGE, ids=range(len(GARBAGE)))
    @pytest.mark.parametrize("batch_max", [1, 20])
    def test_survives_every_path(self, bench: Bench, raw: bytes, batch_max: int) -> None:
        """An entry that is no message survives taking, putting back, retry, poll, a crash and
        dying, byte for byte but for trailing blanks.
        """
        bench.settings.update(batch_max=batch_max, linger_ms=0)
        bench.push(raw, raw)

        def taken() -> int:
            return sum(len(grant.raws) for grant in took)

        took = bench.take(2).grants
        assert [one for grant in took for one in grant.raws] == [raw, raw]
        for grant in took:
            bench.put_back(grant)
        took = bench.take(2).grants
        assert taken() == 2
        for grant in took:
            lines = [poll(index, 10) for index in range(1, len(grant.raws) + 1)]
            bench.settle(grant, health="ok", messages=lines)
        bench.advance(100)
        took = bench.take(2).grants
        assert taken() == 2
        bench.advance(60_000)
        took = bench.take(2).grants
        assert taken() == 2
        for grant in took:
            bench.fail(grant, back_off_ms=10)
        bench.advance(100)
        total = 0
        for _ in range(2):
            took = bench.take(1).grants
            total += taken()
            for grant in took:
                assert all(one.rstrip() == raw.rstrip() or b"postback" in one for one in grant.raws)
                lines = [bury(index, '{"reason": "malformed"}') for index in range(1, len(grant.raws) + 1)]
                bench.settle(grant, health="none", messages=lines)
        assert total == 2
        assert bench.client.llen(keys.dead("tgtrack")) == 2
