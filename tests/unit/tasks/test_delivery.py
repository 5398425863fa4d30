"""What becomes of a grant's messages: never sent, sent and judged, put back."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from celery.worker import state as worker_state

from tasks.delivery import Report
from tasks.grants import Settlement
from tasks.judge import judge_undecided
from tasks.outcomes import Outcome, Verdict
from tasks.request import Answer, NotSent, Unanswered
from tasks.rulings import PUT_BACK, Again, Back, Delivered, Duplicate, Poll
from tests.unit.tasks.fakes import OK, Says, Server, account, dead_of, delivery, grant_of, halves_of, letter_of, message

DAY_MS = 86_400_000


def ago_ms(milliseconds: float) -> int:
    return int(time.time() * 1000 - milliseconds)


@pytest.fixture
def revoked() -> Iterator[str]:
    """The id of a revoked event."""
    worker_state.revoked.add("event-revoked")
    yield "event-revoked"
    worker_state.revoked.discard("event-revoked")


def refused(raw: bytes, **changes: object) -> tuple[dict[str, Any], Server, Report]:
    """Deliver a message that is not fit to be sent; its letter, the server, the report."""
    server = Server()
    report = delivery(account(**changes), server).deliver(grant_of(raw))  # type: ignore[arg-type]
    return letter_of(report.grant), server, report


MALFORMED = {
    "empty": b"",
    "not JSON": b"hello",
    "not UTF-8": b"\xff\xfe\x00",
    "deep": b"[" * 100_000,
    "a list": b"[]",
    "an object": b"{}",
    "headers that are a list": b'{"headers": [], "properties": {}}',
    "no id": message(headers={"id": None}),
    "an id that is a number": message(headers={"id": 17}),
    "no task": message(headers={"task": None}),
    "pickled": message().replace(b"application/json", b"application/x-python-serialize"),
    "body that is no base64": message().replace(b'"body": "', b'"body": "!'),
    "body that is no JSON": message(body=None).replace(b'"body": "', b'"body": "AAAA'),
    "body that is an object": message(body={"account": "main"}),
    "body of two": message(body=[[], {}]),
    "positional arguments": message(body=[[1], {"event": {}}, {}]),
    "keyword arguments that are a list": message(body=[[], [], {}]),
    "compressed with nothing we know": message(headers={"compression": "application/x-nothing"}),
    "compressed but not really": message(headers={"compression": "application/x-gzip"}),
    "an unknown task": message("tgtrack.no_such_method"),
    "another provider's task": message("mytracker.login"),
    "a task of Celery": message("celery.backend_cleanup"),
    "an unexpected argument": message(event_type="sale"),
    "no event": message(body=[[], {"account": "main"}, {}]),
}

INVALID: dict[str, tuple[Any, str]] = {
    "null": (None, "event"),
    "text": ("hello", "event"),
    "a list": ([], "event"),
    "a field missing": ({"user_id": "1"}, "event_type"),
    "a fraction for an id": ({"user_id": 1.5, "event_type": "sale"}, "user_id"),
    "an unknown field": ({"user_id": "1", "event_type": "sale", "utm": "x"}, "utm"),
    "milliseconds": ({"user_id": "1", "event_type": "sale", "date": 1622520000000}, "date"),
    "a lone surrogate": ({"user_id": "1", "event_type": "\ud800"}, "event_type"),
}


class TestNotFitToBeSent:
    @pytest.mark.parametrize("raw", MALFORMED.values(), ids=MALFORMED.keys())
    def test_malformed(self, raw: bytes) -> None:
        """What is no event message becomes a dead letter and no request."""
        letter, server, report = refused(raw)
        assert letter["reason"] == "malformed"
        assert letter["detail"]
        assert (letter["attempts"], letter["status"], letter["possible_duplicate"]) == (0, None, False)
        assert report.rulings[0].kind == "dead"
        assert report.rulings[0].text.startswith("malformed ")
        assert server.requests == []

    @pytest.mark.parametrize(("event", "field"), INVALID.values(), ids=INVALID.keys())
    def test_invalid(self, event: Any, field: str) -> None:
        """An event that breaks a rule dies, and its letter names the field."""
        letter, server, _ = refused(message(event=event))
        assert letter["reason"] == "invalid"
        assert field in letter["detail"]
        assert server.requests == []

    def test_invalid_names_no_value(self) -> None:
        """The letter of an invalid event does not repeat what stood in it."""
        letter, _, report = refused(message(event={"user_id": 987654321, "event_type": "sale", "date": "Ivanov"}))
        assert "987654321" not in letter["detail"] + report.rulings[0].text
        assert "Ivanov" not in letter["detail"] + report.rulings[0].text

    def test_invalid_is_told_in_short(self) -> None:
        """A thousand wrong fields do not make a thousand words."""
        _, _, report = refused(message(event={f"field_{number}": 1 for number in range(1000)}))
        assert len(report.rulings[0].text) < 600

    @pytest.mark.parametrize("name", ["shop", "", None, 17, ["main"], {"a": 1}, "x" * 1000])
    def test_unknown_account(self, name: Any) -> None:
        """A message for another account than its queue's is not sent with this one's key."""
        letter, server, report = refused(message(account=name))
        assert letter["reason"] == "unknown_account"
        assert len(report.rulings[0].text) < 200
        assert server.requests == []

    def test_no_account_is_the_queue_s(self) -> None:
        """A raw client that names no account means the one whose queue it used."""
        server = Server()
        raw = message(body=[[], {"event": {"user_id": "1", "event_type": "sale"}}, {}])
        assert delivery(account(), server).deliver(grant_of(raw)).rulings[0].kind == "delivered"

    def test_revoked(self, revoked: str) -> None:
        """A revoked event is not sent, also in the midst of a batch."""
        letter, server, report = refused(message(id=revoked))
        assert (letter["reason"], report.rulings[0].text) == ("revoked", "revoked")
        assert server.requests == []

    @pytest.mark.parametrize("zone", [UTC, None])
    def test_expired(self, zone: Any) -> None:
        """An event whose ``expires`` has passed is not sent; a time without a zone is UTC."""
        past = (datetime.now(UTC) - timedelta(seconds=5)).replace(tzinfo=zone)
        letter, server, _ = refused(message(headers={"expires": past.isoformat()}))
        assert letter["reason"] == "expired"
        assert server.requests == []

    @pytest.mark.parametrize("expires", ["", "soon", 17, [], {}, True, "9" * 5000])
    def test_no_time(self, expires: Any) -> None:
        """An ``expires`` that is no time is malformed, before any request."""
        letter, server, _ = refused(message(headers={"expires": expires}))
        assert (letter["reason"], letter["detail"]) == ("malformed", "its header `expires` must be a time in ISO 8601")
        assert server.requests == []

    @pytest.mark.parametrize("expires", [None, "9999-12-31T23:59:59+00:00"])
    def test_not_expired(self, expires: Any) -> None:
        """An ``expires`` that lies ahead, or is none, expires nothing."""
        server = Server()
        raw = message(headers={"expires": expires} if expires is not None else None)
        assert delivery(account(), server).deliver(grant_of(raw)).rulings[0].kind == "delivered"

    def test_possible_duplicate_stays(self) -> None:
        """An event that may have been recorded before is a possible duplicate in whatever letter it
        ends.
        """
        letter, _, report = refused(message(event={}, headers={"postback": "attempts=2 duplicate=1"}))
        assert (letter["reason"], letter["attempts"], letter["possible_duplicate"]) == ("invalid", 2, True)
        assert dead_of(report.grant).possible_duplicate

    def test_nothing_sent_is_not_charged(self) -> None:
        """A grant of which nothing was sent neither uses the quota nor says anything of the
        provider.
        """
        _, _, report = refused(b"hello")
        assert report.settlement.health == "none"
        assert report.verdict is None

    def test_no_message_is_wrapped(self) -> None:
        """What is no Celery message gets one around it, so that the dead-letter list holds nothing
        else.
        """
        _, _, report = refused(b"hello")
        assert json.loads(dead_of(report.grant).wrapped or "")["headers"]["postback_dead"]["reason"] == "malformed"

    def test_a_message_is_not_wrapped(self) -> None:
        """A message that can be read is buried as it is."""
        _, _, report = refused(message(event={}))
        assert dead_of(report.grant).wrapped is None

    @pytest.mark.parametrize("at", [10**18, 10**400, -5, 0, True, "now", 1.5, None])
    def test_any_enqueue_time(self, at: Any) -> None:
        """An enqueue time that is none, from whoever wrote the header, does not stop the letter."""
        letter, _, _ = refused(message(event={}, headers={"postback_at": at}))
        assert (letter["reason"], letter["enqueued_at"]) == ("invalid", None)


class TestGoals:
    def test_counts_for_21_days(self) -> None:
        """A goal of three weeks and a minute ago is expired and not sent."""
        raw = message("tgtrack.send_reach_goal", headers={"postback_at": ago_ms(21 * DAY_MS + 60_000)})
        letter, server, _ = refused(raw)
        assert (letter["reason"], letter["detail"]) == ("expired", "goals count for 21 days")
        assert server.requests == []

    @pytest.mark.parametrize(("days", "kind"), [(1, "dead"), (30, "delivered")])
    def test_is_a_setting(self, days: int, kind: str) -> None:
        """``goal_days`` says how long a goal counts."""
        raw = message("tgtrack.send_reach_goal", headers={"postback_at": ago_ms(22 * DAY_MS)})
        assert delivery(account(goal_days=days), Server()).deliver(grant_of(raw)).rulings[0].kind == kind

    def test_within(self) -> None:
        """A goal a minute before its three weeks are over is sent."""
        raw = message("tgtrack.send_reach_goal", headers={"postback_at": ago_ms(21 * DAY_MS - 60_000)})
        assert delivery(account(), Server()).deliver(grant_of(raw)).rulings[0].kind == "delivered"

    def test_first_grant_counts_where_the_producer_says_nothing(self) -> None:
        """A raw client's goal is as old as its first grant."""
        state = f"attempts=1 first={ago_ms(22 * DAY_MS) * 1000}"
        letter, _, _ = refused(message("tgtrack.send_reach_goal", headers={"postback_at": None, "postback": state}))
        assert letter["reason"] == "expired"

    def test_events_do_not_expire(self) -> None:
        """``add_event`` with a conversion target is still recorded after 21 days."""
        event = {"user_id": "1", "event_type": "sale", "conversion_target": "lead"}
        raw = message(event=event, headers={"postback_at": ago_ms(60 * DAY_MS)})
        assert delivery(account(), Server()).deliver(grant_of(raw)).rulings[0].kind == "delivered"


