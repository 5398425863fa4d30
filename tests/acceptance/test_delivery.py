"""The main job, end to end: real Redis, real worker processes, the sandbox over HTTP."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

import postback
from postback import tgtrack
from postback.wire import keys
from tests.acceptance.evidence import values_in
from workers.devkit import SECRETS, Stack, until

KEY = str(SECRETS["tgtrack"]["api_key"])
UPDATE = b'{"update_id": 10, "message": {"text": "/start  \\u0041 \xd0\xb6", "from":{"id": 5}}}'


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """One worker of one TGTrack account without limits, shared by the tests of this module."""
    with Stack(limits={"tgtrack": None}) as stack:
        stack.account("tgtrack.main", limits="1000/second", backoff_s=0.05, max_attempts=3, outage_after=100)
        stack.configure_producer()
        stack.start_workers("tgtrack")
        yield stack


@pytest.fixture
def fresh(stack: Stack) -> Stack:
    """The same stack with an empty ledger, no faults and no dead letters."""
    stack.sandbox.clear_faults()
    stack.sandbox.clear_refusals()
    stack.sandbox.set_errors("tgtrack", "http")
    stack.sandbox.reset()
    stack.client().delete(keys.dead("tgtrack"))
    return stack


def letters(stack: Stack, count: int, provider: str = "tgtrack") -> list[dict[str, Any]]:
    """The dead letters' own words, the oldest first, once there are ``count``."""
    client = stack.client()
    until(lambda: client.llen(keys.dead(provider)) >= count, 15, f"{count} dead letters")
    raws = reversed(client.lrange(keys.dead(provider), 0, -1))
    return [json.loads(raw)["headers"]["postback_dead"] for raw in raws]


TWELVE: list[tuple[postback.Event, str, Any]] = [
    (tgtrack.OnTelegramWebhook.load(UPDATE), "on_telegram_webhook", UPDATE),
    (tgtrack.MyBotWasStarted(start_value=""), "my_bot_was_started", {"start_value": ""}),
    (
        tgtrack.MyBotWasStopped(user_id="123456789", date=1622520000),
        "my_bot_was_stopped",
        {"user_id": "123456789", "date": 1622520000},
    ),
    (tgtrack.MyBothelpWasStarted.load({"id": 1, "x": []}), "my_bothelp_was_started", {"id": 1, "x": []}),
    (tgtrack.WinWinWasStarted.load({"a": {"b": None}}), "win_win_was_started", {"a": {"b": None}}),
    (tgtrack.SambotOnTgWebhook(webhook='{"update_id": 1}'), "sambot_on_tg_webhook", {"webhook": '{"update_id": 1}'}),
    (tgtrack.OnToolsyEvent.load({"type": "payment"}), "on_toolsy_event", {"type": "payment"}),
    (tgtrack.OnSendPulseEvent.load({"service": "telegram"}), "on_send_pulse_event", {"service": "telegram"}),
    (
        tgtrack.UserDidStartBot(user_id="1", first_name="Вася", username="vasya"),
        "user_did_start_bot",
        {"user_id": "1", "first_name": "Вася", "username": "vasya"},
    ),
    (tgtrack.SendReachGoal(user_id="1", target="phone"), "send_reach_goal", {"user_id": "1", "target": "phone"}),
    (
        tgtrack.AddEvent(
            user_id="9", event_type="sale", amount=1500.0, date=1, labels=[{"name": "manager", "value": "Jane"}]
        ),
        "add_event",
        {
            "user_id": "9",
            "event_type": "sale",
            "date": 1,
            "amount": 1500.0,
            "labels": [{"name": "manager", "value": "Jane"}],
        },
    ),
    (tgtrack.GetUserInfo(user_id="123456789"), "get_user_info", {"user_id": "123456789"}),
]


def test_all_twelve_methods_arrive_with_exactly_the_body_given(fresh: Stack) -> None:
    """Every TGTrack method arrives once, its body equal to what was given; a forwarded update byte
    for byte.
    """
    for event, _, _ in TWELVE:
        event.delay()
    fresh.sandbox.wait_for(lambda s: len(s.ledger("tgtrack")) >= 12, timeout_s=20)
    bodies = {record.method: record.body for record in fresh.sandbox.ledger("tgtrack")}
    assert Counter(record.method for record in fresh.sandbox.ledger("tgtrack")) == Counter(
        method for _, method, _ in TWELVE
    )
    for _, method, body in TWELVE:
        sent = bodies[method]
        assert sent is not None
        assert (sent == body) if isinstance(body, bytes) else (json.loads(sent) == body), method


def test_get_user_info_hands_its_data_back(fresh: Stack) -> None:
    """A look-up's data is the task's result, a plain dict."""
    fresh.sandbox.set_user("42", first_name="Вася")
    info = tgtrack.GetUserInfo(user_id="42").delay().get(timeout=10)
    assert info["user_id"] == "42"
    assert info["first_name"] == "Вася"


@pytest.mark.parametrize("style", ["http", "body"])
def test_a_refused_event_is_a_dead_letter_with_the_providers_words(fresh: Stack, style: Any) -> None:
    """Both error styles: refused for good, dead at once, one request, and the next event goes
    on.
    """
    fresh.sandbox.set_errors("tgtrack", style)
    fresh.sandbox.refuse("tgtrack", "user_id", "13", code=422)
    tgtrack.AddEvent(user_id="13", event_type="sale").delay()
    tgtrack.AddEvent(user_id="14", event_type="sale").delay()
    (letter,) = letters(fresh, 1)
    fresh.sandbox.wait_for(lambda s: s.stats()["recorded"] == 1, timeout_s=10)
    assert (letter["reason"], letter["status"], letter["attempts"]) == ("rejected", 422, 1)
    assert len(fresh.sandbox.ledger("tgtrack")) == 2


