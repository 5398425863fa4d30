"""Every answer of every provider and what becomes of the event: real worker, real Redis, the
sandbox over HTTP.

One account a case, so that no case sees another's pauses and failures.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

import postback
from postback import mytracker, operations, tganalytics, tgtrack, tonai, tonapi
from postback.wire.broker import connect
from tests.acceptance.evidence import dead_letters, settled, start_all_providers
from workers.devkit import Stack, until

pytestmark = pytest.mark.slow

SESSION = "10c574d9-6d2c-4e6d-a141-ce6da141ce6d"
TRACE = "1f" * 32
MAX_ATTEMPTS = 3

EVENTS: dict[str, Callable[[str], postback.Event]] = {
    "tgtrack": lambda account: tgtrack.AddEvent(user_id="42", event_type="sale", account=account),
    "mytracker": lambda account: mytracker.Login(custom_user_id="42", account=account),
    "tganalytics": lambda account: tganalytics.Event(
        user_id=42, event_name="app-init", session_id=SESSION, account=account
    ),
    "tonai": lambda account: tonai.Conversion(telegram_user_id="42", account=account),
    "tonapi": lambda account: tonapi.GetEvent(event_id=TRACE, account=account),
}
#: HTTP status of the documented success.
SUCCESS = {"tgtrack": 200, "mytracker": 200, "tganalytics": 201, "tonai": 200, "tonapi": 200}
#: The credential that tells a case's account from others in the sandbox.
CREDENTIAL = {"tgtrack": "api_key", "mytracker": "token", "tganalytics": "token", "tonai": "api_key", "tonapi": "token"}


@dataclass(frozen=True)
class Case:
    """What the provider answers and what must happen."""

    provider: str
    #: Kind of the sandbox's fault.
    answer: str
    #: ``rejected``: dead at once. ``retried``: again, an attempt used. ``ambiguous``: so too, and
    #: flagged. ``waited``: again, no attempt used. ``paused``: the account waits for a person.
    #: ``polled``: the event waits, no attempt used. ``exhausted``: dead after all attempts.
    fate: str
    more: dict[str, Any] = field(default_factory=dict)
    #: TGTrack's and TON AI's errors may travel inside HTTP 200.
    style: str = "http"
    #: Status in the dead letter or the pause's detail, where it is not the HTTP status.
    status: int | None = None
    words: str = ""
    name: str = ""

    @property
    def account(self) -> str:
        return f"{self.fate}-{self.name or self.answer}-{self.style}".replace(" ", "_")

    @property
    def queue(self) -> str:
        return f"{self.provider}.{self.account}"

    @property
    def key(self) -> str:
        return f"key-{self.account}"


def answered(provider: str, fate: str, status: int, body: Any, name: str, **more: Any) -> Case:
    """A case with a body of its own."""
    raw = body if isinstance(body, bytes) else json.dumps(body, ensure_ascii=False).encode()
    return Case(provider, "status", fate, {"status": status, "body": raw}, status=status, name=name, **more)


def of_codes(provider: str, fates: dict[str, str], style: str = "http") -> list[Case]:
    """A case for each code as the provider words it."""
    return [
        Case(provider, code, fate, style=style, status=int(code))
        for fate, codes in fates.items()
        for code in codes.split()
    ]


def of_network(provider: str, html_502: str = "retried") -> list[Case]:
    """What can happen to anybody's request."""
    return [
        Case(provider, "reset_before", "ambiguous", {}),
        Case(provider, "reset_after", "ambiguous"),
        Case(provider, "close_after", "ambiguous"),
        Case(provider, "timeout_after", "ambiguous"),
        Case(provider, "slow_drip", "ambiguous", {"seconds": 60}),
        Case(provider, "truncated", "ambiguous"),
        Case(provider, "garbage", "ambiguous"),
        Case(provider, "empty", "ambiguous"),
        Case(provider, "redirect", "ambiguous"),
        Case(provider, "203", "ambiguous"),
        Case(provider, "html_502", html_502),
    ]


