"""What Flower shows of events that wait or have failed: sentences for an operator."""

from __future__ import annotations

import calendar
from typing import Any

import pytest

from tasks.delivery import Report
from tasks.outcomes import Outcome, Verdict
from tasks.request import Answer, NotSent, Unanswered
from tasks.rulings import PUT_BACK, Again, Dead, Halved, Waiting
from tests.unit.tasks.fakes import Deliverer, Says, Server, account, grant_of, message, ruled
from workers.observe.sentences import failed, waits

#: When the grants below were made: noon.
NOON_US = calendar.timegm((2026, 11, 30, 12, 0, 0)) * 1_000_000
UNAVAILABLE = Answer(503, {}, b"Service unavailable")


def report(*answers: Answer | Exception, state: str = "", says: Verdict | None = None, **grant: Any) -> Report:
    """What an answer makes of an event whose account waits 5 s after each failure."""
    steady = account(retry_in_place=True, backoff_s=5, backoff_max_s=5, max_attempts=8)
    headers = {"postback": f"first={NOON_US} {state}"}
    deliverer = Deliverer(steady, Server(*answers), Says(says) if says else None)
    made = deliverer.deliver(grant_of(message(headers=headers), granted_us=NOON_US, **grant))
    made.elapsed_s = 0.0
    return made


def sentence(made: Report, max_attempts: int | None = 8) -> str:
    """Flower's text of the first event."""
    envelope = made.grant.envelopes[0]
    if isinstance(envelope.ruling, Dead):
        return failed(envelope.ruling)
    assert isinstance(envelope.ruling, Waiting)
    return waits(made, envelope, envelope.ruling, max_attempts)


def test_a_failure_says_which_attempt_it_was_and_when_the_next_is() -> None:
    """What happened, the attempt of how many, and the time of the next one."""
    assert sentence(report(UNAVAILABLE)) == "503 Service unavailable; attempt 1 of 8, again at 12:00:05 UTC"
    assert sentence(report(UNAVAILABLE, state="attempts=3")).endswith("; attempt 4 of 8, again at 12:00:05 UTC")


def test_a_request_without_an_answer() -> None:
    """It may have been recorded, and the sentence says so; a refused connection records nothing."""
    assert sentence(report(Unanswered("no answer in time"))) == (
        "no answer in time, it may have been recorded; attempt 1 of 8, again at 12:00:05 UTC"
    )
    assert sentence(report(NotSent("connection refused"))) == (
        "connection refused; attempt 1 of 8, again at 12:00:05 UTC"
    )


def test_the_time_counts_from_the_answer() -> None:
    """A back-off begins when the answer comes, not when the request is granted."""
    made = report(UNAVAILABLE)
    made.elapsed_s = 30.0
    assert sentence(made).endswith("again at 12:00:35 UTC")


def test_another_day_has_its_date() -> None:
    """After midnight a time alone would mislead."""
    made = report(UNAVAILABLE)
    made.grant.granted_us += 43_199_000_000
    assert sentence(made).endswith("again at 2026-12-01 00:00:04 UTC")


def test_an_answer_that_is_worth_few_attempts() -> None:
    """They are counted apart, and the sentence has their number and their last one."""
    odd = Verdict(Outcome.AMBIGUOUS, "unknown answer", 203, most_attempts=3)
    made = report(UNAVAILABLE, state="attempts=4 odd=1", says=odd)
    assert "; attempt 2 of 3, again at" in sentence(made)


def test_an_account_that_is_gone() -> None:
    """The number of attempts without a last one: nobody knows it."""
    assert "; attempt 1, again at" in sentence(report(UNAVAILABLE), None)


def test_the_probe_of_an_outage() -> None:
    """The outage's end gives attempts back, and nobody knows when it is: no number and no time."""
    assert sentence(report(UNAVAILABLE, outage=True, state="attempts=9")) == (
        "503 Service unavailable; no attempt used, again when the outage ends"
    )


@pytest.mark.parametrize(
    ("headers", "when"), [({"retry-after": "60"}, ", not before 12:01:00 UTC"), ({}, "")], ids=["said", "unsaid"]
)
def test_a_429(headers: dict[str, str], when: str) -> None:
    """It uses no attempt; a time is named where the provider has named one."""
    limited = Answer(429, headers, b"Too many requests")
    assert sentence(report(limited)) == f"429 Too many requests; no attempt used, again when the quota allows{when}"


def test_a_refused_key() -> None:
    """The sentence has the command that ends the pause."""
    refused = Answer(401, {}, b"Invalid token")
    assert sentence(report(refused)) == (
        "401 Invalid token; no attempt used, again with another key or after `postback resume tgtrack.main`"
    )


def test_a_look_up_that_is_not_final() -> None:
    """It is asked again, which is no failure."""
    pending = Verdict(Outcome.PENDING, "its trace is not finished yet", 200)
    text = sentence(report(UNAVAILABLE, says=pending))
    assert text.startswith("200 its trace is not finished yet; no attempt used, looked up again at 12:00:")


def test_a_halved_batch_and_an_event_that_was_not_sent() -> None:
    """Both go on at once."""
    made = report(UNAVAILABLE)
    ruled(made.grant, Halved("rejected 400 Bad Request: in a batch of 2, halving it"))
    assert sentence(made) == "400 Bad Request: in a batch of 2, halving it; no attempt used, again at once"
    ruled(made.grant, PUT_BACK)
    assert sentence(made) == "it was not sent; no attempt used, again at once"


def test_our_own_failure() -> None:
    """A ruling without an answer has a sentence, too."""
    made = report(UNAVAILABLE)
    made.verdict = None
    ruled(made.grant, Again(5, "ambiguous: the worker's own code failed", ambiguous=True))
    assert sentence(made) == (
        "the worker's own code failed, it may have been recorded; attempt 1 of 8, again at 12:00:05 UTC"
    )


def test_a_refused_event() -> None:
    """The reason code is the first word, as in ``postback dead list``."""
    assert sentence(report(Answer(422, {}, b"it's wrong"))) == ("rejected 422 it's wrong; dead letter after 1 attempt")


def test_the_last_attempt() -> None:
    """All attempts are named, and that one of them may have been recorded."""
    assert sentence(report(Unanswered("no answer in time"), state="attempts=7")) == (
        "exhausted no answer in time, it may have been recorded; dead letter after 8 attempts"
    )


def test_an_event_that_was_never_sent() -> None:
    """No attempt is claimed."""
    made = Deliverer(account(), Server()).deliver(grant_of(message(event={"user_id": "1"})))
    assert sentence(made) == "invalid tgtrack.AddEvent: event_type is required; dead letter, no request was made"


def test_a_letter_that_only_redis_has() -> None:
    """TAKE has buried the event: its attempts are unknown here."""
    assert failed(Dead("crashed its worker died too often with it", "", possible_duplicate=True)) == (
        "crashed its worker died too often with it, it may have been recorded; dead letter"
    )


def test_one_line() -> None:
    """Whoever wrote a message cannot write lines of a page."""
    made = report(UNAVAILABLE)
    ruled(made.grant, Again(5, "retry 503 a\nb"))
    assert sentence(made).startswith("503 a b; ")
    assert failed(Dead("malformed a\nb", "{}")) == "malformed a b; dead letter"