def test_an_event_that_keeps_failing_is_exhausted(fresh: Stack) -> None:
    """500 three times with max_attempts = 3: three requests, then a dead letter `exhausted`."""
    fresh.sandbox.fault("500", provider="tgtrack")
    tgtrack.AddEvent(user_id="1", event_type="sale").delay()
    (letter,) = letters(fresh, 1)
    assert (letter["reason"], letter["status"], letter["attempts"]) == ("exhausted", 500, 3)
    assert len(fresh.sandbox.ledger("tgtrack")) == 3


def test_a_failing_event_recovers(fresh: Stack) -> None:
    """503 twice, then fine: delivered once, nothing dead."""
    fresh.sandbox.fault("503", provider="tgtrack", count=2)
    tgtrack.AddEvent(user_id="1", event_type="sale").delay()
    fresh.sandbox.wait_for(lambda s: s.stats()["recorded"] == 1, timeout_s=15)
    assert [record.status for record in fresh.sandbox.ledger("tgtrack")] == [503, 503, 200]
    assert fresh.client().llen(keys.dead("tgtrack")) == 0


BAD_MESSAGES = [
    ("not JSON", b"\xff\x00 this is no message", "malformed"),
    ("JSON, but no message", b"[1, 2, 3]", "malformed"),
    ("no task", {"headers": {}}, "malformed"),
    ("an unknown task", {"headers": {"task": "tgtrack.nonsense"}}, "malformed"),
    ("another provider's task", {"headers": {"task": "mytracker.login"}}, "malformed"),
    ("no event", {"kwargs": {"account": "main"}}, "malformed"),
    ("an unexpected argument", {"kwargs": {"account": "main", "event": {}, "extra": 1}}, "malformed"),
    ("a wrong event", {"kwargs": {"account": "main", "event": {"user_id": 5.5, "event_type": "sale"}}}, "invalid"),
    (
        "another account",
        {"kwargs": {"account": "shop", "event": {"user_id": "5", "event_type": "sale"}}},
        "unknown_account",
    ),
]


def raw_message(change: dict[str, Any]) -> bytes:
    """A Celery message as a raw client would push it, with something wrong."""
    headers = {
        "lang": "py",
        "task": "tgtrack.add_event",
        "id": "raw-1",
        "root_id": "raw-1",
        "argsrepr": "()",
        "kwargsrepr": "{}",
    }
    kwargs = change.get("kwargs", {"account": "main", "event": {"user_id": "5", "event_type": "sale"}})
    body = json.dumps([[], kwargs, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}])
    return json.dumps(
        {
            "body": body,
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": change["headers"] if change.get("headers") == {} else {**headers, **change.get("headers", {})},
            "properties": {"delivery_tag": "x", "priority": 0, "delivery_info": {}},
        }
    ).encode()


@pytest.mark.parametrize(("bad", "reason"), [case[1:] for case in BAD_MESSAGES], ids=[case[0] for case in BAD_MESSAGES])
def test_a_bad_message_is_a_dead_letter_without_a_request(fresh: Stack, bad: Any, reason: str) -> None:
    """It costs no request, and the event behind it is delivered."""
    fresh.client().lpush("tgtrack.main", bad if isinstance(bad, bytes) else raw_message(bad))
    tgtrack.AddEvent(user_id="7", event_type="sale").delay()
    (letter,) = letters(fresh, 1)
    fresh.sandbox.wait_for(lambda s: s.stats()["recorded"] == 1, timeout_s=10)
    assert letter["reason"] == reason
    until(lambda: fresh.waiting("tgtrack.main") == 0, 10, "all settled")
    assert len(fresh.sandbox.ledger("tgtrack")) == 1


def test_the_key_is_nowhere(fresh: Stack) -> None:
    """After deliveries, refusals, failures and lost connections: no key in any log line or anything
    in Redis.
    """
    fresh.sandbox.fault("reset_after", provider="tgtrack", count=1, contains='"12"')
    fresh.sandbox.fault("status", provider="tgtrack", status=400, body=json.dumps({"echo": KEY}), contains='"14"')
    fresh.sandbox.refuse("tgtrack", "user_id", "13", code=422)
    for user in ("12", "13", "14", "15"):
        tgtrack.AddEvent(user_id=user, event_type="sale").delay()
    letters(fresh, 2)
    until(lambda: fresh.waiting("tgtrack.main") == 0, 15)
    assert KEY not in values_in(fresh)
    assert KEY not in fresh.logs()
    assert "Traceback" not in fresh.logs()


def test_the_account_is_announced(fresh: Stack) -> None:
    """Workers announce their accounts, with limits and without credentials; an unknown one is
    refused at the producer.
    """
    announced = json.loads(fresh.client().hget(keys.ACCOUNTS, "tgtrack.main"))
    assert announced["windows"] == [[1000, 1.0, "1000/second"]]
    with pytest.raises(postback.UnknownAccount, match="main"):
        tgtrack.AddEvent(user_id="1", event_type="sale", account="shop").delay()