TIMELESS = {"user_id": "1", "event_type": "sale"}


class TestTime:
    def sent_date(self, raw: bytes, **more: Any) -> int:
        server = Server()
        delivery(account(), server).deliver(grant_of(raw, **more))
        return int(json.loads(server.requests[0].body or b"")["date"])

    def test_first_grant(self) -> None:
        """An event without a time happened when a worker first took it."""
        assert self.sent_date(message(event=TIMELESS), granted_us=1_700_000_000_999_999) == 1_700_000_000

    def test_retry_keeps_it(self) -> None:
        """A retry hours later does not move the event."""
        raw = message(event=TIMELESS, headers={"postback": "attempts=3 first=1700000000000000"})
        assert self.sent_date(raw) == 1_700_000_000

    @pytest.mark.parametrize("first", ["9" * 18, "9" * 5000, "²", "-1", "x", ""])
    def test_forged_first_grant(self, first: str) -> None:
        """A first grant that is none does not count."""
        raw = message(event=TIMELESS, headers={"postback": f"first={first}"})
        assert self.sent_date(raw, granted_us=1_700_000_000_000_000) == 1_700_000_000


class TestDuplicates:
    def test_dropped(self) -> None:
        """An event whose idempotency key another one owns is dropped, and says whose it is."""
        grant, server = grant_of(message()), Server()
        grant.envelopes[0].duplicate_of = "event-0"
        report = delivery(account(), server).deliver(grant)
        assert report.rulings == [Duplicate("event-0")]
        assert report.rulings[0].text == "duplicate of event-0"
        assert server.requests == []

    def test_not_counted_as_delivered(self) -> None:
        """A duplicate beside a delivered event is not counted with it."""
        grant = grant_of(*(message("mytracker.login", id=str(number)) for number in range(2)), queue="mytracker.main")
        grant.envelopes[0].duplicate_of = "event-0"
        report = delivery(account("mytracker"), Server(Answer(200, {}, b'{"message": "OK"}'))).deliver(grant)
        assert [ruling.kind for ruling in report.rulings] == ["duplicate", "delivered"]

    def test_before_everything_else(self) -> None:
        """A duplicate is dropped even if it is invalid: its twin says so already."""
        grant = grant_of(message(event={}))
        grant.envelopes[0].duplicate_of = "event-0"
        assert delivery(account(), Server()).deliver(grant).rulings[0].kind == "duplicate"


