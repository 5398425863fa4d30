"""One suite over all providers: documented examples become exactly these requests, answers fall
into exactly these classes.
"""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config.providers import PROVIDERS as KNOWN
from postback._events.payload import compact
from postback._send.event import EVENTS
from postback.errors import InvalidEvent
from tasks.outcomes import Outcome, Verdict
from tasks.provider import Provider
from tasks.providers import PROVIDERS
from tasks.request import Answer, HttpRequest
from tests.contract.cases import NOW_S, AnswerCase, Cases, RequestCase, account_of, all_cases, asked_of

ALL = all_cases()
#: An answer means the same whatever it says of its own type; providers and the gateways before them
#: are careless with it.
CONTENT_TYPES = ("application/json", "application/json; charset=utf-8", "text/html; charset=utf-8", "text/plain", "")

each_provider = pytest.mark.parametrize("cases", ALL, ids=[cases.PROVIDER for cases in ALL])
each_request = pytest.mark.parametrize(
    ("cases", "case"),
    [pytest.param(cases, case, id=f"{cases.PROVIDER}: {case.id}") for cases in ALL for case in cases.REQUESTS],
)
each_answer = pytest.mark.parametrize(
    ("cases", "case"),
    [pytest.param(cases, case, id=f"{cases.PROVIDER}: {case.id}") for cases in ALL for case in cases.ANSWERS],
)

HUGE = "x" * 5_000_000

#: Bodies that are no provider's.
GARBAGE = {
    "empty": b"",
    "spaces": b" \r\n ",
    "HTML": b"<html><head><title>200 OK</title></head><body>success Success record. OK</body></html>",
    "a JSON list": b'[{"status": "OK", "message": "OK"}]',
    "an empty list": b"[]",
    "an empty object": b"{}",
    "null": b"null",
    "true": b"true",
    "a number": b"200",
    "a huge number": b"9" * 5000,
    "a huge number in an object": b'{"status": ' + b"9" * 5000 + b"}",
    "NaN": b'{"status": NaN}',
    "deep lists": b"[" * 100_000,
    "no UTF-8": b'{"status": "\xff\xfe"}',
    "NUL": b"\x00" * 20,
    "a lone surrogate": b'{"status": "\\ud800", "message": null, "error": "\\udfff"}',
    "an unknown object": b'{"ok": true, "result": "success"}',
}

#: The names and words that the providers look at, in every wrong place, and plain noise.
_NAMES = ("status", "error", "Error", "message", "error_code", "error_description", "in_progress", "event_id", "data")
_VALUES: st.SearchStrategy[object] = st.one_of(
    st.sampled_from([None, True, False, "OK", "error", "success", "Failed to record", 0, 429, 10**50, 1.5, [], {}]),
    st.text(max_size=9),
)
BODIES = st.one_of(
    st.binary(max_size=40),
    st.dictionaries(st.sampled_from(_NAMES), _VALUES, max_size=5).map(lambda value: json.dumps(value).encode()),
)


def provider_of(cases: Cases) -> Provider:
    return PROVIDERS[cases.PROVIDER]


def request_of(cases: Cases, case: RequestCase) -> HttpRequest:
    account, provider = account_of(cases, case.account), provider_of(cases)
    events = [event.with_time(NOW_S) for event in case.events()]
    return provider.request(account, events[0].method, [provider.encode(account, event) for event in events])


def classify(cases: Cases, case: AnswerCase, content_type: str = "application/json") -> Verdict:
    return provider_of(cases).classify(case.answer(content_type), asked_of(cases, case))


class TestCoverage:
    def test_every_provider_has_cases(self) -> None:
        """No provider is without cases, and each has a delivery module and a policy."""
        assert {cases.PROVIDER for cases in ALL} == set(PROVIDERS) == set(KNOWN)

    def test_every_event_has_a_request(self) -> None:
        """Each event class of each provider stands in at least one request case."""
        seen = {event.task_name for cases in ALL for case in cases.REQUESTS for event in case.events()}
        assert seen == set(EVENTS)

    @each_provider
    def test_ids_are_unique(self, cases: Cases) -> None:
        """A failing row can be told by its id."""
        for rows in (cases.REQUESTS, cases.ANSWERS):
            ids = [case.id for case in rows]
            assert len(ids) == len(set(ids))

    @each_provider
    def test_failures_outnumber_successes(self, cases: Cases) -> None:
        """Most of what a provider can answer is no success."""
        delivered = [case for case in cases.ANSWERS if case.outcome is Outcome.DELIVERED]
        assert 0 < len(delivered) < len(cases.ANSWERS) / 2


