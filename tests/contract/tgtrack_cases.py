"""TGTrack. Source: TGTrack service API (Russian)."""

from __future__ import annotations

from typing import Any

from postback import tgtrack
from tasks.outcomes import Outcome
from tests.contract.cases import AnswerCase, RequestCase, refusals

PROVIDER = "tgtrack"
ACCOUNT = {"api_key": "key-of-the-bot-1"}
SECRETS = ("key-of-the-bot-1",)
SECRETS_TRAVEL_IN = "url"

_JSON = {"Content-Type": "application/json"}
_UPDATE = '{"update_id": 1,\n "message": {"text": "/start  PJ1", "from": {"first_name": "Вася", "n": 1.50}}}'

REQUESTS = [
    RequestCase(
        "on_telegram_webhook byte for byte",
        lambda: [tgtrack.OnTelegramWebhook.load(_UPDATE.encode())],
        "/v1/key-of-the-bot-1/on_telegram_webhook",
        _JSON,
        _UPDATE.encode(),
    ),
    RequestCase(
        "on_telegram_webhook from an object",
        lambda: [tgtrack.OnTelegramWebhook.load({"update_id": 1, "message": {"text": "/start"}})],
        "/v1/key-of-the-bot-1/on_telegram_webhook",
        _JSON,
        b'{"update_id":1,"message":{"text":"/start"}}',
    ),
    RequestCase(
        "my_bot_was_started",
        lambda: [tgtrack.MyBotWasStarted(start_value="PJaf5568712cd")],
        "/v1/key-of-the-bot-1/my_bot_was_started",
        _JSON,
        {"start_value": "PJaf5568712cd"},
    ),
    RequestCase(
        "my_bot_was_started without a value",
        lambda: [tgtrack.MyBotWasStarted(start_value="")],
        "/v1/key-of-the-bot-1/my_bot_was_started",
        _JSON,
        {"start_value": ""},
    ),
    RequestCase(
        "my_bot_was_stopped gets its date",
        lambda: [tgtrack.MyBotWasStopped(user_id="123456789")],
        "/v1/key-of-the-bot-1/my_bot_was_stopped",
        _JSON,
        {"user_id": "123456789", "date": 1580213208},
    ),
    RequestCase(
        "my_bothelp_was_started as it came",
        lambda: [tgtrack.MyBothelpWasStarted.load({"name": "Вася", "empty": [], "none": None, "deep": {"n": 1.5}})],
        "/v1/key-of-the-bot-1/my_bothelp_was_started",
        _JSON,
        {"name": "Вася", "empty": [], "none": None, "deep": {"n": 1.5}},
    ),
    RequestCase(
        "win_win_was_started",
        lambda: [tgtrack.WinWinWasStarted.load({"subscriber": {"id": 1}})],
        "/v1/key-of-the-bot-1/win_win_was_started",
        _JSON,
        {"subscriber": {"id": 1}},
    ),
    RequestCase(
        "sambot_on_tg_webhook as text",
        lambda: [tgtrack.SambotOnTgWebhook(webhook='{"update_id": 1}')],
        "/v1/key-of-the-bot-1/sambot_on_tg_webhook",
        _JSON,
        {"webhook": '{"update_id": 1}'},
    ),
    RequestCase(
        "sambot_on_tg_webhook as an object",
        lambda: [tgtrack.SambotOnTgWebhook(webhook={"update_id": 1})],
        "/v1/key-of-the-bot-1/sambot_on_tg_webhook",
        _JSON,
        {"webhook": {"update_id": 1}},
    ),
    RequestCase(
        "on_toolsy_event",
        lambda: [tgtrack.OnToolsyEvent.load({"event": "payment"})],
        "/v1/key-of-the-bot-1/on_toolsy_event",
        _JSON,
        {"event": "payment"},
    ),
    RequestCase(
        "on_send_pulse_event",
        lambda: [tgtrack.OnSendPulseEvent.load({"title": "bot_started"})],
        "/v1/key-of-the-bot-1/on_send_pulse_event",
        _JSON,
        {"title": "bot_started"},
    ),
    RequestCase(
        "user_did_start_bot",
        lambda: [
            tgtrack.UserDidStartBot(
                user_id="987654321",
                first_name="John",
                last_name="Doe",
                username="johnDoe5672",
                start_value="TГTrack-PJ123456",
            )
        ],
        "/v1/key-of-the-bot-1/user_did_start_bot",
        _JSON,
        {
            "user_id": "987654321",
            "first_name": "John",
            "last_name": "Doe",
            "username": "johnDoe5672",
            "start_value": "TГTrack-PJ123456",
        },
    ),
    RequestCase(
        "send_reach_goal",
        lambda: [tgtrack.SendReachGoal(user_id="987654321", target="userDidSharePhone")],
        "/v1/key-of-the-bot-1/send_reach_goal",
        _JSON,
        {"user_id": "987654321", "target": "userDidSharePhone"},
    ),
    RequestCase(
        "add_event",
        lambda: [
            tgtrack.AddEvent(
                user_id="987654321",
                event_type="sale",
                date=1622520000,
                amount=1500.00,
                conversion_target="lead",
                labels=[{"name": "manager", "value": "Jane Doe"}, {"name": "product", "value": "Smartphone"}],
            )
        ],
        "/v1/key-of-the-bot-1/add_event",
        _JSON,
        {
            "user_id": "987654321",
            "event_type": "sale",
            "date": 1622520000,
            "amount": 1500.00,
            "conversion_target": "lead",
            "labels": [{"name": "manager", "value": "Jane Doe"}, {"name": "product", "value": "Smartphone"}],
        },
    ),
    RequestCase(
        "add_event keeps the date it has",
        lambda: [tgtrack.AddEvent(user_id="1", event_type="cost", date=0, amount=-5)],
        "/v1/key-of-the-bot-1/add_event",
        _JSON,
        {"user_id": "1", "event_type": "cost", "date": 0, "amount": -5},
    ),
    RequestCase(
        "get_user_info is a POST too",
        lambda: [tgtrack.GetUserInfo(user_id="123456789")],
        "/v1/key-of-the-bot-1/get_user_info",
        _JSON,
        {"user_id": "123456789"},
    ),
    RequestCase(
        "base_url with a path",
        lambda: [tgtrack.MyBotWasStarted(start_value="auto_detect")],
        "/v1/key-of-the-bot-1/my_bot_was_started",
        _JSON,
        {"start_value": "auto_detect"},
        account={"base_url": "http://127.0.0.1:8900/proxy/"},
    ),
]