class TestLease:
    @pytest.mark.parametrize("left_s", [-5.0, 0.0, 10.9])
    def test_almost_over(self, left_s: float) -> None:
        """A request that could outlive its lease is not begun; the events go back as they were."""
        server = Server()
        grant = grant_of(message(), lease_end=time.monotonic() + left_s)
        report = delivery(account(timeout_s=10), server).deliver(grant)
        assert server.requests == []
        assert (report.settlement.health, report.rulings) == ("none", [PUT_BACK])
        assert report.rulings[0].kind == "wait"

    def test_long_enough(self) -> None:
        """With the time limit and a reserve left, it is sent."""
        server = Server()
        grant = grant_of(message(), lease_end=time.monotonic() + 12)
        assert delivery(account(timeout_s=10), server).deliver(grant).rulings[0].kind == "delivered"

    def test_the_dead_stay_dead(self) -> None:
        """Beside events that are put back, an invalid one is buried all the same."""
        raws = [message("mytracker.login", id="1"), message("mytracker.login", id="2", event={})]
        grant = grant_of(*raws, queue="mytracker.main", lease_end=time.monotonic())
        report = delivery(account("mytracker"), Server()).deliver(grant)
        assert report.rulings[0] == PUT_BACK
        assert letter_of(report.grant, 1)["reason"] == "invalid"

    def test_a_half_stays_together(self) -> None:
        """A half of a refused batch goes back as a half, its sibling with it."""
        raws = [message("mytracker.login", id=str(number)) for number in range(4)]
        grant = grant_of(*raws[:2], siblings=raws[2:], queue="mytracker.main", group=True, lease_end=time.monotonic())
        report = delivery(account("mytracker"), Server()).deliver(grant)
        assert halves_of(report) == [[["0", "1"], ["2", "3"]]]


RETRY, AMBIGUOUS = Verdict(Outcome.RETRY, "Internal error", 500), Verdict(Outcome.AMBIGUOUS, "no answer in time")
QUOTA, REFUSED = Verdict(Outcome.QUOTA, "Too many", 429, retry_after_s=7.0), Verdict(Outcome.CREDENTIALS, "No", 401)
PENDING = Verdict(Outcome.PENDING, "not final", 200)


def judged(verdict: Verdict, state: str = "", *, outage: bool = False, age_ms: float = 0, **changes: object) -> Report:
    """Deliver one event whose answer means ``verdict``."""
    raw = message(headers={"postback": state, "postback_at": ago_ms(age_ms)})
    to = account(**changes)  # type: ignore[arg-type]
    return delivery(to, Server(), Says(verdict)).deliver(grant_of(raw, outage=outage))