class TestEvents:
    @each_request
    @pytest.mark.filterwarnings("ignore::postback.UnknownEventName")
    def test_every_field_has_a_bound(self, cases: Cases, case: RequestCase) -> None:
        """No field of an event takes a text of 5 MB, and the refusal does not hold the text."""
        event = case.events()[0]
        values = {name: getattr(event, name) for name in type(event)._fields}
        for name in values:
            with pytest.raises(InvalidEvent) as caught:
                type(event)(**{**values, name: HUGE})
            assert "xxxxx" not in str(caught.value)


class TestRequests:
    @each_request
    def test_method_and_address(self, cases: Cases, case: RequestCase) -> None:
        """The request goes to the documented address of the account's environment."""
        request = request_of(cases, case)
        base_url = account_of(cases, case.account).base_url
        assert (request.method, request.url) == (case.http_method, base_url + case.path)

    @each_request
    def test_headers(self, cases: Cases, case: RequestCase) -> None:
        """These headers and no other, the credential where the document has it."""
        assert dict(request_of(cases, case).headers) == dict(case.headers)

    @each_request
    def test_body(self, cases: Cases, case: RequestCase) -> None:
        """The body is the documented one, as compact UTF-8 JSON."""
        body = request_of(cases, case).body
        if case.body is None or isinstance(case.body, bytes):
            assert body == case.body
        else:
            assert body is not None
            assert json.loads(body) == case.body
            assert body == compact(json.loads(body))

    @each_request
    def test_body_is_the_same_again(self, cases: Cases, case: RequestCase) -> None:
        """A retried event's bytes are those of the first try."""
        assert request_of(cases, case) == request_of(cases, case)

    @each_request
    def test_secret_is_in_one_place(self, cases: Cases, case: RequestCase) -> None:
        """The credential travels where the provider wants it and nowhere else."""
        request = request_of(cases, case)
        places = {"url": request.url, "headers": str(dict(request.headers)), "body": str(request.body)}
        for secret in cases.SECRETS:
            assert {place for place, text in places.items() if secret in text} <= {cases.SECRETS_TRAVEL_IN}

    @each_request
    def test_repr_has_no_secret(self, cases: Cases, case: RequestCase) -> None:
        """A request in a traceback or a debugger does not show the credential."""
        text = repr(request_of(cases, case))
        assert not any(secret in text for secret in cases.SECRETS)

    @each_request
    def test_growth_was_announced(self, cases: Cases, case: RequestCase) -> None:
        """An encoded event is at most ``extra_bytes_for`` longer than its producer counted, so a
        batch keeps its cap.
        """
        account, provider = account_of(cases, case.account), provider_of(cases)
        for event in case.events():
            assert len(provider.encode(account, event.with_time(NOW_S))) <= event.size() + provider.extra_bytes_for(
                account
            )