TGTRACK_CODES = {
    "rejected": "400 404 405 409 415 422",
    "paused": "401 402 403",
    "waited": "429",
    "retried": "500 503",
    "ambiguous": "418",
}
CASES = [
    *of_codes("tgtrack", TGTRACK_CODES),
    *of_codes("tgtrack", TGTRACK_CODES, style="body"),
    *of_network("tgtrack", html_502="ambiguous"),
    answered("tgtrack", "ambiguous", 200, {"status": "ok?"}, "unknown envelope"),
    *of_codes("mytracker", {"rejected": "400 404", "paused": "401 403", "waited": "429", "retried": "500 502 503"}),
    answered("mytracker", "rejected", 400, {"error": "Bad json"}, "bad json", words="Bad json"),
    answered("mytracker", "rejected", 400, {"error": "Bad api version"}, "bad api version", words="Bad api version"),
    answered("mytracker", "rejected", 400, {"error": "Empty post data"}, "empty post data", words="Empty post data"),
    answered("mytracker", "ambiguous", 200, {"error": "Bad Request"}, "error in 200"),
    *of_network("mytracker"),
    *of_codes("tganalytics", {"rejected": "400 404", "paused": "403", "waited": "429", "retried": "500"}),
    Case("tganalytics", "failed_to_record", "retried"),
    answered("tganalytics", "paused", 400, {"message": "Token is invalid."}, "invalid token", words="Token is invalid"),
    answered(
        "tganalytics",
        "paused",
        400,
        {"message": "The token is not specified in the headers or is specified incorrectly."},
        "missing token",
    ),
    answered(
        "tganalytics", "rejected", 400, {"message": "Invalid app_name is specified."}, "app name", words="app_name"
    ),
    answered("tganalytics", "ambiguous", 200, {"message": "Success record."}, "200 is no 201"),
    *of_network("tganalytics"),
    *of_codes(
        "tonai",
        {"rejected": "400 402 404", "paused": "401 403", "waited": "429", "retried": "500 503"},
    ),
    answered("tonai", "ambiguous", 200, {"status": "error", "message": "no"}, "error in 200"),
    answered("tonai", "ambiguous", 201, {"status": "success"}, "201 is no 200"),
    *of_network("tonai"),
    *of_codes(
        "tonapi", {"rejected": "400 413", "paused": "401 403", "polled": "404", "waited": "429", "retried": "500 503"}
    ),
    answered("tonapi", "rejected", 404, {"error": "more than one transaction"}, "not one", words="more than one"),
    answered("tonapi", "polled", 404, {"Error": "Entity not found"}, "not indexed yet"),
    answered("tonapi", "polled", 200, {"event_id": TRACE, "in_progress": True}, "in progress"),
    answered("tonapi", "ambiguous", 200, {"event_id": TRACE}, "no event"),
    *of_network("tonapi"),
    *[Case(provider, "500", "exhausted", status=500) for provider in EVENTS],
    *[Case(provider, "reset_before", "exhausted") for provider in EVENTS],
    Case("tganalytics", "203", "exhausted", status=203),
]


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """One worker for all providers and accounts."""
    with Stack(limits=dict.fromkeys(EVENTS)) as stack:
        for case in [*CASES, *(Case(provider, "ok", "success") for provider in EVENTS)]:
            stack.account(
                case.queue,
                **{CREDENTIAL[case.provider]: case.key},
                limits="1000/second",
                max_attempts=MAX_ATTEMPTS,
                backoff_s=0.02,
                outage_after=100,
                linger_s=0.02,
                poll_s=0.02,
                timeout_s=1,
                lease_s=6.5,
            )
        stack.configure_producer()
        start_all_providers(stack)
        yield stack


@pytest.mark.parametrize("provider", EVENTS)
def test_success(stack: Stack, provider: str) -> None:
    """The documented success: one request, delivered, nothing left, nothing dead."""
    case = Case(provider, "ok", "success")
    result = EVENTS[provider](case.account).delay()
    stack.sandbox.wait_for(lambda s: s.ledger(provider, key=case.key), timeout_s=20)
    settled(stack, case.queue)
    if provider == "tonapi":
        assert result.get(timeout=10)["in_progress"] is False
    (record,) = stack.sandbox.ledger(provider, key=case.key)
    assert (record.status, record.count, record.recorded) == (SUCCESS[provider], 1, provider != "tonapi")
    assert dead_letters(stack, case.queue) == []