class TestVerdicts:
    def test_delivered(self) -> None:
        """A healthy answer for a single event needs no words: the message is done with."""
        report = judged(Verdict(Outcome.DELIVERED, status=200))
        assert report.rulings == [Delivered()]
        assert report.rulings[0].text == "delivered"
        assert report.settlement == Settlement("ok")

    def test_result_of_a_write_is_dropped(self) -> None:
        """What an answer to a write says of a person goes no further."""
        assert judged(Verdict(Outcome.DELIVERED, data={"first_name": "Jane"})).rulings == [Delivered(None)]

    def test_result_of_a_read_is_kept(self) -> None:
        """A look-up's data is its result."""
        provider = Says(Verdict(Outcome.DELIVERED, data={"user_id": "1"}))
        report = delivery(account(), Server(), provider).deliver(grant_of(message("tgtrack.get_user_info")))
        assert report.rulings == [Delivered({"user_id": "1"})]

    @pytest.mark.parametrize(
        ("verdict", "health"),
        [
            (Verdict(Outcome.DELIVERED), "ok"),
            (Verdict(Outcome.REJECTED, "Bad", 400), "ok"),
            (Verdict(Outcome.EXPIRED, "late"), "ok"),
            (PENDING, "ok"),
            (RETRY, "fail"),
            (AMBIGUOUS, "fail"),
            (QUOTA, "quota"),
            (REFUSED, "refused"),
        ],
    )
    def test_health(self, verdict: Verdict, health: str) -> None:
        """A provider that refuses an event is healthy; one that fails, throttles or knows us no
        more is not.
        """
        settlement = judged(verdict).settlement
        assert settlement.health == health
        assert bool(settlement.detail) == (health != "ok")

    @pytest.mark.parametrize(("verdict", "reason"), [(Verdict(Outcome.REJECTED, "Bad request", 400), "rejected"),
                                                     (Verdict(Outcome.EXPIRED, "too late", 400), "expired")])  # fmt: skip
    def test_dead_at_once(self, verdict: Verdict, reason: str) -> None:
        """A refusal for good is a dead letter with the provider's words; the request counts as an
        attempt.
        """
        report = judged(verdict, "attempts=2")
        letter = letter_of(report.grant)
        assert (letter["reason"], letter["status"], letter["attempts"]) == (reason, 400, 3)
        assert report.rulings[0].text == f"{reason} 400 {verdict.detail}"
        assert not letter["possible_duplicate"]

    @pytest.mark.parametrize("verdict", [QUOTA, REFUSED])
    @pytest.mark.parametrize("state", ["", "attempts=7 duplicate=1", "attempts=999"])
    def test_waiting_uses_no_attempt(self, verdict: Verdict, state: str) -> None:
        """A 429 and a refused key put the event back as it was, however many attempts it has behind
        it.
        """
        report = judged(verdict, state, max_attempts=8, max_age_s=1, age_ms=DAY_MS)
        assert report.rulings == [Back(report.rulings[0].text, verdict.retry_after_s, keeps_time=True)]
        assert report.rulings[0].kind == "wait"

    def test_quota_says_for_how_long(self) -> None:
        """The provider's ``Retry-After`` reaches the account and the event's own line."""
        report = judged(QUOTA)
        assert report.settlement.retry_after_s == 7.0
        assert report.rulings == [Back("quota 429 Too many", 7.0, keeps_time=True)]

    @pytest.mark.parametrize(("verdict", "flag"), [(RETRY, False), (AMBIGUOUS, True)])
    def test_again(self, verdict: Verdict, flag: bool) -> None:
        """A failure backs off; only one that may have been recorded is flagged."""
        report = judged(verdict, backoff_s=4)
        (again,) = report.rulings
        assert isinstance(again, Again)
        assert (again.kind, again.ambiguous) == ("retry", flag)
        assert 0 <= again.after_s <= 4

    @pytest.mark.parametrize(("attempts", "ceiling_s"), [(0, 1), (1, 2), (3, 8), (6, 64), (30, 100), (998, 100)])
    def test_back_off_doubles(self, attempts: int, ceiling_s: float) -> None:
        """The back-off doubles with each attempt up to its longest, with full jitter below it."""
        report = judged(RETRY, f"attempts={attempts}", max_attempts=1000, backoff_s=1, backoff_max_s=100)
        assert isinstance(report.rulings[0], Again)
        assert 0 <= report.rulings[0].after_s <= ceiling_s

    @pytest.mark.parametrize("verdict", [RETRY, AMBIGUOUS])
    def test_exhausted(self, verdict: Verdict) -> None:
        """The last attempt's failure is a dead letter."""
        report = judged(verdict, "attempts=7", max_attempts=8)
        letter = letter_of(report.grant)
        assert (letter["reason"], letter["attempts"]) == ("exhausted", 8)
        assert letter["possible_duplicate"] is (verdict is AMBIGUOUS)

    def test_one_attempt_left(self) -> None:
        """Before the last attempt it is tried again."""
        assert judged(RETRY, "attempts=6", max_attempts=8).rulings[0].kind == "retry"

    def test_fewer_attempts_for_some_answers(self) -> None:
        """An answer that will hardly change is asked for fewer times than others."""
        challenge = Verdict(Outcome.AMBIGUOUS, "203", 203, most_attempts=3)
        report = judged(challenge, "odd=1")
        assert isinstance(report.rulings[0], Again)
        assert report.rulings[0].few
        assert letter_of(judged(challenge, "odd=2").grant)["reason"] == "exhausted"

    def test_fewer_attempts_count_their_own(self) -> None:
        """Server faults before it do not count as answers of that kind."""
        challenge = Verdict(Outcome.AMBIGUOUS, "203", 203, most_attempts=3)
        assert judged(challenge, "attempts=5").rulings[0].kind == "retry"

    def test_never_more_attempts_than_the_account_s(self) -> None:
        """An answer cannot grant more attempts than the account has."""
        patient = Verdict(Outcome.AMBIGUOUS, "203", 203, most_attempts=50)
        assert judged(patient, "attempts=1", max_attempts=2).rulings[0].kind == "dead"

    @pytest.mark.parametrize("verdict", [RETRY, AMBIGUOUS])
    def test_outage_exhausts_nothing(self, verdict: Verdict) -> None:
        """The probe of an outage is not the event's fault, whatever its attempts."""
        assert judged(verdict, "attempts=50", outage=True, max_attempts=8).rulings[0].kind == "retry"

    @pytest.mark.parametrize("outage", [True, False])
    def test_too_old(self, outage: bool) -> None:
        """An event whose back-offs come to more than ``max_age_s`` is given up when it fails; the
        probe of an outage is not.
        """
        report = judged(RETRY, "age=3600001", outage=outage, max_age_s=3600)
        assert report.rulings[0].kind == ("retry" if outage else "dead")

    @pytest.mark.parametrize("verdict", [RETRY, AMBIGUOUS])
    def test_waiting_does_not_age(self, verdict: Verdict) -> None:
        """An event that has waited in its queue for eight days fails once: it is tried again
        (I7).
        """
        assert judged(verdict, age_ms=8 * DAY_MS).rulings[0].kind == "retry"

    def test_old_and_delivered(self) -> None:
        """An old event that gets through is delivered."""
        report = judged(Verdict(Outcome.DELIVERED), "age=86400000", max_age_s=3600, age_ms=DAY_MS)
        assert report.rulings[0].kind == "delivered"

    @pytest.mark.parametrize(("age_ms", "kind"), [(3_590_000, "delivered"), (3_610_000, "dead")])
    def test_longest_wait(self, age_ms: float, kind: str) -> None:
        """Where somebody bounds it, an event that was enqueued longer ago is ``expired`` and no
        request is made.
        """
        report = judged(Verdict(Outcome.DELIVERED), max_wait_s=3600, age_ms=age_ms)
        assert report.rulings[0].kind == kind
        assert report.settlement.health == ("ok" if kind == "delivered" else "none")

    def test_a_long_wait_by_default(self) -> None:
        """Nobody bounds it by default."""
        assert judged(Verdict(Outcome.DELIVERED), age_ms=300 * DAY_MS).rulings[0].kind == "delivered"

    def test_at_most_once(self) -> None:
        """An account that would rather lose an event than send it twice buries what is
        ambiguous.
        """
        letter = letter_of(judged(AMBIGUOUS, on_ambiguous="dead").grant)
        assert (letter["reason"], letter["possible_duplicate"]) == ("ambiguous", True)

    def test_at_most_once_in_an_outage(self) -> None:
        """Also the probe of an outage is not repeated if it may have been recorded."""
        assert judged(AMBIGUOUS, outage=True, on_ambiguous="dead").rulings[0].kind == "dead"

    def test_at_most_once_retries_what_was_not_sent(self) -> None:
        """A failure that recorded nothing is tried again under either policy."""
        assert judged(RETRY, on_ambiguous="dead").rulings[0].kind == "retry"

    def test_once_a_possible_duplicate(self) -> None:
        """The flag of an earlier attempt stands in the letter of a later refusal."""
        report = judged(Verdict(Outcome.REJECTED, "Bad", 400), "attempts=1 duplicate=1")
        assert letter_of(report.grant)["possible_duplicate"] is True

    @pytest.mark.parametrize(("state", "flag"), [("", False), ("attempts=1", False), ("duplicate=1", True)])
    def test_classifier_knows_of_earlier_attempts(self, state: str, flag: bool) -> None:
        """The provider's module is told whether the event may be there already."""
        provider = Says(Verdict(Outcome.DELIVERED))
        delivery(account(), Server(), provider).deliver(grant_of(message(headers={"postback": state})))
        assert provider.asked[0].maybe_recorded is flag

    def test_conflict_after_an_ambiguous_attempt(self) -> None:
        """TGTrack's 409 after a lost answer means that the event is there."""
        server = Server(Answer(409, {}, b'{"status": "error", "error_code": 409}'))
        report = delivery(account(), server).deliver(grant_of(message(headers={"postback": "attempts=1 duplicate=1"})))
        assert report.rulings[0].kind == "delivered"