class TestAnswers:
    @pytest.mark.parametrize("content_type", CONTENT_TYPES, ids=lambda text: text or "no type")
    @each_answer
    def test_outcome(self, cases: Cases, case: AnswerCase, content_type: str) -> None:
        """Every documented answer falls into its class, whatever content type it claims."""
        assert classify(cases, case, content_type).outcome is case.outcome

    @each_answer
    def test_particulars(self, cases: Cases, case: AnswerCase) -> None:
        """What goes with the class: the provider's words, the wait, the result, fewer attempts."""
        verdict = classify(cases, case)
        assert case.detail in verdict.detail
        assert verdict.retry_after_s == case.retry_after_s
        assert verdict.most_attempts == case.most_attempts
        if case.outcome is Outcome.DELIVERED:
            assert verdict.data == case.data
        else:
            assert verdict.data is None

    @each_answer
    def test_a_byte_order_mark_changes_nothing(self, cases: Cases, case: AnswerCase) -> None:
        """A BOM before the JSON is not part of it."""
        marked = AnswerCase(**{**vars(case), "body": b"\xef\xbb\xbf" + case.raw})
        assert classify(cases, marked).outcome is case.outcome

    @each_provider
    @pytest.mark.parametrize("body", GARBAGE.values(), ids=GARBAGE.keys())
    @pytest.mark.parametrize("status", [200, 201, 202, 203, 204, 206, 226, 301, 302, 304, 307, 408, 999])
    def test_garbage_is_ambiguous(self, cases: Cases, status: int, body: bytes) -> None:
        """Nobody knows what garbage means, least of all that the event was recorded."""
        verdict = provider_of(cases).classify(Answer(status, {}, body), asked_of(cases, cases.SUCCESS))
        assert verdict.outcome is Outcome.AMBIGUOUS

    @each_provider
    def test_half_a_success_is_none(self, cases: Cases) -> None:
        """A success cut off anywhere is not understood."""
        for length in range(len(cases.SUCCESS.raw)):
            cut = AnswerCase(**{**vars(cases.SUCCESS), "body": cases.SUCCESS.raw[:length]})
            assert classify(cases, cut).outcome is Outcome.AMBIGUOUS

    @each_provider
    def test_success_in_a_list_is_none(self, cases: Cases) -> None:
        """The body of a success inside a list is not a success."""
        listed = AnswerCase(**{**vars(cases.SUCCESS), "body": b"[" + cases.SUCCESS.raw + b"]"})
        assert classify(cases, listed).outcome is Outcome.AMBIGUOUS

    @each_provider
    def test_success_needs_its_status(self, cases: Cases) -> None:
        """The body of a success under any other status is not a success."""
        wrong = [status for status in range(200, 600) if status not in cases.SUCCESS_STATUSES]
        for status in wrong:
            moved = AnswerCase(**{**vars(cases.SUCCESS), "status": status})
            assert classify(cases, moved).outcome is not Outcome.DELIVERED

    @each_provider
    @pytest.mark.parametrize(
        ("value", "seconds"),
        [
            ("7", 7.0),
            ("1.5", 1.5),
            (" 30 ", 30.0),
            ("999999999999", 604_800.0),
            ("0", None),
            ("-1", None),
            ("", None),
            ("soon", None),
            ("²", None),
            ("1e9", None),
            ("nan", None),
            ("9" * 400, None),
            ("Wed, 21 Oct 2026 07:28:00 GMT", None),
        ],
    )
    def test_retry_after(self, cases: Cases, value: str, seconds: float | None) -> None:
        """A 429 waits for the seconds it names; what is no sensible number is as if it were not
        there.
        """
        verdict = provider_of(cases).classify(Answer(429, {"retry-after": value}, b""), asked_of(cases, cases.SUCCESS))
        assert (verdict.outcome, verdict.retry_after_s) == (Outcome.QUOTA, seconds)

    @each_provider
    def test_a_bad_gateway_is_tried_again(self, cases: Cases) -> None:
        """A 502 in HTML neither kills the event nor counts as delivered."""
        page = b"<html><head><title>502 Bad Gateway</title></head><body><center>nginx</center></body></html>"
        verdict = provider_of(cases).classify(Answer(502, {}, page), asked_of(cases, cases.SUCCESS))
        assert verdict.outcome in (Outcome.RETRY, Outcome.AMBIGUOUS)

    @each_provider
    @settings(deadline=None, database=None)
    @given(status=st.integers(100, 999), body=BODIES)
    def test_any_answer_has_a_class(self, cases: Cases, status: int, body: bytes) -> None:
        """No answer raises, and none outside the documented statuses is a success."""
        verdict = provider_of(cases).classify(Answer(status, {}, body), asked_of(cases, cases.SUCCESS))
        assert verdict.outcome is not Outcome.DELIVERED or status in cases.SUCCESS_STATUSES