#: Source: «Список ошибок».
_TEXTS = {
    400: "Bad request",
    401: "Invalid token",
    402: "Token expired",
    403: "Forbidden",
    404: "Method not found",
    405: "Resource not found",
    409: "Data conflict",
    415: "Unsupported media type",
    422: "Unprocessable entity",
    429: "Too many requests",
    500: "Internal server error",
    503: "Service unavailable",
}
_OUTCOMES = {
    **dict.fromkeys((400, 404, 405, 409, 415, 422), Outcome.REJECTED),
    **dict.fromkeys((401, 402, 403), Outcome.CREDENTIALS),
    429: Outcome.QUOTA,
    **dict.fromkeys((500, 503), Outcome.RETRY),
    418: Outcome.AMBIGUOUS,
    502: Outcome.AMBIGUOUS,
}


def _error(code: Any) -> dict[str, Any]:
    return {"status": "error", "error_code": code, "error_description": _TEXTS.get(code, "?")}


_USER = {
    "user_id": "123456789",
    "first_join_date": 1680387078,
    "last_join_date": 1680387078,
    "invite_link": "Яндекс.Директ",
    "left_date": 0,
    "first_name": "Вася",
    "last_name": "",
    "username": "vasya",
    "utm_source": "test_source",
    "utm_medium": "test_medium",
    "utm_campaign": "test_campaign",
}