class TestPolling:
    def poll(self, state: str = "", waited_s: float = 0, **changes: object) -> Report:
        first = 1_700_000_000_000_000
        raw = message("tonapi.get_event", headers={"postback": f"first={first} {state}"})
        grant = grant_of(raw, queue="tonapi.main", granted_us=first + int(waited_s * 1e6))
        provider = Says(PENDING)
        return delivery(account("tonapi", **changes), Server(), provider).deliver(grant)

    @pytest.mark.parametrize(("polls", "seconds"), [(0, 2), (1, 4), (2, 8), (3, 16), (4, 30), (40, 30), (10**5, 30)])
    def test_grows(self, polls: int, seconds: float) -> None:
        """Two seconds first, doubling to half a minute."""
        report = self.poll(f"polls={polls}", waited_s=1)
        assert report.rulings == [Poll(seconds, "pending 200 not final")]
        assert report.rulings[0].kind == "wait"

    def test_last_look_is_at_the_deadline(self) -> None:
        """It does not wait beyond the deadline to look once more."""
        assert self.poll("polls=9", waited_s=595).rulings == [Poll(5, "pending 200 not final")]

    @pytest.mark.parametrize("waited_s", [600, 600.5, 10**6])
    def test_not_final(self, waited_s: float) -> None:
        """What is not final at the deadline is given up."""
        letter = letter_of(self.poll(waited_s=waited_s).grant)
        assert (letter["reason"], letter["possible_duplicate"]) == ("not_final", False)

    def test_uses_no_attempt(self) -> None:
        """Polling goes on whatever the attempts."""
        assert self.poll("attempts=500", waited_s=1).rulings[0].kind == "wait"

    def test_first_look(self) -> None:
        """Before anybody noted a first grant, it has not waited."""
        grant = grant_of(message("tonapi.get_event"), queue="tonapi.main")
        report = delivery(account("tonapi"), Server(), Says(PENDING)).deliver(grant)
        assert report.rulings == [Poll(2, "pending 200 not final")]