@pytest.mark.parametrize("case", CASES, ids=[f"{case.queue}" for case in CASES])
def test_answer(stack: Stack, case: Case) -> None:
    """What the event and its account do after this answer."""
    if case.style == "body":
        stack.sandbox.set_errors(case.provider, "body", key=case.key)
    count: int | None = {"retried": 1, "ambiguous": 1, "waited": MAX_ATTEMPTS + 1, "polled": MAX_ATTEMPTS + 1}.get(
        case.fate
    )
    more = {"retry_after": "0.05"} if case.fate == "waited" else {}
    fault = stack.sandbox.fault(
        case.answer, provider=case.provider, key=case.key, count=count, recorded=False, **{**case.more, **more}
    )
    sent = EVENTS[case.provider](case.account).delay()
    {"rejected": _is_dead, "exhausted": _is_exhausted, "paused": _is_paused}.get(case.fate, _gets_through)(
        stack, case, fault, sent.id
    )
    assert not stack.sandbox.ledger("none"), "a redirect was followed"


def _gets_through(stack: Stack, case: Case, fault: Any, task_id: str) -> None:
    """Sent again after ``count`` such answers, though there are fewer attempts than that where
    waiting uses up none.
    """
    times = fault.count
    ledger = lambda: stack.sandbox.ledger(case.provider, key=case.key)  # noqa: E731
    stack.sandbox.wait_for(lambda s: len(ledger()) > times, timeout_s=20)
    settled(stack, case.queue)
    records = ledger()
    assert [bool(record.fault) for record in records] == [True] * times + [False]
    assert len({record.body for record in records}) == 1
    assert records[-1].status == SUCCESS[case.provider]
    assert sum(record.recorded for record in records) == (case.provider != "tonapi")
    assert dead_letters(stack, case.queue) == []
    lines = until(
        lambda: [x for x in stack.logs().splitlines() if f"{task_id} {case.queue}" in x and " delivered " in x], 10
    )
    assert len(lines) == 1
    assert ("possible_duplicate" in lines[0]) is (case.fate == "ambiguous")
    if case.answer in ("slow_drip", "timeout_after"):
        assert 0.9 <= records[1].mono - records[0].mono <= 8, "the total time limit of 1 s ends it"


def _is_dead(stack: Stack, case: Case, fault: Any, task_id: str) -> None:
    (letter,) = dead_letters(stack, case.queue, 1)
    settled(stack, case.queue)
    (record,) = stack.sandbox.ledger(case.provider, key=case.key)
    assert record.status == (200 if case.style == "body" else case.status)
    assert (letter.id, letter.reason, letter.status, letter.attempts) == (task_id, "rejected", case.status, 1)
    assert letter.possible_duplicate is False
    assert letter.detail
    assert case.words in letter.detail


def _is_exhausted(stack: Stack, case: Case, fault: Any, task_id: str) -> None:
    (letter,) = dead_letters(stack, case.queue, 1)
    settled(stack, case.queue)
    assert len(stack.sandbox.ledger(case.provider, key=case.key)) == MAX_ATTEMPTS
    assert (letter.id, letter.reason, letter.status) == (task_id, "exhausted", case.status)
    assert letter.attempts == MAX_ATTEMPTS
    assert letter.possible_duplicate is (case.answer != "500")


def _is_paused(stack: Stack, case: Case, fault: Any, task_id: str) -> None:
    client = connect(stack.redis.url)
    status = lambda: operations.snapshot(client, [case.provider]).of(case.queue)  # noqa: E731
    account = until(lambda: (found := status()) and found.paused and found, 20, "the pause")
    assert (account.paused.reason, account.paused.until_ms) == ("credentials", None)
    assert str(case.status) in account.paused.detail
    assert (account.queued, account.in_flight, account.dead) == (1, 0, 0)
    assert len(stack.sandbox.ledger(case.provider, key=case.key)) == 1
    stack.sandbox.clear_faults(fault)
    operations.resume(client, case.queue)
    stack.sandbox.wait_for(lambda s: len(s.ledger(case.provider, key=case.key)) == 2, timeout_s=20)
    settled(stack, case.queue)
    assert stack.sandbox.ledger(case.provider, key=case.key)[1].status == SUCCESS[case.provider]
    assert dead_letters(stack, case.queue) == []
