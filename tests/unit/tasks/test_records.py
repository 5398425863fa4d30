"""The journal's record of a grant: what it tells of each event."""

from __future__ import annotations

import json
from typing import Any

import pytest

from postback.journal.records import MOST_PEOPLE, Entry, read_record
from tasks.delivery import Delivery, Report
from tasks.grants import Grant, Settlement
from tasks.judge import judge_undecided
from tasks.outcomes import Outcome, Verdict
from tasks.provider import Provider
from tasks.providers import PROVIDERS
from tasks.records import record_of
from tasks.request import Answer, NotSent, Unanswered
from tasks.rulings import Again, Dead, Duplicate
from tests.unit.tasks.fakes import OK, Says, Server, account, grant_of, message, ruled

KEY = {"postback_key": "ab" * 32, "postback_key_text": "order-17"}


def delivered(grant: Grant, answer: Answer | Exception = OK, provider: Provider | None = None, **table: Any) -> Report:
    name = grant.queue.partition(".")[0]
    return Delivery(account(name, **table), provider or PROVIDERS[name]).deliver(grant, Server(answer))


def entries(report: Report) -> list[Entry]:
    return read_record(record_of(report, "tgtrack-1@host")).entries


def one(report: Report) -> Entry:
    (entry,) = entries(report)
    return entry