class TestTonAI:
    """Two retries, after 2 s and 4 s, then a dead letter.

    SETTLE lets the account wait with the event.
    """

    def attempt(self, attempts: int, *, outage: bool = False) -> Report:
        raw = message("tonai.conversion", headers={"postback": f"attempts={attempts}"})
        server = Server(Answer(500, {}, b""))
        return delivery(account("tonai"), server).deliver(grant_of(raw, queue="tonai.main", outage=outage))

    @pytest.mark.parametrize(("attempts", "pause_s"), [(0, 2), (1, 4)])
    def test_retries(self, attempts: int, pause_s: int) -> None:
        """Exactly 2 s after the first failure and exactly 4 s after the second."""
        assert self.attempt(attempts).rulings == [Again(pause_s, "retry 500")]

    def test_third_failure(self) -> None:
        """The third failure is the last."""
        letter = letter_of(self.attempt(2).grant)
        assert (letter["reason"], letter["attempts"]) == ("exhausted", 3)

    def test_outage_begins_with_it(self) -> None:
        """The failure that kills the first event is the one that puts the account in outage: the
        next event only probes.
        """
        assert account("tonai").outage_after == account("tonai").max_attempts

    def test_probe(self) -> None:
        """In an outage no event dies of its attempts."""
        assert self.attempt(2, outage=True).rulings[0].kind == "retry"


class TestNoAnswer:
    def test_not_sent(self) -> None:
        """A refused connection is a plain retry: nothing was recorded."""
        report = delivery(account(), Server(NotSent("connection refused"))).deliver(grant_of(message()))
        assert isinstance(report.rulings[0], Again)
        assert (report.rulings[0].text, report.rulings[0].ambiguous) == ("retry connection refused", False)

    def test_unanswered(self) -> None:
        """A lost answer is ambiguous: the event is a possible duplicate from now on."""
        report = delivery(account(), Server(Unanswered("no answer in time"))).deliver(grant_of(message()))
        assert isinstance(report.rulings[0], Again)
        assert (report.rulings[0].text, report.rulings[0].ambiguous) == ("ambiguous no answer in time", True)