SUCCESS = AnswerCase("OK", 200, {"status": "OK", "mode": "production"}, Outcome.DELIVERED, method="add_event")
SUCCESS_STATUSES = frozenset(range(200, 300))

ANSWERS = [
    SUCCESS,
    AnswerCase("OK with data", 200, {"status": "OK", "data": {"id": "1"}}, Outcome.DELIVERED, data={"id": "1"}),
    AnswerCase("OK as 201", 201, {"status": "OK"}, Outcome.DELIVERED),
    AnswerCase(
        "get_user_info OK", 200, {"status": "OK", "data": _USER}, Outcome.DELIVERED, method="get_user_info", data=_USER
    ),
    AnswerCase(
        "get_user_info OK without data", 200, {"status": "OK"}, Outcome.AMBIGUOUS, "get_user_info", most_attempts=3
    ),
    AnswerCase(
        "get_user_info OK with a list", 200, {"status": "OK", "data": []}, Outcome.AMBIGUOUS, "get_user_info",
        most_attempts=3,
    ),
    *refusals(_OUTCOMES, _error, style="as HTTP status"),
    *refusals(_OUTCOMES, _error, style="inside HTTP 200", status=200),
    *refusals(_OUTCOMES, lambda code: {"status": "error", "error_code": str(code)}, style="as text in 200", status=200),
    *refusals(_OUTCOMES, lambda code: {"status": "error"}, style="without error_code"),
    *refusals(_OUTCOMES, lambda code: {"message": "no envelope"}, style="without envelope"),
    *refusals(_OUTCOMES, lambda code: b"<html><h1>Error</h1></html>", style="as HTML"),
    AnswerCase(
        "details and description", 200,
        {"status": "error", "mode": "sandbox", "error_code": 401, "error_description": "Invalid token",
         "error_details": "Token was invalidated"},
        Outcome.CREDENTIALS, detail="Invalid token: Token was invalidated",
    ),
    AnswerCase("description that is no text", 200, {**_error(422), "error_description": [1]}, Outcome.REJECTED),
    AnswerCase("409 after an ambiguous attempt", 409, _error(409), Outcome.DELIVERED, maybe_recorded=True),
    AnswerCase("409 in 200 after an ambiguous attempt", 200, _error(409), Outcome.DELIVERED, maybe_recorded=True),
    AnswerCase("400 after an ambiguous attempt", 400, _error(400), Outcome.REJECTED, maybe_recorded=True),
    AnswerCase("body says 429, HTTP says 400", 400, _error(429), Outcome.QUOTA),
    AnswerCase("body says 422, HTTP says 500", 500, _error(422), Outcome.REJECTED),
    AnswerCase("body says OK, HTTP says 429", 429, {"status": "OK"}, Outcome.QUOTA),
    AnswerCase("body says OK, HTTP says 500", 500, {"status": "OK"}, Outcome.RETRY),
    AnswerCase("429 in 200 with Retry-After", 200, _error(429), Outcome.QUOTA, headers={"Retry-After": "7"},
               retry_after_s=7.0),
    AnswerCase("error without a code in 200", 200, {"status": "error"}, Outcome.AMBIGUOUS),
    AnswerCase("error with a huge code", 200, _error(10**400), Outcome.AMBIGUOUS),
    AnswerCase("error with a true code", 200, _error(True), Outcome.AMBIGUOUS),
    AnswerCase("error with a fraction of a code", 200, _error(429.5), Outcome.AMBIGUOUS),
    AnswerCase("error with a code in words", 200, _error("four hundred"), Outcome.AMBIGUOUS),
    AnswerCase("ok in lower case", 200, {"status": "ok"}, Outcome.AMBIGUOUS),
    AnswerCase("ОК in Cyrillic", 200, {"status": "\u041e\u041a"}, Outcome.AMBIGUOUS),
    AnswerCase("status true", 200, {"status": True}, Outcome.AMBIGUOUS),
    AnswerCase("status as a number", 200, {"status": 200}, Outcome.AMBIGUOUS),
]  # fmt: skip