class TestRequests:
    def test_delivered(self) -> None:
        """All that somebody may look for, and the answer."""
        grant = grant_of(message(headers=KEY))
        entry = one(delivered(grant))
        assert (entry.grant, entry.place, entry.at_ms) == (grant.id, 0, grant.granted_us // 1000)
        assert (entry.id, entry.task, entry.queue) == ("event-1", "tgtrack.add_event", "tgtrack.main")
        assert (entry.user, entry.key, entry.key_hash) == ("987654321", "order-17", "ab" * 32)
        assert (entry.outcome, entry.status, entry.end, entry.batch) == ("delivered", 200, "delivered", 1)
        assert entry.worker == "tgtrack-1@host"
        assert entry.ms is not None
        assert entry.enqueued_ms == grant.envelopes[0].enqueued_ms
        assert entry.first_ms == entry.at_ms
        assert not entry.possible_duplicate

    def test_a_failure_goes_on(self) -> None:
        """The provider's status and words; no end."""
        entry = one(delivered(grant_of(message()), Answer(503, {}, b"Service unavailable")))
        assert (entry.outcome, entry.status, entry.end) == ("retry", 503, "")

    @pytest.mark.parametrize(
        ("answer", "outcome", "duplicate"),
        [
            (NotSent("no route"), "retry", False),
            (Unanswered("no answer in time"), "ambiguous", True),
        ],
    )
    def test_no_answer(self, answer: Exception, outcome: str, duplicate: bool) -> None:
        """No status; the words say what happened."""
        entry = one(delivered(grant_of(message()), answer))
        assert (entry.outcome, entry.status, entry.possible_duplicate) == (outcome, None, duplicate)
        assert entry.detail == str(answer)

    @pytest.mark.parametrize("outcome", [Outcome.QUOTA, Outcome.CREDENTIALS, Outcome.PENDING])
    def test_it_was_sent_and_waits(self, outcome: Outcome) -> None:
        """A 429, a refused key and an answer that is not final are attempts, too."""
        report = delivered(grant_of(message()), provider=Says(Verdict(outcome, "words", status=429)))
        entry = one(report)
        assert (entry.outcome, entry.status, entry.detail, entry.end) == (outcome, 429, "words", "")

    def test_refused_for_good(self) -> None:
        """The attempt, and the end with its reason."""
        entry = one(delivered(grant_of(message()), provider=Says(Verdict(Outcome.REJECTED, "bad goal", status=422))))
        assert (entry.outcome, entry.end, entry.reason, entry.detail) == ("rejected", "dead", "rejected", "bad goal")

    def test_the_last_attempt(self) -> None:
        """The answer was a failure, and the event is dead of exhaustion."""
        entry = one(delivered(grant_of(message()), Answer(503, {}, b""), max_attempts=1))
        assert (entry.outcome, entry.end, entry.reason) == ("retry", "dead", "exhausted")

    def test_a_flag_stays(self) -> None:
        """What may have been recorded before is a possible duplicate however often it is sent."""
        raw = message(headers={"postback": "attempts=1 first=1700000000000000 duplicate=1"})
        entry = one(delivered(grant_of(raw)))
        assert entry.possible_duplicate
        assert entry.first_ms == 1_700_000_000_000

    def test_a_refused_batch(self) -> None:
        """No event of a halved batch is called refused."""
        raws = [message("mytracker.login", id=name) for name in "ab"]
        report = delivered(grant_of(*raws, queue="mytracker.main"), Answer(400, {}, b"{}"))
        assert [(entry.id, entry.outcome, entry.end, entry.batch) for entry in entries(report)] == [
            ("a", "halved", "", 2),
            ("b", "halved", "", 2),
        ]

    def test_followers_that_were_not_published(self) -> None:
        """The provider has it, and it goes on all the same: the words say why."""
        report = delivered(grant_of(message()))
        ruled(report.grant, Again(1.0, "ambiguous: what hangs on it could not be published", ambiguous=True))
        entry = one(report)
        assert (entry.outcome, entry.end, entry.possible_duplicate) == ("delivered", "", True)
        assert entry.detail == "what hangs on it could not be published"


class TestWithoutRequest:
    def test_put_back(self) -> None:
        """Nothing happened: there is no record."""
        grant = grant_of(message())
        assert record_of(Report(grant, grant.put_back()), "w") == b""

    def test_a_duplicate(self) -> None:
        """It ends, and names the first one; no attempt."""
        entry = one(Report(ruled(grant_of(message()), Duplicate("first")), Settlement("none")))
        assert (entry.outcome, entry.end, entry.reason, entry.batch) == ("", "duplicate", "first", 0)
        assert (entry.ms, entry.status, entry.first_ms) == (None, None, 0)

    def test_expired(self) -> None:
        """It ends without an attempt, and the words say why."""
        entry = one(delivered(grant_of(message(headers={"expires": "2020-01-01T00:00:00"}))))
        assert (entry.outcome, entry.end, entry.reason) == ("", "dead", "expired")
        assert entry.detail == "its `expires` has passed"

    def test_no_message(self) -> None:
        """What is no message has no id, and ends."""
        entry = one(delivered(grant_of(b"rubbish")))
        assert (entry.id, entry.task, entry.user) == ("", "", "")
        assert (entry.end, entry.reason) == ("dead", "malformed")

    def test_one_of_a_batch(self) -> None:
        """An event that ended before the request has nothing of the request's answer."""
        raws = [
            message("mytracker.login", id="sent"),
            message("mytracker.login", id="late", headers={"expires": "2020-01-01T00:00:00"}),
        ]
        sent, late = entries(
            delivered(grant_of(*raws, queue="mytracker.main"), Answer(200, {}, json.dumps({"message": "ОK"}).encode()))
        )
        assert (sent.outcome, sent.batch) == ("delivered", 1)
        assert (late.outcome, late.status, late.ms, late.batch, late.reason) == ("", None, None, 0, "expired")

    def test_our_own_failure(self) -> None:
        """The request may have gone out: it counts as an attempt."""
        grant = grant_of(message())
        entry = one(Report(grant, judge_undecided(grant, account())))
        assert (entry.outcome, entry.detail, entry.batch) == ("ambiguous", "the worker's own code failed", 1)
        assert entry.possible_duplicate


class TestText:
    def test_another_task_in_the_batch(self) -> None:
        """Each event has its own task."""
        raws = [message("mytracker.login", id="a"), message("tgtrack.add_event", id="b")]
        report = delivered(grant_of(*raws, queue="mytracker.main"), Answer(200, {}, b"{}"))
        assert [entry.task for entry in entries(report)] == ["mytracker.login", "tgtrack.add_event"]

    def test_a_lone_surrogate(self) -> None:
        """A provider's words are readable, whatever they hold."""
        report = Report(ruled(grant_of(message()), Dead("rejected", "{}")), Settlement())
        report.verdict, report.sent = Verdict(Outcome.REJECTED, "no \udc00 \0"), report.grant.envelopes
        assert one(report).detail == "no ? \ufffd"

    def test_many_people(self) -> None:
        """A Telegram update may name a whole chat: the record stays short."""
        members = [{"id": number} for number in range(100, 200)]
        update = {"update_id": 1, "message": {"from": {"id": 7}, "new_chat_members": members}}
        entry = one(delivered(grant_of(message("tgtrack.on_telegram_webhook", event=update))))
        assert len(entry.also) < MOST_PEOPLE

    def test_no_secret(self) -> None:
        """The key of an account is in no record."""
        report = Delivery(account(), PROVIDERS["tgtrack"], scrub=lambda text: text.replace("bot-key-1", "***")).deliver(
            grant_of(message()), Server(Answer(422, {}, json.dumps({"detail": "key bot-key-1"}).encode()))
        )
        assert b"bot-key-1" not in record_of(report, "w")