class TestWords:
    """What people get to see of an answer."""

    def said(self, body: bytes, scrub: Any = str, status: int = 400) -> str:
        server = Server(Answer(status, {}, body))
        report = delivery(account(), server, scrub=scrub).deliver(grant_of(message()))
        return f"{report.rulings[0].text} {report.settlement.detail} {report.rulings}"

    @pytest.mark.parametrize("status", [400, 401, 429, 500, 502])
    def test_no_secret(self, status: int) -> None:
        """A key that a provider repeats is masked in letters, rulings and the account's own
        line.
        """
        body = b'{"status": "error", "error_description": "no such key bot-key-1", "error_details": "/v1/bot-key-1/x"}'
        assert "bot-key-1" not in self.said(body, lambda text: text.replace("bot-key-1", "***"), status)

    def test_no_half_of_a_secret(self) -> None:
        """A key at the place where a long text is cut leaves nothing of itself."""
        for length in range(140, 170):
            body = (b"no " * 60)[:length] + b" bot-key-1 end"
            assert "bot" not in self.said(body, lambda text: text.replace("bot-key-1", "***"))

    def test_no_rest_of_a_secret(self) -> None:
        """A key with a long number in it is masked whole, and not only its number."""
        body = b"no such key: bot-1234567-rest"
        assert "rest" not in self.said(body, lambda text: text.replace("bot-1234567-rest", "***"))

    @pytest.mark.parametrize(
        "datum", ["987654321", "+79991234567", "jane@example.com", "@jane_doe", "EQD" + "a" * 45, "0:" + "ab" * 32]
    )
    def test_no_personal_data(self, datum: str) -> None:
        """Ids, telephone numbers, addresses, names after an @ and wallets are left out of a
        provider's words.
        """
        body = json.dumps({"status": "error", "error_code": 422, "error_description": f"user {datum} is unknown"})
        said = self.said(body.encode())
        assert datum not in said
        assert "is unknown" in said

    def test_short(self) -> None:
        """A provider that writes a novel is quoted with a line of it."""
        body = json.dumps({"status": "error", "error_code": 400, "error_description": "word " * 100_000})
        assert len(self.said(body.encode())) < 1000

    def test_markup(self) -> None:
        """Of a gateway's page only the text is shown."""
        assert "502 Bad Gateway nginx" in self.said(
            b"<html>\n<head><title>502 Bad Gateway</title></head><hr><center>nginx</center></html>", status=502
        )


def logins(count: int, **more: Any) -> list[bytes]:
    return [message("mytracker.login", id=str(number), **more) for number in range(count)]


MYTRACKER_OK = Answer(200, {}, '{"message": "\u041eK"}'.encode())
BAD_REQUEST = Answer(400, {}, b'{"error": "Bad Request"}')


class TestBatches:
    def deliver(self, raws: list[bytes], answer: Answer = MYTRACKER_OK, **more: Any) -> tuple[Report, Server]:
        server = Server(answer)
        changes = more.pop("changes", {})
        report = delivery(account("mytracker", **changes), server).deliver(
            grant_of(*raws, queue="mytracker.main", **more)
        )
        return report, server

    def test_one_request(self) -> None:
        """A batch is one request, and one answer delivers all of it."""
        report, server = self.deliver(logins(20))
        assert len(server.requests) == 1
        assert len(json.loads(server.requests[0].body or b"")) == 20
        assert report.rulings == [Delivered()] * 20

    def test_unfit_events_do_not_travel(self) -> None:
        """A dead event in a batch is left out; the others are sent without it."""
        raws = [b"hello", *logins(2), message("mytracker.login", id="9", event={})]
        report, server = self.deliver(raws)
        assert len(json.loads(server.requests[0].body or b"")) == 2
        assert [ruling.kind for ruling in report.rulings] == ["dead", "delivered", "delivered", "dead"]
        assert letter_of(report.grant, 0)["reason"] == "malformed"
        assert letter_of(report.grant, 3)["reason"] == "invalid"

    def test_one_left_travels_alone(self) -> None:
        """A batch of which one event is left goes to the address for one."""
        _, server = self.deliver([b"hello", *logins(1)])
        assert server.requests[0].url.endswith("/v1/login/?idApp=666")

    def test_cap_in_bytes(self) -> None:
        """What does not fit under the byte cap goes back to the front, and the body keeps to the
        cap.
        """
        event = {"customUserId": "x" * 1000, "eventTimestamp": 1622520000}
        report, server = self.deliver(logins(20, event=event))
        body = server.requests[0].body or b""
        sent = len(json.loads(body))
        assert len(body) <= 10_000 < len(body) + len(body) // sent
        assert report.rulings == [Delivered()] * sent + [PUT_BACK] * (20 - sent)

    def test_cap_is_exact(self) -> None:
        """A body of exactly the cap is sent whole, of one byte less it is not."""
        _, server = self.deliver(logins(4))
        size = len(server.requests[0].body or b"")
        _, exact = self.deliver(logins(4), changes={"max_bytes": size})
        _, less = self.deliver(logins(4), changes={"max_bytes": size - 1})
        assert len(json.loads(exact.requests[0].body or b"")) == 4
        assert len(json.loads(less.requests[0].body or b"")) == 3

    def test_cap_counts_bytes_not_characters(self) -> None:
        """Cyrillic counts double, as it does on the wire."""
        event = {"customUserId": "я" * 1000, "eventTimestamp": 1622520000}
        _, server = self.deliver(logins(20, event=event))
        assert len(server.requests[0].body or b"") <= 10_000

    def test_a_single_event_always_fits(self) -> None:
        """The cap is for batches: one event goes out whatever its size."""
        report, server = self.deliver(logins(2), changes={"max_bytes": 100})
        assert len(server.requests) == 1
        assert [ruling.kind for ruling in report.rulings] == ["delivered", "wait"]

    @pytest.mark.parametrize("status", [429, 403])
    def test_waits_whole(self, status: int) -> None:
        """A throttled or refused batch goes back in its order, each event with the time of its
        first grant.
        """
        report, _ = self.deliver(logins(3), Answer(status, {}, b""))
        assert report.rulings == [Back(report.rulings[0].text, keeps_time=True)] * 3

    def test_a_throttled_half_stays_a_half(self) -> None:
        """A 429 for a half of a refused batch does not lose its sibling."""
        raws = logins(4)
        report, _ = self.deliver(raws[:2], Answer(429, {}, b""), siblings=raws[2:], group=True)
        assert halves_of(report) == [[["0", "1"], ["2", "3"]]]

    def test_each_event_has_its_own_attempts(self) -> None:
        """Of a batch that failed, only the events without attempts left die."""
        raws = [
            message("mytracker.login", id="1", headers={"postback": "attempts=7"}),
            message("mytracker.login", id="2"),
        ]
        report, _ = self.deliver(raws, Answer(500, {}, b""))
        assert [ruling.kind for ruling in report.rulings] == ["dead", "retry"]

    def test_refused_whole(self) -> None:
        """Nobody dies for a refused batch: it is halved."""
        report, _ = self.deliver(logins(5), BAD_REQUEST)
        assert halves_of(report) == [[["0", "1", "2"], ["3", "4"]]]
        assert {ruling.kind for ruling in report.rulings} == {"wait"}

    def test_refused_alone(self) -> None:
        """An event refused by itself is the guilty one."""
        report, _ = self.deliver(logins(1), BAD_REQUEST)
        assert letter_of(report.grant)["reason"] == "rejected"

    def test_sibling_of_an_unfit_half(self) -> None:
        """If nothing of a half is left to send, its sibling still is."""
        report, server = self.deliver([b"hello"], siblings=logins(2), group=True)
        assert server.requests == []
        assert halves_of(report) == [[["0", "1"], []]]

    @pytest.mark.parametrize("status", [500, 200])
    def test_sibling_of_a_failed_half(self, status: int) -> None:
        """If a half fails, its events back off and the sibling goes on."""
        raws = logins(4)
        report, _ = self.deliver(raws[:2], Answer(status, {}, b""), siblings=raws[2:], group=True)
        assert [ruling.kind for ruling in report.rulings] == ["retry", "retry"]
        assert halves_of(report) == [[["2", "3"], []]]


