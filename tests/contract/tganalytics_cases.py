"""Telegram Analytics. Source: tganalytics.xyz, POST events."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from postback import tganalytics
from tasks.outcomes import Outcome
from tests.contract.cases import AnswerCase, RequestCase, refusals

PROVIDER = "tganalytics"
ACCOUNT = {"token": "YOUR_TOKEN", "app_name": "docs"}
SECRETS = ("YOUR_TOKEN",)
SECRETS_TRAVEL_IN = "headers"

_HEADERS = {"TGA-Auth-Token": "YOUR_TOKEN", "Content-Type": "application/json"}
_SESSION = "10c574d9-6d2c-4e6d-a141-ce6da141ce6d"
_SDK = {"ton_connect_sdk_lib": "3.0.3", "ton_connect_ui_lib": "2.0.5"}
_COMMON = {
    "session_id": _SESSION,
    "user_id": 111111111,
    "app_name": "docs",
    "is_premium": True,
    "platform": "tdesktop",
    "locale": "en",
}
_INIT: dict[str, Any] = {"event_name": "app-init", **_COMMON, "client_timestamp": "1743503599534"}
_STARTED: dict[str, Any] = {
    "event_name": "connection-started", "custom_data": _SDK, **_COMMON, "client_timestamp": "1743503647541",
}  # fmt: skip
_FAILED: dict[str, Any] = {
    "event_name": "connection-error", "is_success": False, "error_message": "Connection was cancelled",
    "error_code": None, "custom_data": _SDK, **_COMMON, "client_timestamp": "1743503683701",
}  # fmt: skip


def _loaded(*wires: dict[str, Any]) -> Callable[[], list[tganalytics.Event]]:
    return lambda: [tganalytics.Event.load(wire) for wire in wires]


def _without(wire: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in wire.items() if name not in names}


REQUESTS = [
    RequestCase("app-init, one event is an object", _loaded(_INIT), "/events", _HEADERS, _INIT),
    RequestCase("connection-started", _loaded(_STARTED), "/events", _HEADERS, _STARTED),
    RequestCase("connection-error keeps its null", _loaded(_FAILED), "/events", _HEADERS, _FAILED),
    RequestCase("several are an array", _loaded(_INIT, _STARTED, _FAILED), "/events", _HEADERS,
                [_INIT, _STARTED, _FAILED]),
    RequestCase("app_name is the account's", _loaded(_without(_INIT, "app_name")), "/events", _HEADERS, _INIT),
    RequestCase("app_name is the account's in an array", _loaded(_INIT, _without(_STARTED, "app_name")), "/events",
                _HEADERS, [_INIT, _STARTED]),
    RequestCase("app_name that needs escaping", _loaded(_without(_INIT, "app_name")), "/events", _HEADERS,
                {**_INIT, "app_name": 'игра "7"'}, account={"app_name": 'игра "7"'}),
    RequestCase("app_name that was given is left alone", _loaded({**_INIT, "app_name": "other"}), "/events", _HEADERS,
                {**_INIT, "app_name": "other"}),
    RequestCase("client_timestamp is in milliseconds", _loaded(_without(_INIT, "client_timestamp")), "/events",
                _HEADERS, {**_INIT, "client_timestamp": "1580213208500"}),
    RequestCase("base_url as the document writes it", _loaded(_INIT), "/events", _HEADERS, _INIT,
                account={"base_url": "https://tganalytics.xyz/events"}),
]  # fmt: skip


def _message(text: Any) -> dict[str, Any]:
    return {"message": text}


SUCCESS = AnswerCase("Success record.", 201, _message("Success record."), Outcome.DELIVERED, method="event")
SUCCESS_STATUSES = frozenset({201})

_MISSING = "The token is not specified in the headers or is specified incorrectly."
_CODES = {
    **dict.fromkeys((401, 403), Outcome.CREDENTIALS),
    **dict.fromkeys((404, 405, 413, 415, 422), Outcome.REJECTED),
    429: Outcome.QUOTA,
    **dict.fromkeys((500, 502, 503, 504), Outcome.RETRY),
}
_UNKNOWN = dict.fromkeys((200, 202, 203, 204, 301, 302, 408), Outcome.AMBIGUOUS)

ANSWERS = [
    SUCCESS,
    AnswerCase("201 in other words", 201, _message("OK"), Outcome.DELIVERED),
    AnswerCase("201 of an array", 201, _message("Success record."), Outcome.DELIVERED, events=20),
    # The five 400s.
    AnswerCase("400 Failed to record", 400, _message("Failed to record"), Outcome.RETRY, detail="Failed to record"),
    AnswerCase("400 token missing", 400, _message(_MISSING), Outcome.CREDENTIALS, detail="token is not specified"),
    AnswerCase("400 token invalid", 400, _message("Token is invalid."), Outcome.CREDENTIALS),
    AnswerCase("400 app_name invalid", 400, _message("Invalid app_name is specified."), Outcome.REJECTED,
               detail="Invalid app_name"),
    AnswerCase("400 validation report", 400, {"status": 400, "message": "VALIDATION_MISMATCH_REPORT"}, Outcome.REJECTED,
               detail="VALIDATION_MISMATCH_REPORT"),
    # Their variations.
    AnswerCase("400 Failed to record, of an array", 400, _message("Failed to record"), Outcome.RETRY, events=20),
    AnswerCase("400 with a full stop more", 400, _message("failed to record. "), Outcome.RETRY),
    AnswerCase("400 with a full stop less", 400, _message("Token is invalid"), Outcome.CREDENTIALS),
    AnswerCase("400 report that quotes another message", 400,
               _message('custom_data: "Token is invalid." is not an object'), Outcome.REJECTED),
    AnswerCase("400 report as an array", 400, _message([{"path": "user_id"}]), Outcome.REJECTED, detail="user_id"),
    AnswerCase("400 report of an array", 400, {"status": 400, "message": "x"}, Outcome.REJECTED, events=20),
    AnswerCase("400 without a message", 400, {"status": 400}, Outcome.REJECTED),
    AnswerCase("400 as HTML", 400, b"<html>Bad Request</html>", Outcome.REJECTED),
    AnswerCase("403 domain", 403, _message("The domain name does not match."), Outcome.CREDENTIALS, detail="domain"),
    AnswerCase("429", 429, _message("Too many requests. Try again later."), Outcome.QUOTA, detail="Too many requests"),
    *refusals(_CODES, lambda code: _message(f"code {code}"), style="as HTTP status"),
    *refusals(_CODES, lambda code: b"<html>no JSON</html>", style="as HTML"),
    *refusals(_CODES, lambda code: _message("Success record."), style="that says success"),
    *refusals(_UNKNOWN, lambda code: _message("Success record."), style="unknown", most_attempts=3),
    *refusals(_UNKNOWN, lambda code: b"<html>Just a moment...</html>", style="challenge", most_attempts=3),
    AnswerCase("201 that says Failed to record", 201, _message("Failed to record"), Outcome.AMBIGUOUS, most_attempts=3),
    AnswerCase("201 that says the token is invalid", 201, _message("Token is invalid."), Outcome.AMBIGUOUS,
               most_attempts=3),
    AnswerCase("201 without a message", 201, {}, Outcome.AMBIGUOUS, most_attempts=3),
    AnswerCase("201 with a message that is no text", 201, _message(None), Outcome.AMBIGUOUS, most_attempts=3),
    AnswerCase("201 with an array", 201, [_message("Success record.")], Outcome.AMBIGUOUS, most_attempts=3),
    AnswerCase("201 with JSON in JSON", 201, json.dumps(_message("Success record.")), Outcome.AMBIGUOUS,
               most_attempts=3),
]  # fmt: skip