class TestUnsettled:
    """Celery closed the message, and no task has decided anything."""

    def settled(self, raw: bytes, *, ran: bool = False, **changes: object) -> Report:
        grant = grant_of(raw)
        return Report(grant, judge_undecided(grant, account(**changes), ran=ran))  # type: ignore[arg-type]

    def test_ambiguous(self) -> None:
        """Our own failure may have sent the event: it is tried again, flagged, and never counted as
        delivered.
        """
        report = self.settled(message())
        assert report.rulings == [Again(2, "ambiguous: the worker's own code failed", ambiguous=True)]
        assert report.settlement.health == "unknown"

    def test_exhausted(self) -> None:
        """It ends with the attempts."""
        letter = letter_of(self.settled(message(headers={"postback": "attempts=7"})).grant)
        assert (letter["reason"], letter["possible_duplicate"]) == ("exhausted", True)

    def test_at_most_once(self) -> None:
        """An account that would rather lose an event does not send it again."""
        assert letter_of(self.settled(message(), on_ambiguous="dead").grant)["reason"] == "ambiguous"

    def test_account_gone(self) -> None:
        """Without an account there is nobody to try again for."""
        grant = grant_of(message())
        judge_undecided(grant, None)
        assert letter_of(grant)["reason"] == "exhausted"

    def test_revoked(self, revoked: str) -> None:
        """Celery dropped it because it was revoked: it was not sent."""
        report = self.settled(message(id=revoked))
        letter = letter_of(report.grant)
        assert (letter["reason"], letter["possible_duplicate"]) == ("revoked", False)
        assert report.settlement.health == "none"

    @pytest.mark.parametrize("stamp", ["gold", ["silver", "gold"]])
    def test_revoked_by_a_stamp(self, stamp: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        """Celery dropped it because one of its stamps was revoked."""
        monkeypatch.setitem(worker_state.revoked_stamps, "customer", ["gold"])
        raw = message(headers={"stamped_headers": ["customer"], "stamps": {"customer": stamp}})
        assert letter_of(self.settled(raw).grant)["reason"] == "revoked"

    def test_expired(self) -> None:
        """Celery dropped it because it expired: it was not sent."""
        raw = message(headers={"expires": "2020-01-01T00:00:00+00:00"})
        assert letter_of(self.settled(raw).grant)["reason"] == "expired"

    def test_expired_after_it_ran(self) -> None:
        """An event that expires while its answer is handled may well have been recorded."""
        raw = message(headers={"expires": "2020-01-01T00:00:00+00:00"})
        assert self.settled(raw, ran=True).rulings[0].kind == "retry"

    def test_no_message(self) -> None:
        """What is no Celery message is wrapped here too."""
        assert dead_of(self.settled(b"hello", max_attempts=1).grant).wrapped

    def test_sibling(self) -> None:
        """The sibling of a lost half goes on."""
        grant = grant_of(message(), siblings=[message(id="2")], group=True)
        assert halves_of(Report(grant, judge_undecided(grant, account()))) == [[["2"], []]]


def test_healthy_default() -> None:
    """The fakes' own default: an event goes out and is delivered."""
    server = Server(OK)
    assert delivery(account(), server).deliver(grant_of(message())).rulings == [Delivered()]
    assert server.requests[0].url.endswith("/v1/bot-key-1/add_event")
